"""``confirm``: what the simulator says of both targets, tried on real processes."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

import click

from sim.case import versions
from sim.cli.ending import FAILED, fail, status_of
from sim.cli.options import jobs_option, json_option, scenario_of
from sim.cli.progress import Bar
from sim.confirmation import NAIVE, REALTIME, Confirmation, Confirming, outcome_of, problems, with_columns
from sim.errors import SimulatorError
from sim.interrupt import Interrupt
from sim.processes.process import ProcessError
from sim.processes.redis import find_server, server_version
from sim.processes.run import Places
from sim.scenario import scenarios
from sim.workers import Processes


@click.command("confirm")
@click.argument("names", nargs=-1, metavar="[SCENARIO]...")
@click.option("--tries", type=click.IntRange(0), default=20, show_default=True, help="Of each on naive.")
@click.option(
    "--realtime-tries", type=click.IntRange(0), default=8, show_default=True, help="Of each on realtime."
)
@click.option(
    "--add", "adds", is_flag=True, help="To the tries that confirm.json has, instead of in their place."
)
@jobs_option(4 * (os.cpu_count() or 1))
@click.option(
    "--reports",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("reports") / "out",
    show_default=True,
    help="Folder of confirm.json, into which what was tried goes, and of races.md, whose tables get its columns.",
)
@json_option
def confirm(
    names: tuple[str, ...],
    tries: int,
    realtime_tries: int,
    adds: bool,
    jobs: int,
    reports: Path,
    as_json: bool,
) -> None:
    """Try every scenario (or each SCENARIO) on real processes: how many tries break naive, and none realtime?

    Ends with 1 if realtime broke, with 3 if naive did not where the simulator says that it does. Ctrl-C ends it, and
    what was done until then counts.
    """
    chosen = [scenario_of(name) for name in names] or list(scenarios().values())
    wanted = {NAIVE: tries, REALTIME: realtime_tries}
    try:
        with Interrupt() as interrupt, Processes(jobs) as hands, Bar() as bar:

            def watch(what: str, done: int, total: int) -> None:
                bar.show(what, done, total)
                interrupt.check()

            before = Confirmation.read(reports) if adds else Confirmation()
            confirming = Confirming(
                chosen,
                hands,
                {target: many for target, many in wanted.items() if many},
                Places(),
                watch,
                before,
            )
            with contextlib.suppress(KeyboardInterrupt):
                confirming.run()
        if interrupt.pressed and not confirming.rows:
            fail("interrupted before the first try", FAILED)
        for key, row in before.rows.items():
            if key in confirming.rows:
                confirming.rows[key].add_all(row)
        rows = [confirming.rows[key] for key in sorted(confirming.rows)]
        written = _write(confirming, reports)
    except (SimulatorError, ProcessError) as error:
        fail(str(error), FAILED)
    for row in rows:
        shown = {**asdict(row), "problem": row.problem(scenario_of(row.scenario).kind)}
        click.echo(json.dumps(shown) if as_json else f"{row.scenario:26} {row.target:9} {row}")
    if not as_json:
        for problem in problems(rows) or ["the two labs agree"]:
            click.echo(problem)
        click.echo(f"written: {', '.join(map(str, written))}")
    sys.exit(status_of([outcome_of(rows)]))


def _write(confirming: Confirming, folder: Path) -> list[Path]:
    known = Confirmation.read(folder)
    known.rows.update(confirming.rows)
    server = server_version(find_server())
    known.made = {**versions(), server.product.lower(): f"{server.major}.{server.minor}"}
    written = [known.save(folder)]
    page = folder / "races.md"
    if page.exists():
        page.write_text(with_columns(page.read_text(), known))
        written.append(page)
    return written
