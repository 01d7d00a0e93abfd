"""How late the event loop is: what every client of an instance waits for beside everything else."""

from __future__ import annotations

import asyncio

from realtime.histogram import Histogram

PERIOD_SECONDS = 0.5
LAGS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class LoopLag:
    """Sleeps, and looks how long it overslept. It runs only where somebody asks: a timer is a turn of the loop."""

    def __init__(self) -> None:
        self.seconds = Histogram(LAGS)

    async def run(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + PERIOD_SECONDS
            await asyncio.sleep(PERIOD_SECONDS)
            self.seconds.observe(max(0.0, loop.time() - due))
