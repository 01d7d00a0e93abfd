"""What came of a run, as lines and as Markdown."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from loadtests._collector import Collector
from loadtests._objectives import Outcome, seconds_at
from loadtests._watch import Sample

PERCENTILES = (50.0, 95.0, 99.0, 99.9)
MEANINGS = {
    "http": "TCP connection (and for websocket the HTTP upgrade)",
    "open": "then until Engine.IO's open packet",
    "join": "then until Socket.IO's connect with auth is answered",
    "first list": "then until `user-join` is acknowledged and the first `user-list` is here",
    "connect": "all of these",
    "reconnect": "from a loss until connected again",
    "ack": "from when the event was due until its ack (corrected for coordinated omission)",
    "ack raw": "from when the event was sent until its ack (says nothing of what waited before)",
    "fan-out": "from when the sender was due until each receiver has it",
    "fan-out raw": "the same from when it was sent",
    "fan-out same": "due to received, receivers on the sender's instance",
    "fan-out across": "due to received, receivers on other instances",
    "generator lag": "how late the generator itself was",
}
COUNTERS = (
    "connects",
    "disconnects",
    "errors",
    "acks",
    "sent",
    "delivered",
    "lost",
    "duplicate",
    "out-of-order",
    "late",
    "skipped",
    "chat events",
    "negative durations",
)


@dataclass(frozen=True, slots=True)
class Result:
    """Times in Unix seconds."""

    began: float
    ended: float
    targets: tuple[str, ...]
    collector: Collector
    outcomes: Sequence[Outcome]
    doubts: Sequence[str]
    samples: Sequence[Sample]
    notes: Sequence[str]

    @property
    def passed(self) -> bool:
        """Whether every objective was met by figures that may be believed."""
        return not self.doubts and all(outcome.met for outcome in self.outcomes)

    @property
    def verdict(self) -> str:
        if self.doubts:
            return "INVALID: " + "; ".join(self.doubts)
        return "valid: the generator was not the bottleneck"

    def lines(self) -> list[str]:
        """For a terminal."""
        rows = table(self.collector)
        text = [f"{self.ended - self.began:.0f} s against {', '.join(self.targets)}"]
        text.append(
            f"{'milliseconds':34}{'count':>9}{'p50':>10}{'p95':>10}{'p99':>10}{'p99.9':>10}{'max':>10}"
        )
        text += [f"{name:34}{row[0]:>9}" + "".join(f"{value:>10}" for value in row[1:]) for name, row in rows]
        text.append(counters_line(self.collector))
        text += [f"error, {number} times: {line}" for line, number in self.collector.errors.most_common()]
        text += [*self.notes, self.verdict, *(str(outcome) for outcome in self.outcomes)]
        return text


def table(collector: Collector, *, by_transport: bool = True) -> list[tuple[str, list[str]]]:
    """Rows of name, count, percentiles and maximum in milliseconds; each transport too where there are several."""
    rows = []
    for metric in MEANINGS:
        keys = [key for key in collector.metrics() if key.partition("|")[0] == metric]
        wanted = [(metric, metric)]
        if by_transport and len(keys) > 1:
            wanted += [(key, f"  by {key.partition('|')[2]}") for key in keys]
        for name, shown in wanted:
            histogram = collector.total(name)
            number = histogram.get_total_count()
            if number:
                values = [seconds_at(histogram, p) or 0.0 for p in PERCENTILES]
                values.append(histogram.get_max_value() / 1e6)
                rows.append((shown, [f"{number:,}", *(f"{value * 1000:,.2f}" for value in values)]))
    return rows


def counters_line(collector: Collector) -> str:
    return ", ".join(
        f"{name} {collector.counters[name]:,}" for name in COUNTERS if name != "negative durations"
    )


def machine() -> str:
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"


def markdown(result: Result) -> str:
    """The report without drawings."""
    began = datetime.fromtimestamp(result.began, UTC).strftime("%Y-%m-%d %H:%M UTC")
    lines = [
        "# Load",
        "",
        f"{began}, {result.ended - result.began:.0f} s, {len(result.targets)} address(es). {machine()}.",
        "",
        f"**{result.verdict}**",
        "",
    ]
    lines += [f"- {outcome}" for outcome in result.outcomes]
    lines += [f"- {note}" for note in result.notes]
    lines += ["", "| milliseconds | count | p50 | p95 | p99 | p99.9 | max |", "|---|--:|--:|--:|--:|--:|--:|"]
    lines += [
        f"| {name.replace('  by', '… by')} | {' | '.join(row)} |" for name, row in table(result.collector)
    ]
    lines += ["", "| counted | |", "|---|--:|"]
    lines += [f"| {name} | {result.collector.counters[name]:,} |" for name in COUNTERS]
    lines += ["", "Errors:", ""]
    lines += [f"- {number} × {text}" for text, number in result.collector.errors.most_common()] or ["- none"]
    lines += ["", "What the rows mean:", ""]
    lines += [f"- {name}: {meaning}" for name, meaning in MEANINGS.items()]
    return "\n".join(lines) + "\n"


def as_json(result: Result) -> str:
    """For programs: times in seconds; `histograms` as HdrHistogram's base64, which decode and add up anywhere."""
    collector = result.collector
    times = {}
    for key in collector.metrics():
        histogram = collector.total(key)
        times[key] = {f"p{p:g}": seconds_at(histogram, p) for p in PERCENTILES} | {
            "count": histogram.get_total_count(),
            "max": histogram.get_max_value() / 1e6,
        }
    document = {
        "began": result.began,
        "seconds": result.ended - result.began,
        "valid": not result.doubts,
        "doubts": list(result.doubts),
        "passed": result.passed,
        "objectives": {outcome.objective.text: outcome.met for outcome in result.outcomes},
        "notes": list(result.notes),
        "counters": {name: collector.counters[name] for name in COUNTERS},
        "errors": dict(collector.errors),
        "times": times,
        "histograms": {key: collector.total(key).encode().decode() for key in collector.metrics()},
        "rows": [
            {
                "second": second,
                "connected": sum(row.gauges.get("connected", {}).values()),
                "counters": dict(row.counters),
            }
            for second, row in collector.rows()
        ],
        "samples": [asdict(sample) for sample in result.samples],
    }
    return json.dumps(document, indent=1) + "\n"


def write(path: str, text: Callable[[], str]) -> None:
    """Nothing without a path."""
    if path:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text(), encoding="utf-8")
