"""Objectives such as `fan-out-p99<=0.25`, checked against what was measured; and whether that may be believed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from hdrh.histogram import HdrHistogram

from loadtests._collector import Collector
from loadtests._errors import LoadError

TIMES = {
    "http": "http",
    "open": "open",
    "join": "join",
    "first-list": "first list",
    "connect": "connect",
    "reconnect": "reconnect",
    "ack": "ack",
    "ack-raw": "ack raw",
    "fan-out": "fan-out",
    "fan-out-raw": "fan-out raw",
    "fan-out-same": "fan-out same",
    "fan-out-across": "fan-out across",
}
"""What an objective may name, and the metric it means."""
COUNTS = ("lost", "duplicate", "out-of-order", "late", "errors", "disconnects")
BUSY = 0.9
BUSY_SHARE = 0.1
_FORM = re.compile(r"^(?P<name>[a-z-]+?)(-p(?P<p>50|95|99|99\.9))?<=(?P<limit>\d+(\.\d+)?)$")


@dataclass(frozen=True, slots=True)
class Objective:
    """`percentile` is None for a counter; `limit` is seconds, or a number."""

    text: str
    name: str
    percentile: float | None
    limit: float


@dataclass(frozen=True, slots=True)
class Outcome:
    objective: Objective
    value: float | None
    met: bool

    def __str__(self) -> str:
        seen = "nothing was measured" if self.value is None else f"{self.value:.4g}"
        return f"objective {self.objective.text}: {'met' if self.met else 'MISSED'} ({seen})"


def parse_objective(text: str) -> Objective:
    """Raises `LoadError` with what is allowed."""
    found = _FORM.match(text.replace(" ", ""))
    if found:
        name, p = found["name"], found["p"]
        if (name in TIMES and p) or (name in COUNTS and not p):
            return Objective(text, name, float(p) if p else None, float(found["limit"]))
    raise LoadError(
        f"{text!r} is no objective: write NAME-pP<=SECONDS with P of 50, 95, 99, 99.9 and NAME of "
        f"{', '.join(TIMES)}; or NAME<=NUMBER with NAME of {', '.join(COUNTS)}"
    )


def seconds_at(histogram: HdrHistogram, percentile: float) -> float | None:
    """None without a single value."""
    if not histogram.get_total_count():
        return None
    return float(histogram.get_value_at_percentile(percentile)) / 1e6


def check(objective: Objective, collector: Collector) -> Outcome:
    """What was never measured is missed: silence is no proof."""
    if objective.percentile is None:
        counted = collector.counters[objective.name]
        # A run in which nothing was delivered has lost nothing, and proved nothing.
        value = float(counted) if collector.counters["delivered"] or objective.name == "errors" else None
    else:
        value = seconds_at(collector.total(TIMES[objective.name]), objective.percentile)
    return Outcome(objective, value, value is not None and value <= objective.limit)


def check_all(objectives: Sequence[Objective], collector: Collector) -> list[Outcome]:
    return [check(objective, collector) for objective in objectives]


def doubts(collector: Collector, max_lag: float) -> list[str]:
    """Why the figures say more of the generator than of the server; empty when they may be believed."""
    found = []
    lag = seconds_at(collector.total("generator lag"), 99)
    if lag is None:
        found.append("the generator's lag was never measured")
    elif lag > max_lag:
        found.append(f"the generator itself was late: p99 of its lag is {lag * 1000:.0f} ms")
    for source, shares in sorted(collector.busiest.items()):
        busy = sum(share > BUSY for share in shares)
        if len(shares) >= 3 and busy > BUSY_SHARE * len(shares):
            found.append(
                f"the generator's process {source} used its core up in {busy} of {len(shares)} seconds"
            )
    return found
