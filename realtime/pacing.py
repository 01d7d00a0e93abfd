"""Sends what changed at most once per interval, and more rarely as one sending grows costly."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

LONGEST_DEBT = 2.0
"""Seconds by which what was sent otherwise may put a sending off: else who asks often enough would stop them all."""


class Pacer:
    """Calls ``send`` soon after ``nudge``, never twice in an ``interval``. It returns the bytes it sent; these stay
    below ``bytes_per_second``, and with them, within bounds, what was ``charge``d besides."""

    def __init__(
        self, send: Callable[[], Awaitable[int]], *, interval: float, bytes_per_second: float
    ) -> None:
        self._send = send
        self._interval = interval
        self._rate = bytes_per_second
        self._nudged = asyncio.Event()
        self._due = float("-inf")
        """When the next sending may be, for what the last one cost."""
        self._paid = float("-inf")
        """When the rate will have made up for all that was sent."""

    def nudge(self) -> None:
        self._nudged.set()

    def charge(self, sent: int) -> None:
        """Counts bytes that were sent otherwise."""
        now = asyncio.get_running_loop().time()
        owed = max(self._paid, now) + sent / self._rate
        self._paid = max(self._paid, min(owed, max(self._due, now) + LONGEST_DEBT))

    async def turn(self) -> None:
        """Waits, not for long, until more may be sent: for those who ask for it."""
        now = asyncio.get_running_loop().time()
        await asyncio.sleep(max(0.0, min(self._paid - now, LONGEST_DEBT)))

    async def run(self) -> None:
        """Sends until cancelled. A ``send`` that raises ends it, and is repeated when a supervisor starts it again."""
        loop = asyncio.get_running_loop()
        while True:
            await self._nudged.wait()
            latest = max(self._due, loop.time()) + LONGEST_DEBT
            # Charges may come in meanwhile.
            while (pause := min(max(self._due, self._paid), latest) - loop.time()) > 0:  # noqa: ASYNC110
                await asyncio.sleep(pause)
            self._nudged.clear()
            started = loop.time()
            try:
                cost = await self._send() / self._rate
            except BaseException:
                self._nudged.set()
                raise
            self._due = started + max(self._interval, cost)
            self._paid = max(self._paid, started) + cost
