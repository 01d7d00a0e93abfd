"""Where event emitters keep the messages they stream: what an application plugs in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Message:
    """A stored message; `statuses` in the order in which they were added."""

    chat_id: str
    message_id: str
    text: str
    statuses: tuple[Mapping[str, object], ...]


class MessageStore(Protocol):
    """Keeps messages; each method is atomic, and creates the message if it is not there.

    All raise `InvalidPayload` for ids, texts or statuses that cannot be stored, and `DirectoryUnavailable` if
    the store does not answer in bounded time.
    """

    async def append(self, chat_id: str, message_id: str, text: str) -> None:
        """Add `text` to the end of the message."""
        ...

    async def replace(self, chat_id: str, message_id: str, text: str) -> None:
        """Make `text` the whole message."""
        ...

    async def add_status(self, chat_id: str, message_id: str, status: Mapping[str, object]) -> None:
        """Add a status (any JSON object) to the message's list."""
        ...

    async def read(self, chat_id: str, message_id: str) -> Message | None:
        """The message, or None if nothing was ever written to it."""
        ...
