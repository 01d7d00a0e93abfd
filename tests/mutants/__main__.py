"""``python -m tests.mutants``: makes mutants of the layer by rule and says which of them no test notices.

Exit status: 0 enough of them were killed and every survivor is explained, 1 not so, 2 wrong usage, 3 the tests fail
without any mutant.
"""

from __future__ import annotations

import os
import random
import signal
import sys

import click
from rich.console import Console

from sim.processes.redis import RedisServer

from . import report
from .found import all_mutants
from .mutant import Mutant
from .runner import KILLED, SURVIVED, BaselineFailed, Fate, run


@click.command()
@click.option(
    "--only", multiple=True, metavar="FILE|RULE", help="Mutants whose file, rule or name contains this."
)
@click.option("--jobs", type=click.IntRange(1), default=2, show_default=True, help="Mutants at a time.")
@click.option("--sample", type=click.IntRange(1), help="So many of them, drawn by --seed.")
@click.option("--seed", default=0, show_default=True)
@click.option(
    "--again",
    is_flag=True,
    help="Those that survived or ran out of time when they last ran, and new ones.",
)
@click.option("--list", "only_list", is_flag=True, help="Show the mutants and run nothing.")
@click.option("--no-report", is_flag=True, help="Leave the report as it is.")
def main(
    only: tuple[str, ...],
    jobs: int,
    sample: int | None,
    seed: int,
    again: bool,
    only_list: bool,
    no_report: bool,
) -> None:
    """Make mutants of the layer and run the nearest tests on each. Updates reports/mutants.{md,json}."""
    console = Console()
    mutants = everything = all_mutants()
    if only:
        mutants = [mutant for mutant in mutants if any(word in mutant.name for word in only)]
    known = {row["name"]: row for row in report.saved()}
    if again:
        mutants = [each for each in mutants if known.get(each.name, {}).get("outcome", SURVIVED) != KILLED]
    if sample is not None:
        mutants = random.Random(seed).sample(mutants, min(sample, len(mutants)))
    if not mutants:
        raise click.UsageError("no mutant is called that: --list shows all")
    if only_list:
        for mutant in mutants:
            console.print(mutant.name, markup=False, highlight=False, soft_wrap=True)
        return
    fresh = _run(mutants, jobs, console)
    report.show(fresh, console)
    if not no_report:
        whole = {**known, **{row["name"]: row for row in fresh}}
        rows = [whole[each.name] for each in everything if each.name in whole]
        report.save(rows, missing=len(everything) - len(rows))
    killed, counted = report.judge(fresh)
    console.print(f"{killed} of {counted} killed: {report.percent(fresh):.1f} %")
    enough = killed >= report.WANTED * counted
    sys.exit(0 if enough and not report.unexplained(fresh) else 1)


def _run(mutants: list[Mutant], jobs: int, console: Console) -> list[report.Row]:
    rows: list[report.Row] = []

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    def done(fate: Fate) -> None:
        rows.append(report.row(fate))
        say(f"{len(rows)}/{len(mutants)} {report.line(fate.mutant, fate.outcome, fate.by, fate.seconds)}")

    # However it is ended, nothing that it started stays.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with RedisServer(name="redis-mutants") as server:
        os.environ["REDIS_URL"] = server.url
        try:
            run(mutants, jobs=jobs, told=say, done=done)
        except BaselineFailed as error:
            say(str(error))
            sys.exit(3)
        except KeyboardInterrupt:
            say("interrupted: this is what was found so far")
    return rows


if __name__ == "__main__":
    main(prog_name="python -m tests.mutants")
