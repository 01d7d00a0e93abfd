"""The heartbeat of all sessions of an instance, by one timer (Engine.IO protocol 4, "Heartbeat")."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

LOOKS = 10
"""How often it looks, within the time that a session has to answer, for those that did not."""
PINGS_PER_TURN = 100
"""Of those that came together, so many are pinged before others get their turn of the loop."""
GRAINS = 250
"""Pings are held together by waking no more often than this within an interval."""

S = TypeVar("S", bound=Hashable)


class Heartbeat(Generic[S]):
    """Pings each session an interval after it began or last answered, and names those that do not answer.

    All wait equally long, so those that joined a line first leave it first: nothing is sorted, and no session
    has a task, a timer or an object of its own.

    Answers are missed by counting looks, not by reading the clock. A look comes no sooner than a time after the
    last, and one more than needed is waited for: what arrived here in time is read in between, however long this
    process stood still. So a session is lost at the earliest after `timeout`, at the latest after `timeout` and
    two tenths of it.
    """

    def __init__(
        self,
        interval: float,
        timeout: float,
        *,
        ping: Callable[[S], object],
        lost: Callable[[S], object],
    ) -> None:
        """`interval` and `timeout` in seconds. `ping` and `lost` are called at once and must not wait."""
        self._interval = interval
        self._pause = timeout / LOOKS
        self._ping = ping
        self._lost = lost
        self._due: dict[S, float] = {}
        """When whom to ping (the loop's time)."""
        self._unheard: dict[S, int] = {}
        """Who was pinged after how many looks, and has not answered."""
        self._looks = 0
        self._next_look = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._due) + len(self._unheard)

    def begin(self, session: S) -> None:
        """Ping this session an interval from now."""
        due = asyncio.get_running_loop().time() + self._interval
        self._due[session] = due
        self._wake_by(due)

    def heard(self, session: S) -> None:
        """It answered; an answer that nobody asked for changes nothing."""
        if self._unheard.pop(session, None) is not None:
            self.begin(session)

    def forget(self, session: S) -> None:
        self._due.pop(session, None)
        self._unheard.pop(session, None)

    def stop(self) -> None:
        """Forget everybody."""
        self._due.clear()
        self._unheard.clear()
        self._sleep()

    def _wake_by(self, when: float) -> None:
        if self._timer is not None:
            if self._timer.when() <= when:
                return
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(when, self._beat)

    def _sleep(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _beat(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        more = True
        try:
            if self._unheard and self._next_look <= now:
                self._look(now)
            more = self._ping_due(now)
        finally:
            if self._unheard:
                self._wake_by(self._next_look)
            if self._due:
                first = next(iter(self._due.values()))
                self._wake_by(now if more else max(first, now + self._interval / GRAINS))

    def _look(self, now: float) -> None:
        self._looks += 1
        self._next_look = now + self._pause
        missing: list[S] = []
        for session, looks in self._unheard.items():
            # The first look may come right after the ping, and the last right after this process stood still.
            if self._looks - looks < LOOKS + 2:
                break
            missing.append(session)
        for session in missing:
            del self._unheard[session]
        for session in missing:
            self._lost(session)

    def _ping_due(self, now: float) -> bool:
        """Whether more are due than one turn is for."""
        ready: list[S] = []
        for session, due in self._due.items():
            if due > now or len(ready) == PINGS_PER_TURN:
                break
            ready.append(session)
        if ready and not self._unheard:
            self._next_look = now + self._pause
        for session in ready:
            del self._due[session]
            self._unheard[session] = self._looks
        for session in ready:
            self._ping(session)
        return len(ready) == PINGS_PER_TURN
