"""A comparison as tables, for a terminal and for ``races.md``."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sim.case import versions
from sim.compare import NAIVE, REALTIME, Comparison, Row
from sim.explore import Report
from sim.plan import Plan
from sim.run import Outcome

KINDS = {
    "r": (
        "Races and outages",
        "The naive target holds undisturbed and breaks under one to three disturbances.",
    ),
    "d": (
        "Faults of the design",
        "The naive target breaks at once, without any disturbance: this proves nothing about exploring.",
    ),
    "n": ("Layers with leases only", "The naive target has nothing of the kind; only realtime is tried."),
    "s": ("Random workloads", "Everything is drawn from the seed; only realtime is tried."),
}
NOT_TRIED = "not tried"


@dataclass(frozen=True, slots=True)
class Table:
    """``numbers``: columns that are aligned to the right."""

    title: str
    about: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    numbers: frozenset[int] = frozenset()


def tables(done: Comparison) -> list[Table]:
    """Scenarios by kind, those that wait, invariants, safeguards; none that would be empty."""
    found = [_of_kind(kind, [row for row in done.rows if row.scenario.kind == kind]) for kind in KINDS]
    found += [_waiting(done.rows), _invariants(done), _safeguards(done)]
    return [table for table in found if table.rows]


def conclusion(done: Comparison) -> list[str]:
    """What is not as it has to be, or that all is; and what was tried."""
    said = [f"{row.scenario.name}: {problem}" for row in done.rows for problem in row.problems()]
    said += [f"no run ever reached this safeguard: {name}" for name in done.silent_safeguards()]
    missing = [row.scenario.name for row in done.rows if row.realtime is None and not row.scenario.waits]
    if done.interrupted:
        said.append(f"interrupted; not tried on realtime: {', '.join(missing) or 'none'}")
    if not any(row.scenario.derived for row in done.rows):
        said.append("no random workload was among the scenarios")
    if not said:
        said.append("all as it has to be: the naive target breaks, realtime holds")
    reports = [row.realtime for row in done.rows if row.realtime is not None]
    tried = sum(report.schedules for report in reports)
    scope = "every single disturbance" if done.seconds is None else f"as many as {done.seconds:g} s allow"
    said.append(
        f"{tried} schedules of {len(reports)} scenarios on realtime ({scope}), {done.wall_seconds:.0f} s"
    )
    return said


def markdown(done: Comparison) -> str:
    """The same as a page."""
    software = ", ".join(f"{name} {version}" for name, version in versions().items())
    parts = [
        "# What was tried on both targets",
        "Made by `python -m sim compare" + (" --exhaustive`." if done.seconds is None else "`."),
        "\n".join(f"- {line}" for line in conclusion(done)),
        *(_markdown(table) for table in tables(done)),
        f"With {software}, on {platform.system()} {platform.machine()}.",
    ]
    return "\n\n".join(parts) + "\n"


def few_words(plan: Plan) -> str:
    """``hold api-1→redis #28``: what breaks it, without for how long."""
    parts = [f"hold {hold.message}" for hold in plan.holds]
    parts += [f"{fault.kind} at {fault.message}" for fault in plan.faults]
    parts += ["jitter"] if plan.jitter_seed is not None else []
    return "; ".join(parts) or "undisturbed"


def _of_kind(kind: str, rows: Sequence[Row]) -> Table:
    title, about = KINDS[kind]
    rows = [row for row in rows if not row.scenario.waits]
    if kind == "r":
        columns: tuple[str, ...] = ("scenario", "naive undisturbed", "naive broken by", "found")
        cells: list[tuple[str, ...]] = [(row.scenario.name, _calm(row), *_broken(row.naive)) for row in rows]
    elif kind == "d":
        columns = ("scenario", "naive broken at once by")
        cells = [(row.scenario.name, _at_once(row)) for row in rows]
    else:
        columns, cells = ("scenario",), [(row.scenario.name,) for row in rows]
    columns += ("realtime", "inconclusive")
    lines = [
        (*cell, _held(row.realtime), _inconclusive(row.realtime))
        for cell, row in zip(cells, rows, strict=True)
    ]
    return Table(title, about, columns, lines, frozenset({len(columns) - 1}))


def _calm(row: Row) -> str:
    return NOT_TRIED if row.naive_undisturbed is None else str(row.naive_undisturbed.outcome)


def _at_once(row: Row) -> str:
    calm = row.naive_undisturbed
    if calm is None:
        return NOT_TRIED
    return calm.invariant if calm.outcome is Outcome.VIOLATED else f"NOT BROKEN: {calm.outcome}"


def _broken(report: Report | None) -> tuple[str, str]:
    if report is None:
        return NOT_TRIED, ""
    if report.first is None:
        return "NOT BROKEN", f"{report.schedules} of {report.possible} tried"
    if not report.found_after:
        return "UNDISTURBED", report.first.invariant
    found = f"after {report.found_after} schedules, {report.found_seconds:.1f} s"
    return f"{few_words(report.first.plan)} → {report.first.invariant}", found


def _held(report: Report | None) -> str:
    if report is None:
        return NOT_TRIED
    many = f"{report.schedules}" if report.possible is None else f"{report.schedules} of {report.possible}"
    if report.outcome is Outcome.VIOLATED and report.first is not None:
        return f"BROKEN by {few_words(report.first.plan)} → {report.first.invariant}"
    if report.outcome is Outcome.HELD:
        return f"held in {many} schedules"
    return f"{str(report.outcome).upper()} in {report.failed or report.inconclusive} of {many} schedules"


def _inconclusive(report: Report | None) -> str:
    return "" if report is None else str(report.inconclusive)


def _waiting(rows: Sequence[Row]) -> Table:
    lines = [(row.scenario.name, row.scenario.waits) for row in rows if row.scenario.waits]
    return Table("Waiting", "Not tried, and no failure.", ("scenario", "waits for"), lines)


def _invariants(done: Comparison) -> Table:
    on_realtime, on_naive = done.evaluated(REALTIME), done.evaluated(NAIVE)
    broken = Counter(row.naive.first.invariant for row in done.rows if row.naive and row.naive.first)
    lines = [
        (name, f"{on_realtime[name]}", f"{on_naive[name]}", f"{broken[name]}")
        for name in sorted({*on_realtime, *on_naive})
    ]
    return Table(
        "Invariants",
        "How often each was evaluated, and by how many scenarios naive was found to break it.",
        ("invariant", "on realtime", "on naive", "broken on naive"),
        lines,
        frozenset({1, 2, 3}),
    )


def _safeguards(done: Comparison) -> Table:
    lines = [(name, f"{times}") for name, times in sorted(done.marks().items())]
    about = "How often each safeguard of realtime was seen to act."
    return Table("Safeguards", about, ("safeguard", "acted"), lines, frozenset({1}))


def _markdown(table: Table) -> str:
    rules = ["---:" if number in table.numbers else "---" for number in range(len(table.columns))]
    rows = [table.columns, tuple(rules), *table.rows]
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return f"## {table.title}\n\n{table.about}\n\n" + "\n".join(lines)
