"""The fleet's time: Redis' clock as last seen, so that a skewed instance judges tokens like the others."""

from __future__ import annotations

import time
from collections.abc import Callable


class FleetClock:
    """Local time plus an offset that fits the answers of the shared state."""

    def __init__(self, *, local: Callable[[], float] = time.time) -> None:
        self._local = local
        self._offset = 0.0

    def time(self) -> float:
        """Unix seconds."""
        return self._local() + self._offset

    def learn(self, now_ms: int, *, took: float) -> None:
        """Takes over the state's time from an answer that came just now, ``took`` seconds after it was asked for.

        The state read its clock some time in between, so the answer says between which bounds the offset lies: a
        slow answer moves no clock that may be right.
        """
        latest = now_ms / 1000 - self._local()
        self._offset = min(max(self._offset, latest), latest + took + 0.001)
