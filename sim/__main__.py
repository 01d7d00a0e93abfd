"""``python -m sim``: list scenarios, run one, explore schedules, replay what was found.

Exit status: 0 all invariants held, 1 a violation, 2 wrong usage, 3 the simulator failed or too many runs were
inconclusive.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

import click

from sim import case as cases
from sim.errors import SimulatorError
from sim.explore import Report, explore, undisturbed
from sim.run import Outcome, Result
from sim.scenario import Scenario, UnknownScenario, find, scenarios
from sim.strategies import NAMES, strategy
from sim.targets import UnknownTarget, load

HELD, VIOLATED, USAGE, FAILED = 0, 1, 2, 3
MOST_INCONCLUSIVE = 0.05
CASES = Path("reports") / "cases"

target_option = click.option(
    "--target", default="realtime", show_default=True, help="realtime, naive, MODULE:FACTORY."
)
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object per scenario.")


@click.group()
@click.option("--verbose", is_flag=True, help="Show what the simulated hosts log.")
@click.pass_context
def main(context: click.Context, verbose: bool) -> None:
    """Run scenarios on the real stack in virtual time, and find the schedules that break them."""
    if not verbose:
        logging.disable(logging.CRITICAL)
        context.call_on_close(lambda: logging.disable(logging.NOTSET))


@main.command("list")
@json_option
def list_scenarios(as_json: bool) -> None:
    """Show every scenario: its kind (r race or outage, d design, n only layers with leases) and what it is about."""
    for each in scenarios().values():
        if as_json:
            click.echo(json.dumps({"scenario": each.name, "kind": each.kind, "about": each.about}))
        else:
            click.echo(f"{each.name:26} {each.kind}  {each.about}")


@main.command("run")
@click.argument("scenario")
@target_option
@click.option("--seed", default=0, show_default=True)
@json_option
@click.option("--save", type=click.Path(path_type=Path), help="Write the run to a file for `replay`.")
def run_one(scenario: str, target: str, seed: int, as_json: bool, save: Path | None) -> None:
    """Run SCENARIO once, undisturbed."""
    chosen = _scenario(scenario)
    _check_target(target)
    result, _baseline = undisturbed(chosen, target, seed=seed)
    if save is not None:
        cases.Case.of(scenario, target, result).save(save)
    click.echo(
        json.dumps(_of_result(scenario, target, result)) if as_json else f"{scenario}: {_sentence(result)}"
    )
    sys.exit(_status([result.outcome]))


@main.command("explore")
@click.argument("names", nargs=-1, metavar="[SCENARIO]...")
@target_option
@click.option(
    "--strategy", "strategy_name", type=click.Choice(NAMES), default="single-fault", show_default=True
)
@click.option("--schedules", type=click.IntRange(1), help="Try at most so many schedules of each scenario.")
@click.option(
    "--seconds", type=click.FloatRange(0, min_open=True), help="Spend at most so long on each scenario."
)
@click.option("--all", "go_on", is_flag=True, help="Go on after a scenario's first violation.")
@json_option
def explore_many(
    names: tuple[str, ...],
    target: str,
    strategy_name: str,
    schedules: int | None,
    seconds: float | None,
    go_on: bool,
    as_json: bool,
) -> None:
    """Try many schedules of each SCENARIO (all if none is named) and shrink the first that breaks it."""
    chosen = [_scenario(name) for name in names] or list(scenarios().values())
    _check_target(target)
    outcomes: list[Outcome] = []
    for each in chosen:
        report = explore(
            each,
            target,
            strategy(strategy_name),
            schedules=schedules,
            seconds=seconds,
            stop_at_first=not go_on,
        )
        outcomes.append(_outcome(report))
        saved = _save(report)
        click.echo(json.dumps(_of_report(report, saved)) if as_json else _line(report, saved))
        if report.interrupted:
            break
    sys.exit(_status(outcomes))


@main.command("replay")
@click.argument("file", type=click.Path(path_type=Path))
def replay_file(file: Path) -> None:
    """Run a saved FILE again, bit for bit."""
    try:
        result = cases.replay(cases.Case.read(file))
    except SimulatorError as error:
        _fail(str(error), FAILED)
    click.echo(f"the same run again: {_sentence(result)}")
    sys.exit(_status([result.outcome]))


def _scenario(name: str) -> Scenario:
    try:
        return find(name)
    except UnknownScenario as error:
        _fail(str(error), USAGE)
        raise


def _check_target(name: str) -> None:
    try:
        load(name)
    except UnknownTarget as error:
        _fail(str(error), USAGE)


def _fail(message: str, status: int) -> None:
    click.echo(message, err=True)
    sys.exit(status)


def _outcome(report: Report) -> Outcome:
    if report.violations:
        return Outcome.VIOLATED
    if report.failed:
        return Outcome.FAILED
    return (
        Outcome.INCONCLUSIVE if report.inconclusive > MOST_INCONCLUSIVE * report.schedules else Outcome.HELD
    )


def _status(outcomes: list[Outcome]) -> int:
    if Outcome.VIOLATED in outcomes:
        return VIOLATED
    return HELD if all(outcome is Outcome.HELD for outcome in outcomes) else FAILED


def _sentence(result: Result) -> str:
    if result.outcome is Outcome.INCONCLUSIVE:
        return f"inconclusive, never reached: {', '.join(result.missing)}"
    seconds = f"{result.messages} messages, {result.virtual_seconds:.2f} virtual seconds"
    return f"{result.outcome} ({seconds})" + (f": {result.message}" if result.message else "")


def _line(report: Report, saved: Path | None) -> str:
    possible = "" if report.possible is None else f" of {report.possible}"
    head = f"{report.scenario:26} {_outcome(report):12} {report.schedules - 1}{possible} schedules"
    if report.inconclusive:
        head += f", {report.inconclusive} inconclusive"
    if report.unbitten:
        head += f", {report.unbitten} that never bit"
    if report.first is not None:
        head += f"\n    {report.first.plan}\n    {report.first.message}\n    python -m sim replay {saved}"
    for failure in report.failures[:1]:
        head += f"\n    {failure}"
    return head


def _save(report: Report) -> Path | None:
    if report.first is None:
        return None
    path = CASES / f"{report.scenario}-{report.target}.json".replace(":", ".")
    cases.Case.of(report.scenario, report.target, report.first).save(path)
    return path


def _of_result(scenario: str, target: str, result: Result) -> dict[str, Any]:
    return {
        "scenario": scenario,
        "target": target,
        "outcome": result.outcome,
        "message": result.message,
        "fingerprint": result.fingerprint,
        "messages": result.messages,
        "virtual_seconds": round(result.virtual_seconds, 6),
        "wall_seconds": round(result.wall_seconds, 3),
    }


def _of_report(report: Report, saved: Path | None) -> dict[str, Any]:
    first = report.first
    return {
        "scenario": report.scenario,
        "target": report.target,
        "strategy": report.strategy,
        "schedules": report.schedules,
        "possible": report.possible,
        "inconclusive": report.inconclusive,
        "violations": report.violations,
        "first": None
        if first is None
        else {
            "seed": first.seed,
            "invariant": first.invariant,
            "message": first.message,
            "holds": [str(hold.message) for hold in first.plan.holds],
            "faults": [str(fault) for fault in first.plan.faults],
            "file": str(saved),
        },
        "steps": report.steps,
        "messages": report.messages,
        "virtual_seconds": round(report.virtual_seconds, 3),
        "wall_seconds": round(report.wall_seconds, 3),
    }


if __name__ == "__main__":
    main(prog_name="python -m sim")
