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
:root { color-scheme: light dark; --ink: #1c1e22; --dim: #6a6c72; --page: #fcfbf9; --card: #f5f3ee; --line: #dedbd4;
  --good: #1d7a2a; --bad: #b00020;
  --c0: #1b6ca8; --c1: #c8384c; --c2: #2e8537; --c3: #8250b4; --c4: #b06c00; --c5: #5b6675 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e6e1; --dim: #9a9ca3; --page: #15171b; --card: #1c1f24; --line: #2e323a;
    --good: #6fcf7f; --bad: #ff8a94;
    --c0: #6cb6ee; --c1: #ff8a94; --c2: #7fd08a; --c3: #c3a2ea; --c4: #f0b35c; --c5: #9aa6b5 }
}
* { box-sizing: border-box }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1400px; margin: 0 auto; padding: 1.5em 1em 3em;
  color: var(--ink); background: var(--page) }
h1 { margin: 0; font-size: 1.7em } h2 { margin: 2em 0 .6em; font-size: 1.2em }
.dim { color: var(--dim); margin: .2em 0 }
.verdict { display: inline-block; margin: 1em 0 0; padding: .4em .9em; border-radius: .5em; background: var(--card);
  border-left: 4px solid currentColor; font-weight: 600 }
.good { color: var(--good) } .bad { color: var(--bad) }
.outcomes { display: flex; flex-wrap: wrap; gap: .5em; list-style: none; padding: 0; margin: .8em 0 }
.outcomes li { padding: .2em .7em; border: 1px solid currentColor; border-radius: 1em; font-size: .92em }
.wide { overflow-x: auto } table { border-collapse: collapse; min-width: 40em } .narrow { min-width: 0 }
td, th { padding: .25em .8em; border-bottom: 1px solid var(--line); text-align: left; white-space: nowrap }
th { color: var(--dim); font-weight: 500 }
td:not(:first-child), th:not(:first-child) { text-align: right; font-variant-numeric: tabular-nums }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(430px, 100%), 1fr)); gap: 1em;
  margin-top: 1.5em }
figure { margin: 0; padding: .8em 1em; border: 1px solid var(--line); border-radius: .6em; background: var(--card) }
figcaption { font-weight: 600 } figure p { margin: .2em 0 0; font-size: .9em } svg { display: block; width: 100% }
svg text { font: 11px system-ui, sans-serif; fill: var(--dim) } svg polyline { fill: none; stroke-width: 1.6 }
.grid { stroke: var(--line) }
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
    took = f"{result.ended - result.began:.0f} s against {', '.join(result.targets)}. {machine()}."
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Load</title><style>{_STYLE}</style>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<h1>Load</h1><p class="dim">{html.escape(took)}</p>'
        f'<p class="verdict {good}">{html.escape(result.verdict)}</p>'
        f'<ul class="outcomes">{outcomes}{notes}</ul>'
        f"{_table(result, by_transport=False)}"
        f'<div class="charts">{"".join(_charts(result))}</div>'
        f'<h2>Counted</h2><table class="narrow">{counts}</table>'
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
    heads = "<th>milliseconds<th>count<th>p50<th>p95<th>p99<th>p99.9<th>max"
    return f'<div class="wide"><table><tr>{heads}</tr>{rows}</table></div>'


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
        chart("Connects, disconnects, errors", "a second", counts("connects", "disconnects", "errors")),
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
