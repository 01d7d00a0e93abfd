"""What Redis calls its two kinds of pub/sub: to all nodes of a cluster, or to the one that owns the channel's slot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Words:
    """Commands and the replies to them."""

    publish: str
    subscribe: str
    unsubscribe: str
    message: bytes
    subscribed: bytes
    unsubscribed: bytes
    together: bool
    """Whether one command may name several channels: sharded ones have to be of the same slot."""

    def commands(self, name: str, channels: Sequence[bytes]) -> list[tuple[bytes | str, ...]]:
        """What to send for these channels."""
        if self.together:
            return [(name, *channels)] if channels else []
        return [(name, channel) for channel in channels]


PLAIN = Words("PUBLISH", "SUBSCRIBE", "UNSUBSCRIBE", b"message", b"subscribe", b"unsubscribe", together=True)
SHARDED = Words(
    "SPUBLISH", "SSUBSCRIBE", "SUNSUBSCRIBE", b"smessage", b"ssubscribe", b"sunsubscribe", together=False
)
