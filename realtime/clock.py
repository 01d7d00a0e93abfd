"""The fleet's time: Redis' clock as last seen, so that a skewed instance judges tokens like the others."""

from __future__ import annotations

import time
from collections.abc import Callable


class FleetClock:
    """Local time plus the offset that the last answer of the shared state showed."""

    def __init__(self, *, local: Callable[[], float] = time.time) -> None:
        self._local = local
        self._offset = 0.0

    def time(self) -> float:
        """Unix seconds."""
        return self._local() + self._offset

    def learn(self, now_ms: int) -> None:
        """Takes over the state's time; what is off by less than a round trip's order is left alone."""
        offset = now_ms / 1000 - self._local()
        if abs(offset - self._offset) > 0.05:
            self._offset = offset
