"""Adds up the slices of all processes: totals, and how they went over time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from hdrh.histogram import HdrHistogram

from loadtests._recorder import Slice, new_histogram

MAX_ROWS = 1200
"""Beyond this many steps of time two and two become one: a soak of days stays readable, and in memory."""


@dataclass(slots=True)
class Row:
    """A step of time. `gauges` by name, then by process: the last value of each."""

    histograms: dict[str, bytes] = field(default_factory=dict)
    counters: Counter[str] = field(default_factory=Counter)
    gauges: dict[str, dict[str, float]] = field(default_factory=dict)

    def add(self, histograms: dict[str, bytes], counters: dict[str, int]) -> None:
        for key, encoded in histograms.items():
            mine = self.histograms.get(key)
            self.histograms[key] = encoded if mine is None else _encode([mine, encoded])
        self.counters.update(counters)


class Collector:
    """One of it is on the master, or in the only process."""

    def __init__(self) -> None:
        self.step = 1
        self.counters: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.busiest: dict[str, list[float]] = {}
        self._totals: dict[str, HdrHistogram] = {}
        self._rows: dict[int, Row] = {}

    def add(self, piece: Slice) -> list[str]:
        """Takes a slice in; returns the texts of errors that were not seen before."""
        row = self._rows.setdefault(piece.second // self.step * self.step, Row())
        row.add(piece.histograms, piece.counters)
        for key, encoded in piece.histograms.items():
            self._totals.setdefault(key, new_histogram()).decode_and_add(encoded)
        for name, value in piece.gauges.items():
            row.gauges.setdefault(name, {})[piece.source] = value
        if "cpu" in piece.gauges:
            self.busiest.setdefault(piece.source, []).append(piece.gauges["cpu"])
            del self.busiest[piece.source][:-86400]
        self.counters.update(piece.counters)
        fresh = [text for text in piece.errors if text not in self.errors]
        self.errors.update(piece.errors)
        while len(self._rows) > MAX_ROWS:
            self._coarsen()
        return fresh

    def metrics(self) -> list[str]:
        """All `metric|transport` that were measured."""
        return sorted(self._totals)

    def rows(self) -> list[tuple[int, Row]]:
        """By Unix second, in order."""
        return sorted(self._rows.items())

    def total(self, metric: str) -> HdrHistogram:
        """Of the whole run: `ack` is all that is called ack, whatever the transport; `ack|polling` only that."""
        merged = new_histogram()
        for key, histogram in self._totals.items():
            if belongs(key, metric):
                merged.add(histogram)
        return merged

    def between(self, metric: str, since: float, until: float) -> HdrHistogram:
        """The same for the rows that lie within these Unix times."""
        merged = new_histogram()
        for second, row in self._rows.items():
            if since <= second and second + self.step <= until:
                for key, encoded in row.histograms.items():
                    if belongs(key, metric):
                        merged.decode_and_add(encoded)
        return merged

    def counted(self, name: str, since: float, until: float) -> int:
        """A counter within these Unix times."""
        return sum(
            row.counters[name] for at, row in self._rows.items() if since <= at and at + self.step <= until
        )

    def gauge(self, name: str, since: float, until: float) -> float:
        """The mean of a gauge's sums over the processes within these Unix times; 0 where there was none."""
        sums = [
            sum(row.gauges.get(name, {}).values())
            for at, row in self._rows.items()
            if since <= at and at + self.step <= until
        ]
        return sum(sums) / len(sums) if sums else 0.0

    def _coarsen(self) -> None:
        self.step *= 2
        rows: dict[int, Row] = {}
        for second, row in sorted(self._rows.items()):
            merged = rows.setdefault(second // self.step * self.step, Row())
            merged.add(row.histograms, row.counters)
            for name, values in row.gauges.items():
                merged.gauges.setdefault(name, {}).update(values)
        self._rows = rows


def belongs(key: str, metric: str) -> bool:
    """Whether the histogram `key` is part of `metric`: the same name, or one that goes on after a space."""
    name, _, transport = key.partition("|")
    wanted, bar, wanted_transport = metric.partition("|")
    if bar and transport != wanted_transport:
        return False
    return name == wanted


def _encode(parts: Iterable[bytes]) -> bytes:
    merged = new_histogram()
    for part in parts:
        merged.decode_and_add(part)
    return bytes(merged.encode())
