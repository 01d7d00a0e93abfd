"""What one client may cost: how much may wait for it, and how much it may send."""

from __future__ import annotations

from dataclasses import dataclass

PACKETS_PER_EVENT = 10
"""Pongs, acknowledgements and attachments come beside events: so many times more packets than events are let in."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of one connection; seconds and bytes. `RealtimeServer` takes them from the settings.

    `max_outgoing_bytes` is what may wait when one more message is sent: with that one, the most that ever waits. A
    message that alone is larger comes on top until it has been read.
    `slow_seconds` is how long something may wait while nothing at all goes out.
    """

    max_outgoing_bytes: int = 1_048_576
    slow_seconds: float = 10.0
    handshake_seconds: float = 45.0
    max_events_per_second: int = 100
    max_event_burst: int = 200
    max_rooms: int = 2000

    def events(self) -> Bucket:
        return Bucket(self.max_events_per_second, self.max_event_burst)

    def packets(self) -> Bucket:
        """For whatever comes in, events among it."""
        return Bucket(
            PACKETS_PER_EVENT * self.max_events_per_second, PACKETS_PER_EVENT * self.max_event_burst
        )


class Bucket:
    """A token bucket: `burst` at once and `rate` a second, and a memory of who does not heed a refusal."""

    __slots__ = ("_at", "_burst", "_rate", "_refused", "_tokens")

    def __init__(self, rate: float, burst: int) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = float(burst)
        self._at = float("-inf")
        self._refused = 0

    def take(self, now: float) -> bool:
        """One token, if there is one. `now`: seconds of a clock that never goes back."""
        self._tokens = min(self._burst, self._tokens + self._rate * (now - self._at))
        self._at = now
        if self._tokens >= self._burst:
            self._refused = 0
        if self._tokens >= 1:
            self._tokens -= 1
            return True
        self._refused += 1
        return False

    @property
    def ignored(self) -> bool:
        """Whether it refused more than a whole burst, and had no time in between to fill up."""
        return self._refused > self._burst
