"""Sockets that must be gone by a time: tokens that end, strangers who never sign in."""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)

LONGEST_SLEEP = 5.0
"""Time is the fleet's and may be corrected: a deadline is looked at again at least this often (seconds)."""


class Deadlines:
    """One heap and one task for all sockets of an instance. ``act(sid)`` runs once a deadline has passed."""

    def __init__(self, now: Callable[[], float], act: Callable[[str], Awaitable[None]]) -> None:
        self._now = now
        self._act = act
        self._due: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []
        self._earlier = asyncio.Event()

    def __len__(self) -> int:
        return len(self._due)

    def __contains__(self, sid: str) -> bool:
        return sid in self._due

    def set(self, sid: str, at: float | None) -> None:
        """``at``: seconds of the clock that was given; None takes the deadline away."""
        if at is None:
            self._due.pop(sid, None)
            return
        self._due[sid] = at
        heapq.heappush(self._heap, (at, sid))
        if self._heap[0] == (at, sid):
            self._earlier.set()
        if len(self._heap) > 2 * len(self._due) + 64:
            self._heap = [(at, sid) for sid, at in self._due.items()]
            heapq.heapify(self._heap)

    async def run(self) -> None:
        """Acts until cancelled; an ``act`` that fails is logged and does not stop the others."""
        while True:
            self._earlier.clear()
            while self._heap and self._heap[0][0] <= self._now():
                at, sid = heapq.heappop(self._heap)
                if self._due.get(sid) == at:
                    del self._due[sid]
                    try:
                        await self._act(sid)
                    except Exception:
                        log.exception(
                            "the socket %s could not be closed at its deadline", sid, extra={"sid": sid}
                        )
            pause = min(LONGEST_SLEEP, self._heap[0][0] - self._now()) if self._heap else LONGEST_SLEEP
            try:
                async with asyncio.timeout(max(0.0, pause)):
                    await self._earlier.wait()
            except TimeoutError:
                pass
