"""The axis of time: downwards, in pixels; what happens at one instant gets rows, and idle stretches are cut short."""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping
from dataclasses import dataclass

ROW = 14.0
PIXELS_PER_SECOND = 40_000.0
LEAST_GAP = 6.0
IDLE_SECONDS = 0.0015
"""A stretch longer than this in which nothing begins or ends is drawn shorter than it is, and marked as broken."""

PIXELS_PER_DECADE = 16.0


@dataclass(frozen=True, slots=True)
class Break:
    """An idle stretch: from pixel to pixel, and how long it lasted."""

    top: float
    bottom: float
    seconds: float


def instant(at: float) -> float:
    """Microseconds are the finest that is told apart."""
    return round(at, 6)


class Axis:
    """Made of the instants at which something happens, each with the number of rows that it needs there."""

    def __init__(self, rows: Mapping[float, int]) -> None:
        self.instants = sorted({instant(at) for at in rows} | {0.0})
        needed = dict.fromkeys(self.instants, 1)
        for at, count in rows.items():
            needed[instant(at)] = max(needed[instant(at)], count)
        self._tops: list[float] = []
        self.breaks: list[Break] = []
        pixel = before = 0.0
        for at in self.instants:
            if self._tops:
                top, pixel = pixel, pixel + gap_pixels(at - before)
                if at - before > IDLE_SECONDS:
                    self.breaks.append(Break(top, pixel, at - before))
            self._tops.append(pixel)
            pixel += (needed[at] - 1) * ROW
            before = at
        self._bottoms = [
            top + (needed[at] - 1) * ROW for at, top in zip(self.instants, self._tops, strict=True)
        ]
        self.height = pixel

    def place(self, at: float, row: int = 0) -> float:
        """The pixel of a moment; ``row`` counts what happens at the same one."""
        at = instant(at)
        index = bisect.bisect_right(self.instants, at) - 1
        if index < 0:
            return 0.0
        if self.instants[index] == at:
            return min(self._tops[index] + row * ROW, self._bottoms[index])
        if index + 1 == len(self.instants):
            return self.height
        start, end = self.instants[index], self.instants[index + 1]
        share = (at - start) / (end - start)
        return self._bottoms[index] + share * (self._tops[index + 1] - self._bottoms[index])


def gap_pixels(seconds: float) -> float:
    """What lies between two instants: true to scale while short, then growing by decades."""
    if seconds <= IDLE_SECONDS:
        return max(LEAST_GAP, seconds * PIXELS_PER_SECOND)
    return IDLE_SECONDS * PIXELS_PER_SECOND + PIXELS_PER_DECADE * math.log10(seconds / IDLE_SECONDS)
