"""``inclusion``: runs on real processes, each replayed in the simulator by its order of commands at Redis."""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import click

from sim.cli.ending import FAILED, HELD, VIOLATED, fail
from sim.cli.options import check_target, jobs_option, json_option, scenario_of
from sim.cli.progress import Bar
from sim.errors import SimulatorError
from sim.explore import undisturbed
from sim.inclusion import JITTERS, Inboxes, by_key, replay_order
from sim.interrupt import Interrupt
from sim.likeness import names_of
from sim.plan import Plan
from sim.processes.lab import bound
from sim.processes.monitor import Seen
from sim.processes.process import ProcessError
from sim.processes.run import run_on_processes, undisturbed_on_processes
from sim.run import Outcome
from sim.scenario import find
from sim.strategies.tries import Tries
from sim.targets import load
from sim.workers import Processes

USUAL = ("user-pool-lost-update", "reload-goes-offline", "stale-user-list", "usage-lost-update")


@dataclass(frozen=True, slots=True)
class Compared:
    """One real run and its twin. ``really`` and ``simulated``: outcome and invariant of each."""

    scenario: str
    seed: int
    really: str
    simulated: str
    same_order: bool
    rounds: int
    message: str

    @property
    def agrees(self) -> bool:
        return self.same_order and self.really == self.simulated


@click.command("inclusion")
@click.argument("names", nargs=-1, metavar="[SCENARIO]...")
@click.option("--target", default="naive", show_default=True, help="As elsewhere.")
@click.option("--runs", type=click.IntRange(1), default=50, show_default=True, help="All together.")
@jobs_option(2 * (os.cpu_count() or 1))
@click.option(
    "--reports",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder into which inclusion.md goes: each scenario's runs, and what they came to.",
)
@json_option
def inclusion(
    names: tuple[str, ...], target: str, runs: int, jobs: int, reports: Path | None, as_json: bool
) -> None:
    """Run scenarios on real processes under random delays, and replay each run's order of commands in the simulator.

    It has to come to the same outcome; ends with 1 where it does not, and with 3 where a run failed or its order could
    not be enforced. By default the races of shared dictionaries are tried.
    """
    chosen = [scenario_of(name).name for name in names or USUAL]
    check_target(target)
    done: list[Compared] = []
    try:
        with Interrupt() as interrupt, Processes(jobs) as hands, Bar() as bar:
            wanted = itertools.islice(_wanted(chosen, target), runs)
            with closing(hands.map(compare, wanted)) as answers:
                for answer in answers:
                    bar.show("inclusion", len(done), runs)
                    interrupt.check()
                    if answer is not None:
                        done.append(answer)
                        _show(answer, as_json=as_json)
    except KeyboardInterrupt:
        fail("interrupted", FAILED)
    except (SimulatorError, ProcessError) as error:
        fail(str(error), FAILED)
    if reports is not None:
        reports.mkdir(parents=True, exist_ok=True)
        (reports / "inclusion.md").write_text(page(done, target), encoding="utf-8")
    if not as_json:
        click.echo(
            f"{sum(each.agrees for each in done)} of {len(done)} runs: the same order, the same outcome"
        )
    sys.exit(_status(done))


def compare(wanted: tuple[str, str, int]) -> Compared:
    """One run on processes under the try of that seed, and its replay."""
    name, target, seed = wanted
    scenario, factory = find(name), load(target)
    names = names_of(undisturbed(scenario, target)[1].messages)
    _result, baseline = undisturbed_on_processes(scenario, target, names=names)
    plan = next(plan for number, plan in Tries().plans(baseline) if number == seed).without_faults
    seen: list[Seen] = []
    inboxes = Inboxes()
    real = run_on_processes(scenario, target, plan, names=names, seen=seen, observers=[inboxes])
    if real.outcome is Outcome.FAILED:
        return Compared(name, seed, str(real.outcome), "", False, 0, real.message)
    twin = replay_order(
        scenario,
        factory,
        by_key(seen),
        at_instances=inboxes.orders(),
        alike=lambda each: (each.outcome, each.invariant) == (real.outcome, real.invariant),
        beginnings=list(dict.fromkeys((plan, Plan(), *JITTERS))),
        bound=bound,
    )
    return Compared(
        name,
        seed,
        f"{real.outcome} {real.invariant}".strip(),
        f"{twin.result.outcome} {twin.result.invariant}".strip(),
        twin.same_order,
        twin.rounds,
        real.message,
    )


def page(done: Sequence[Compared], target: str) -> str:
    """The runs as Markdown, by scenario."""
    agree = sum(each.agrees for each in done)
    lines = [
        "# Inclusion",
        "",
        f"{len(done)} runs of the target {target} on real processes and a real Redis, under random delays. The order",
        "in which conflicting commands came to that Redis was enforced in the simulator, which had to come to the same",
        f"outcome. It did so for **{agree} of {len(done)}** (`python -m sim inclusion --runs {len(done)}`). That shows",
        "that what happened is something that the simulator can do, not that it is all that may happen in that order.",
        "",
        "| scenario | runs | violated, really | same order | and same outcome | attempts at the order, at most |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for name in dict.fromkeys(sorted(each.scenario for each in done)):
        runs = [each for each in done if each.scenario == name]
        figures = (
            len(runs),
            sum(each.really.startswith(Outcome.VIOLATED) for each in runs),
            sum(each.same_order for each in runs),
            sum(each.agrees for each in runs),
            max(each.rounds for each in runs),
        )
        lines.append(f"| {name} | {' | '.join(map(str, figures))} |")
    for each in done:
        if not each.agrees:
            lines += [
                "",
                f"{each.scenario}, try {each.seed}: really {each.really}, simulated {each.simulated}.",
            ]
    return "\n".join(lines) + "\n"


def _wanted(names: list[str], target: str) -> Iterator[tuple[str, str, int]]:
    """By turns."""
    for seed in itertools.count(1):
        for name in names:
            yield name, target, seed


def _show(each: Compared, *, as_json: bool) -> None:
    if as_json:
        shown = {name: getattr(each, name) for name in each.__slots__}
        click.echo(json.dumps({**shown, "agrees": each.agrees}))
    elif not each.agrees:
        order = "" if each.same_order else ", whose order could not be enforced"
        click.echo(
            f"{each.scenario}, try {each.seed}: really {each.really}, simulated {each.simulated}{order}"
        )


def _status(done: list[Compared]) -> int:
    if any(each.same_order and not each.agrees for each in done):
        return VIOLATED
    return HELD if all(each.agrees for each in done) else FAILED
