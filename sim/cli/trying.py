"""``explore --on processes``: tries of scenarios on real processes, and how many of them showed the fault."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import closing

import click

from sim.cli.ending import FAILED, fail, status_of
from sim.cli.progress import Bar
from sim.cli.words import MOST_NAMED, report_to_json
from sim.errors import SimulatorError
from sim.explore import Report, Undisturbed, begin_on_processes, search
from sim.interrupt import Interrupt
from sim.processes.process import ProcessError
from sim.processes.run import Places
from sim.run import Outcome
from sim.scenario import Scenario
from sim.strategies.tries import Tries
from sim.workers import Processes

TRIES = 20


def explore_on_processes(
    chosen: Sequence[Scenario],
    target: str,
    places: Places,
    *,
    schedules: int | None,
    seconds: float | None,
    jobs: int,
    as_json: bool,
) -> None:
    """Ends the command. Without a limit there are ``TRIES`` of each scenario."""
    outcomes: list[Outcome] = []
    limit = schedules if schedules is not None or seconds is not None else TRIES
    try:
        # Always in workers: they can be ended in the middle of a run, with all that they started.
        with Interrupt() as interrupt, Processes(jobs) as hands, Bar() as bar:

            def watch(report: Report) -> None:
                bar.show(f"trying {report.scenario}", report.schedules, limit)
                interrupt.check()

            for scenario in chosen:
                begin = _begin(scenario, target, places, hands, interrupt)
                report = search(
                    scenario,
                    target,
                    Tries(),
                    schedules=limit,
                    seconds=seconds,
                    stop_at_first=False,
                    workers=hands,
                    watch=watch,
                    begin=begin,
                    places=places,
                )
                outcomes.append(report.outcome)
                shown = {**report_to_json(report, None), "on": "processes"}
                click.echo(json.dumps(shown) if as_json else lines_of_tries(report))
                if report.interrupted:
                    break
    except KeyboardInterrupt:
        fail("interrupted before the first try", FAILED)
    except (SimulatorError, ProcessError) as error:
        fail(str(error), FAILED)
    sys.exit(status_of(outcomes))


def _begin(
    scenario: Scenario, target: str, places: Places, hands: Processes, interrupt: Interrupt
) -> Undisturbed:
    with closing(hands.map(begin_on_processes, [(scenario.name, target, places)])) as answers:
        for answer in answers:
            interrupt.check()
            if answer is not None:
                return answer
    raise SimulatorError(f"{scenario.name} was not run")


def lines_of_tries(report: Report) -> str:
    """What came of the tries of one scenario."""
    head = f"{report.scenario:26} {report.outcome:12} {report.violations} of {report.runs} tries showed the fault"
    head += f", {report.inconclusive} inconclusive" if report.inconclusive else ""
    head += ", interrupted" if report.interrupted else ""
    body = []
    if report.first is not None:
        body += [f"first: {report.first.plan}", report.first.message]
    planned = Counter({kind: times for kind, times in report.coverage.planned.items() if times})
    if planned:
        took = ", ".join(f"{kind} {report.coverage.bitten[kind]} of {n}" for kind, n in planned.items())
        body.append(f"took effect: {took}")
    body += [f"failed: {failure}" for failure in report.failures[:MOST_NAMED]]
    return "\n    ".join([head, *body])
