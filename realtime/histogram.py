"""A histogram of plain numbers: what is measured costs one search in a short tuple, and whoever exports it reads it."""

from __future__ import annotations

from bisect import bisect_left

ROUND_TRIPS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Bounds for answers of Redis, in seconds."""


class Histogram:
    """How many values were at most each of ``bounds``, and their sum."""

    __slots__ = ("_counts", "bounds", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        """``bounds`` grow."""
        self.bounds = bounds
        self.sum = 0.0
        self._counts = [0] * (len(bounds) + 1)

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    @property
    def counts(self) -> tuple[int, ...]:
        """Of values in each bucket; the last is of those above all bounds."""
        return tuple(self._counts)
