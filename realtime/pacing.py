"""Sends what changed at most once per interval, and more rarely as one sending grows costly."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


class Pacer:
    """Calls ``send`` soon after ``nudge``. It returns the bytes it sent; together with what is ``charge``d they stay
    below ``bytes_per_second`` on average, however often something changes."""

    def __init__(
        self, send: Callable[[], Awaitable[int]], *, interval: float, bytes_per_second: float
    ) -> None:
        self._send = send
        self._interval = interval
        self._rate = bytes_per_second
        self._nudged = asyncio.Event()
        self._next = float("-inf")

    def nudge(self) -> None:
        self._nudged.set()

    def charge(self, sent: int) -> None:
        """Counts bytes that were sent otherwise."""
        now = asyncio.get_running_loop().time()
        self._next = max(self._next, now) + sent / self._rate

    async def run(self) -> None:
        """Sends until cancelled. A ``send`` that raises ends it: its supervisor starts it again."""
        loop = asyncio.get_running_loop()
        while True:
            await self._nudged.wait()
            # Charges may come in meanwhile.
            while (pause := self._next - loop.time()) > 0:  # noqa: ASYNC110
                await asyncio.sleep(pause)
            self._nudged.clear()
            started = loop.time()
            self._next = started + self._interval
            self.charge(await self._send())
