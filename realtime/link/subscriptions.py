"""Channels of rooms: which are wanted, which one connection hears, and who waits until it does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable

from realtime.errors import StateUnavailable

from .words import PLAIN, Words

NOT_CONFIRMED = "Redis did not confirm in time that the room is heard: try again in a moment."
NOT_WANTED = "The room is not heard any more: try again."


class Subscriptions:
    """Bookkeeping only: ``take`` says what to send, ``replied`` is told what came back.

    A channel is heard when it is wanted, the last command sent for it was to subscribe, and no reply is owed for it:
    the late confirmation of an earlier subscription must not be taken for that of the last one.
    """

    def __init__(self, words: Words = PLAIN) -> None:
        self._words = words
        self._wanted: dict[bytes, None] = {}
        self._asked: set[bytes] = set()
        self._owed: dict[bytes, int] = {}
        self._to_tell: dict[bytes, None] = {}
        self._waiters: dict[bytes, asyncio.Future[None]] = {}
        self.changed = asyncio.Event()
        self.answered = asyncio.Event()
        """Set while no reply is owed."""

    def __len__(self) -> int:
        return len(self._wanted)

    def want(self, channels: Iterable[str]) -> None:
        for channel in map(str.encode, channels):
            self._wanted[channel] = None
            self._tell(channel)

    def unwant(self, channels: Iterable[str]) -> None:
        for channel in map(str.encode, channels):
            if channel in self._wanted:
                del self._wanted[channel]
                self._tell(channel)
                self._wake(channel)

    async def heard(self, channels: Collection[str], timeout: float) -> None:
        """Returns when all are heard; raises ``StateUnavailable`` after ``timeout`` seconds, or if one is not wanted
        any more."""
        missing = [channel for channel in channels if not self.is_heard(channel)]
        if not missing:
            return
        try:
            async with asyncio.timeout(timeout):
                for channel in missing:
                    while not self.is_heard(channel):
                        if channel.encode() not in self._wanted:
                            raise StateUnavailable(NOT_WANTED)
                        await self.change(channel)
        except TimeoutError:
            raise StateUnavailable(NOT_CONFIRMED) from None

    def is_wanted(self, channel: bytes) -> bool:
        return channel in self._wanted

    def is_heard(self, channel: str) -> bool:
        return self._is_heard(channel.encode())

    async def change(self, channel: str) -> None:
        """Returns when a channel that is not heard may be, or is not wanted any more."""
        await asyncio.wait([self._waiter(channel.encode())])

    # What the connection says.

    def begin(self) -> list[bytes]:
        """A new connection: all that it has to subscribe to at once."""
        self.lost()
        channels = list(self._wanted)
        self._asked.update(channels)
        self._owed.update(dict.fromkeys(channels, 1))
        self._look_whether_answered()
        return channels

    def take(self) -> list[tuple[bytes | str, ...]]:
        """The commands that make the connection hear what is wanted, taken as sent."""
        self.changed.clear()
        changed, self._to_tell = self._to_tell, {}
        new = [each for each in changed if each in self._wanted and each not in self._asked]
        old = [each for each in changed if each not in self._wanted and each in self._asked]
        self._asked.update(new)
        self._asked.difference_update(old)
        for channel in (*new, *old):
            self._owed[channel] = self._owed.get(channel, 0) + 1
        self._look_whether_answered()
        return self._words.commands(self._words.subscribe, new) + self._words.commands(
            self._words.unsubscribe, old
        )

    def replied(self, channel: bytes) -> None:
        """Redis has done one command for it."""
        owed = self._owed.get(channel, 0)
        if owed > 1:
            self._owed[channel] = owed - 1
        elif self._owed.pop(channel, 0) and self._is_heard(channel):
            self._wake(channel)
        self._look_whether_answered()

    def unsubscribed(self, channel: bytes) -> None:
        """Redis hears it for us no more: as it was asked, or on its own account. Then it is asked again, for its answer
        says why."""
        if channel in self._asked:
            self._forget(channel)
            self._tell(channel)
        else:
            self.replied(channel)

    def refused(self, concerns: Callable[[bytes], bool]) -> None:
        """Redis did not do what it was asked for these channels; who still wants them says so again, by ``want``."""
        for channel in [each for each in self._owed if concerns(each)]:
            self._forget(channel)

    def _forget(self, channel: bytes) -> None:
        self._asked.discard(channel)
        self._owed.pop(channel, None)
        self._look_whether_answered()

    def lost(self) -> None:
        """The connection is gone: nothing is heard, all that is wanted still is."""
        self._asked.clear()
        self._owed.clear()
        self._to_tell.clear()
        self.changed.clear()

    def _is_heard(self, channel: bytes) -> bool:
        return channel in self._wanted and channel in self._asked and channel not in self._owed

    def _look_whether_answered(self) -> None:
        if self._owed:
            self.answered.clear()
        else:
            self.answered.set()

    def _tell(self, channel: bytes) -> None:
        self._to_tell[channel] = None
        self.changed.set()

    def _waiter(self, channel: bytes) -> asyncio.Future[None]:
        waiter = self._waiters.get(channel)
        if waiter is None:
            waiter = self._waiters[channel] = asyncio.get_running_loop().create_future()
        return waiter

    def _wake(self, channel: bytes) -> None:
        waiter = self._waiters.pop(channel, None)
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
