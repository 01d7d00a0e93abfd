"""What one process measures, cut into seconds, so that workers' figures can be added up exactly."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from hdrh.histogram import HdrHistogram

MAX_SECONDS = 3600
MAX_ERRORS = 100
"""Different error texts that are told apart."""
_OTHER = "other errors"


def new_histogram() -> HdrHistogram:
    """Microseconds up to an hour, three significant digits. Only histograms of one shape can be added."""
    return HdrHistogram(1, MAX_SECONDS * 1_000_000, 3)


SHORTEST_SECONDS = 0.5


def share_of_core(cpu: float, seconds: float) -> float | None:
    """How busy a process was that used so many CPU seconds; None where so short a time tells nothing.

    The last slice of a run is short and full of the end itself: it would look like a generator that used its core up.
    """
    return cpu / seconds if seconds >= SHORTEST_SECONDS else None


@dataclass(frozen=True, slots=True)
class Slice:
    """One second of one process. `histograms` are encoded, by `metric|transport`; `errors` count texts."""

    source: str
    second: int
    histograms: dict[str, bytes]
    counters: dict[str, int]
    gauges: dict[str, float]
    errors: dict[str, int]

    def to_wire(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_wire(cls, fields: dict[str, Any]) -> Slice:
        return cls(**fields)


@dataclass(slots=True)
class Recorder:
    """Takes figures as they come; `cut` ends a slice, `take` hands the finished ones over.

    Nothing is in two slices, and a slice is handed over once.
    """

    source: str
    _histograms: dict[str, HdrHistogram] = field(default_factory=dict)
    _counters: Counter[str] = field(default_factory=Counter)
    _errors: Counter[str] = field(default_factory=Counter)
    _known_errors: set[str] = field(default_factory=set)
    _finished: list[Slice] = field(default_factory=list)

    def time(self, metric: str, seconds: float, transport: str = "", *, every: float = 0.0) -> None:
        """One duration. What is negative (clocks of several machines) is counted as such.

        With `every`, what is measured that often: a long one stands for those that it kept from being measured, too.
        """
        key = f"{metric}|{transport}"
        histogram = self._histograms.get(key)
        if histogram is None:
            histogram = self._histograms[key] = new_histogram()
        if seconds < 0:
            self._counters["negative durations"] += 1
        value = min(max(int(seconds * 1e6), 1), MAX_SECONDS * 1_000_000)
        histogram.record_corrected_value(value, int(every * 1e6))

    def count(self, name: str, number: int = 1) -> None:
        self._counters[name] += number

    def error(self, text: str) -> None:
        """Counts an error by its text; beyond `MAX_ERRORS` texts as one of the others."""
        if text not in self._known_errors:
            if len(self._known_errors) >= MAX_ERRORS:
                text = _OTHER
            self._known_errors.add(text)
        self._errors[text] += 1
        self._counters["errors"] += 1

    def cut(self, second: int, gauges: dict[str, float]) -> None:
        """Ends the slice of everything since the last cut, as of the Unix second `second`."""
        histograms = {key: bytes(each.encode()) for key, each in self._histograms.items()}
        self._finished.append(
            Slice(self.source, second, histograms, dict(self._counters), gauges, dict(self._errors))
        )
        self._histograms, self._counters, self._errors = {}, Counter(), Counter()

    def take(self) -> list[Slice]:
        finished, self._finished = self._finished, []
        return finished
