"""What came of runs, in words for people and as JSON for programs."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sim.coverage import Coverage
from sim.explore import Report
from sim.run import Outcome, Result

MOST_NAMED = 3


def sentence(result: Result, *, unit: str = "virtual seconds") -> str:
    """What came of one run."""
    if result.outcome is Outcome.INCONCLUSIVE:
        return f"inconclusive, {result.message}"
    counts = f"{result.messages} messages, {result.virtual_seconds:.2f} {unit}"
    said = f"{result.outcome} ({counts})" + (f": {result.message}" if result.message else "")
    return f"{said}\n    drawn from seed {result.seed}: {result.config}" if result.config else said


def so_many(report: Report) -> str:
    """``12 of 672``: schedules tried, and how many there are."""
    return f"{report.schedules}" if report.possible is None else f"{report.schedules} of {report.possible}"


def lines(report: Report, saved: Path | None) -> str:
    """What came of exploring a scenario."""
    head = f"{report.scenario:26} {report.outcome:12} {so_many(report)} schedules of {report.strategy}"
    if report.inconclusive:
        head += f", {report.inconclusive} inconclusive"
    if report.violations > 1:
        head += f", {report.violations} violations"
    if report.interrupted:
        head += ", interrupted"
    body = _coverage(report.coverage)
    if report.first is not None:
        body += [str(report.first.plan), *_left_out(report.first.plan.skips), report.first.message]
        body += [f"drawn from seed {report.first.seed}: {report.first.config}"] if report.first.config else []
        body += [f"python -m sim replay {shlex.quote(str(saved))}"]
    if report.undisturbed is not None and report.undisturbed.outcome is Outcome.INCONCLUSIVE:
        body += [f"undisturbed: {sentence(report.undisturbed)}"]
    body += [f"the simulator failed: {failure}" for failure in report.failures[:MOST_NAMED]]
    return "\n    ".join([head, *body])


def _left_out(skips: Sequence[str]) -> list[str]:
    """Else a scenario's own words (``bob: None``) would seem to be what the disturbance did."""
    if not skips:
        return []
    more = len(skips) - MOST_NAMED
    return [
        f"left out, as it breaks without: {', '.join(skips[:MOST_NAMED])}"
        + (f" and {more} more" if more > 0 else "")
    ]


def _coverage(coverage: Coverage) -> list[str]:
    if len(coverage.growth) < 2:
        return []
    by_quarter = ", ".join(map(str, coverage.orders_by_quarter()))
    said = [f"{coverage.orders} orders of conflicting commands at Redis; after each quarter: {by_quarter}"]
    if coverage.planned:
        bit = ", ".join(f"{kind} {coverage.bitten[kind]} of {n}" for kind, n in coverage.planned.items())
        said.append(f"took effect: {bit}")
    if coverage.unbitten:
        often = coverage.unbitten.most_common(MOST_NAMED)
        more = len(coverage.unbitten) - len(often)
        named = ", ".join(f"{name} ({times}×)" for name, times in often)
        said.append(f"never bit: {named}" + (f" and {more} more" if more else ""))
    return said


def result_to_json(scenario: str, target: str, result: Result) -> dict[str, Any]:
    return {
        "scenario": scenario,
        "target": target,
        "seed": result.seed,
        "outcome": result.outcome,
        "invariant": result.invariant,
        "message": result.message,
        "missing": list(result.missing),
        "config": result.config,
        "fingerprint": result.fingerprint,
        "steps": result.steps,
        "messages": result.messages,
        "virtual_seconds": round(result.virtual_seconds, 6),
        "wall_seconds": round(result.wall_seconds, 3),
        "evaluated": dict(result.evaluated),
        "marks": dict(result.marks),
    }


def report_to_json(report: Report, saved: Path | None) -> dict[str, Any]:
    """The fields that the contract names come first."""
    return {
        "scenario": report.scenario,
        "target": report.target,
        "strategy": report.strategy,
        "schedules": report.schedules,
        "possible": report.possible,
        "inconclusive": report.inconclusive,
        "violations": report.violations,
        "first": None if report.first is None else _first_to_json(report.first, saved),
        "steps": report.steps,
        "messages": report.messages,
        "virtual_seconds": round(report.virtual_seconds, 3),
        "wall_seconds": round(report.wall_seconds, 3),
        "outcome": report.outcome,
        "interrupted": report.interrupted,
        "found_after": report.found_after if report.first else None,
        "found_seconds": round(report.found_seconds, 3) if report.first else None,
        "failures": report.failures,
        "orders": {
            "distinct": report.coverage.orders,
            "by_quarter": report.coverage.orders_by_quarter(),
        },
        "planned": dict(report.coverage.planned),
        "bitten": dict(report.coverage.bitten),
        "unbitten": dict(report.coverage.unbitten),
        "evaluated": dict(report.evaluated),
        "marks": dict(report.marks),
    }


def _first_to_json(first: Result, saved: Path | None) -> dict[str, Any]:
    return {
        "seed": first.seed,
        "invariant": first.invariant,
        "message": first.message,
        "holds": [str(hold.message) for hold in first.plan.holds],
        "faults": [str(fault) for fault in first.plan.faults],
        "file": None if saved is None else str(saved),
        "plan": first.plan.to_json(),
        "config": first.config,
    }
