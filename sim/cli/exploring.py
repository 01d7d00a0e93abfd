"""``explore``: many schedules of one or of all scenarios."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path

import click

from sim.case import Case
from sim.cli.ending import FAILED, fail, status_of
from sim.cli.options import (
    check_target,
    jobs_option,
    json_option,
    places_of,
    places_options,
    scenario_of,
    target_option,
)
from sim.cli.progress import Bar
from sim.cli.trying import explore_on_processes
from sim.cli.words import lines, report_to_json
from sim.errors import SimulatorError
from sim.explore import Report, explore
from sim.interrupt import Interrupt
from sim.run import Outcome
from sim.scenario import scenarios
from sim.strategies import NAMES, strategy
from sim.workers import workers

CASES = Path("reports") / "out" / "cases"


@click.command("explore")
@click.argument("names", nargs=-1, metavar="[SCENARIO]...")
@target_option
@click.option(
    "--strategy",
    "strategy_name",
    type=click.Choice(NAMES),
    default="single-fault",
    show_default=True,
    help="single-fault and pairs try every one there is and say how many of how many; random goes on for ever.",
)
@click.option("--schedules", type=click.IntRange(1), help="Try at most so many schedules of each scenario.")
@click.option(
    "--seconds", type=click.FloatRange(0, min_open=True), help="Spend at most so long on each scenario."
)
@jobs_option(1)
@click.option("--all", "go_on", is_flag=True, help="Go on after a scenario's first violation.")
@json_option
@places_options
def explore_many(
    names: tuple[str, ...],
    target: str,
    strategy_name: str,
    schedules: int | None,
    seconds: float | None,
    jobs: int,
    go_on: bool,
    as_json: bool,
    lab: str,
    instances: int | None,
    redis_url: str | None,
) -> None:
    """Try many schedules of each SCENARIO (all if none is named), and shrink the first that breaks it.

    On processes each is tried again and again under random delays and faults, 20 times unless --schedules or
    --seconds says otherwise, and nothing is shrunk. Ctrl-C ends it and prints what was found so far.
    """
    chosen = [scenario_of(name) for name in names] or list(scenarios().values())
    check_target(target)
    places = places_of(lab, instances, redis_url)
    if places is not None:
        if redis_url is not None and jobs > 1:
            raise click.UsageError("one database is for one run at a time: leave --jobs or --redis-url away")
        explore_on_processes(
            chosen, target, places, schedules=schedules, seconds=seconds, jobs=jobs, as_json=as_json
        )
    if len(chosen) > 1 and schedules is None and seconds is None and strategy(strategy_name).endless:
        raise click.UsageError(
            f"{strategy_name} never comes to a second scenario: give --schedules or --seconds"
        )
    outcomes: list[Outcome] = []
    try:
        with Interrupt() as interrupt, workers(jobs) as hands, contextlib.ExitStack() as shown:
            bar = shown.enter_context(Bar())

            def watch(report: Report) -> None:
                ends = (each for each in (schedules, report.possible) if each is not None)
                doing = "shrinking" if report.first else "exploring"
                bar.show(f"{doing} {report.scenario}", report.schedules, min(ends, default=None))
                interrupt.check()

            for each in chosen:
                report = explore(
                    each,
                    target,
                    strategy(strategy_name),
                    schedules=schedules,
                    seconds=seconds,
                    stop_at_first=not go_on,
                    workers=hands,
                    watch=watch,
                )
                outcomes.append(report.outcome)
                saved = _save(report)
                click.echo(json.dumps(report_to_json(report, saved)) if as_json else lines(report, saved))
                if report.interrupted:
                    break
    except SimulatorError as error:
        fail(str(error), FAILED)
    sys.exit(status_of(outcomes))


def _save(report: Report) -> Path | None:
    if report.first is None:
        return None
    path = CASES / f"{report.scenario}-{report.target}.json".replace(":", ".")
    Case.of(report.scenario, report.target, report.first).save(path)
    return path
