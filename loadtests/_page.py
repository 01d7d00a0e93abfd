"""The report as one HTML page that stands alone: no scripts, no network."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence

from hdrh.histogram import HdrHistogram

from loadtests._collector import Row, belongs
from loadtests._objectives import seconds_at
from loadtests._plot import Line, chart
from loadtests._recorder import new_histogram
from loadtests._summary import COUNTERS, MEANINGS, PERCENTILES, Result, machine, table
from loadtests._watch import Sample

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 1500px; margin: 1.5em auto; padding: 0 1em; color: #222 }
table { border-collapse: collapse; margin: 1em 0 } td, th { padding: .15em .7em; border-bottom: 1px solid #ddd }
td:not(:first-child), th:not(:first-child) { text-align: right; font-variant-numeric: tabular-nums }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(480px, 1fr)); gap: 1em }
figure { margin: 0 } figcaption { font-weight: 600 } svg { width: 100%; background: #fafafa }
svg text { font: 11px system-ui, sans-serif; fill: #555 } svg polyline { fill: none; stroke-width: 1.6 }
.grid { stroke: #ddd } .bad { color: #b00020 } .good { color: #1d7a2a }
"""


def page(result: Result) -> str:
    """Verdict, tables, and how everything went over time."""
    good = "good" if not result.doubts else "bad"
    outcomes = "".join(
        f'<li class="{"good" if outcome.met else "bad"}">{html.escape(str(outcome))}</li>'
        for outcome in result.outcomes
    )
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in result.notes)
    errors = "".join(
        f"<li>{number} × {html.escape(text)}</li>" for text, number in result.collector.errors.most_common()
    )
    counts = "".join(
        f"<tr><td>{name}</td><td>{result.collector.counters[name]:,}</td></tr>" for name in COUNTERS
    )
    meanings = "".join(
        f"<li>{html.escape(name)}: {html.escape(text)}</li>" for name, text in MEANINGS.items()
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Load</title><style>{_STYLE}</style>'
        f"<h1>Load</h1><p>{result.ended - result.began:.0f} s against {html.escape(', '.join(result.targets))}. "
        f"{html.escape(machine())}.</p>"
        f'<p class="{good}"><b>{html.escape(result.verdict)}</b></p><ul>{outcomes}{notes}</ul>'
        f"{_table(result, by_transport=False)}"
        f'<div class="charts">{"".join(_charts(result))}</div>'
        f"<h2>Counted</h2><table>{counts}</table>"
        f"<h2>By transport</h2>{_table(result, by_transport=True)}"
        f"<h2>Errors</h2><ul>{errors or '<li>none</li>'}</ul>"
        f"<h2>What the rows mean</h2><ul>{meanings}</ul></html>\n"
    )


def _table(result: Result, *, by_transport: bool) -> str:
    rows = "".join(
        f'<tr title="{html.escape(MEANINGS.get(name, ""))}"><td>{html.escape(name)}</td>'
        + "".join(f"<td>{value}</td>" for value in values)
        + "</tr>"
        for name, values in table(result.collector, by_transport=by_transport)
    )
    return f"<table><tr><th>milliseconds<th>count<th>p50<th>p95<th>p99<th>p99.9<th>max</tr>{rows}</table>"


def _charts(result: Result) -> list[str]:
    collector = result.collector
    began, step = result.began, collector.step
    rows = [(max(0.0, second - began), row) for second, row in collector.rows()]

    def times(metric: str) -> list[Line]:
        merged = [(at, _merged(row, metric)) for at, row in rows]
        return [
            Line(f"p{p:g}", [(at, _ms(seconds_at(histogram, p))) for at, histogram in merged])
            for p in PERCENTILES
        ]

    def counts(*names: str) -> list[Line]:
        return [Line(name, [(at, row.counters[name] / step) for at, row in rows]) for name in names]

    def gauge(name: str, combine: Callable[[list[float]], float]) -> list[tuple[float, float | None]]:
        return [
            (at, combine(list(row.gauges[name].values())) if name in row.gauges else None) for at, row in rows
        ]

    lag = [(at, _ms(seconds_at(_merged(row, "generator lag"), 99))) for at, row in rows]
    return [
        chart("Ack round trip, from when it was due", "ms", times("ack")),
        chart("Ack round trip, raw", "ms", times("ack raw")),
        chart("Fan-out, from when the sender was due", "ms", times("fan-out")),
        chart("Connect until the first list", "ms", times("connect")),
        chart("Users connected", "users", [Line("connected", gauge("connected", sum))]),
        chart("Connects and losses", "a second", counts("connects", "disconnects")),
        chart("Sent, acknowledged, delivered", "a second", counts("sent", "acks", "delivered")),
        chart(
            "Lost, duplicate, out of order, late",
            "a second",
            counts("lost", "duplicate", "out-of-order", "late"),
        ),
        chart("Generator: CPU of its busiest process", "cores", [Line("cpu", gauge("cpu", max))]),
        chart("Generator: lag", "ms", [Line("p99", lag)]),
        *_server_charts(result.samples, began),
    ]


def _server_charts(known: Sequence[Sample], began: float) -> list[str]:
    first = known[0] if known else None

    def lines(what: str, number: int, pick: Callable[[Sample, int], float | None]) -> list[Line]:
        return [
            Line(
                f"{what} {each + 1}", [(max(0.0, sample.at - began), pick(sample, each)) for sample in known]
            )
            for each in range(number)
        ]

    processes = len(first.cpu) if first else 0
    addresses = len(first.health) if first else 0
    health = lines("address", addresses, lambda s, n: _ms(s.health[n]))
    redis = [Line("redis", [(max(0.0, sample.at - began), sample.redis_ops) for sample in known])]
    return [
        chart("Server CPU", "cores", lines("process", processes, lambda s, n: s.cpu[n])),
        chart("Server memory", "MB", lines("process", processes, lambda s, n: _mb(s.memory[n]))),
        chart("Redis", "commands a second", redis),
        chart("Answer of /health (stands for the server's loop lag)", "ms", health),
    ]


def _merged(row: Row, metric: str) -> HdrHistogram:
    merged = new_histogram()
    for key, encoded in row.histograms.items():
        if belongs(key, metric):
            merged.decode_and_add(encoded)
    return merged


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000


def _mb(size: float | None) -> float | None:
    return None if size is None else size / 2**20
