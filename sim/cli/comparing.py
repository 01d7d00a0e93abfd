"""``compare``: every scenario on both targets, the job that a newcomer runs first."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table as RichTable

from sim.case import Case
from sim.cli.ending import FAILED, fail, status_of
from sim.cli.options import jobs_option, json_option, scenario_of
from sim.cli.progress import Bar
from sim.cli.words import report_to_json
from sim.compare import Comparing, Comparison, Row
from sim.confirmation import Confirmation, with_columns
from sim.errors import SimulatorError
from sim.explore import Report
from sim.interrupt import Interrupt
from sim.pages import write_page_of
from sim.races import Table, conclusion, markdown, tables
from sim.scenario import scenarios
from sim.workers import Workers, workers

PIPE_WIDTH = 150


@click.command("compare")
@click.argument("names", nargs=-1, metavar="[SCENARIO]...")
@click.option("--exhaustive", is_flag=True, help="Every single disturbance, and 2,000 random workloads.")
@click.option(
    "--seconds",
    type=click.FloatRange(0, min_open=True),
    default=45.0,
    show_default=True,
    help="For all runs together, unless exhaustive; shared out over the scenarios.",
)
@jobs_option(os.cpu_count() or 1)
@click.option(
    "--reports",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("reports"),
    show_default=True,
    help="Folder for races.md and cases; of a bounded comparison they go into its folder out, as do all pages.",
)
@json_option
def compare_targets(
    names: tuple[str, ...], exhaustive: bool, seconds: float, jobs: int, reports: Path, as_json: bool
) -> None:
    """Try every scenario (or each SCENARIO) on both targets: naive must break, realtime must hold.

    Ends with 1 if realtime broke, with 3 if naive did not or broke without being disturbed. Ctrl-C ends it and
    prints what was found so far.
    """
    chosen = [scenario_of(name) for name in names] or list(scenarios().values())
    try:
        with Interrupt() as interrupt, workers(jobs) as hands:
            with Bar() as bar:

                def watch(what: str, done: int, total: int | None) -> None:
                    bar.show(what, done, total)
                    interrupt.check()

                done = Comparing(chosen, hands, None if exhaustive else seconds, watch).run()
            folder = reports if done.whole else reports / "out"
            cases = _write(done, folder)
            if as_json:
                for row in done.rows:
                    click.echo(json.dumps(_row_to_json(row, cases)))
            else:
                _show(done)
            pages = [] if interrupt.pressed else _pages(hands, cases, reports / "out" / "pages")
    except SimulatorError as error:
        fail(str(error), FAILED)
    if not as_json:
        _show_written(folder / "races.md", cases, pages)
    sys.exit(status_of(done.outcomes))


def _write(done: Comparison, folder: Path) -> dict[str, Path]:
    """Writes ``races.md`` and every case; the cases by the fingerprints of their runs."""
    if done.whole:
        # What broke in an earlier comparison and breaks no more is no case any more.
        for case in (folder / "cases").glob("*.json"):
            case.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "races.md").write_text(with_columns(markdown(done), Confirmation.read(folder)))
    return {each.first.fingerprint: _save(each, folder) for each in _reports(done) if each.first}


def _reports(done: Comparison) -> list[Report]:
    return [report for row in done.rows for report in (row.naive, row.realtime) if report is not None]


def _save(report: Report, folder: Path) -> Path:
    assert report.first is not None
    path = folder / "cases" / f"{report.scenario}-{report.target}.json"
    Case.of(report.scenario, report.target, report.first).save(path)
    return path


def _pages(hands: Workers, cases: dict[str, Path], folder: Path) -> list[Path]:
    wanted = [(folder / f"{case.stem}.html", case) for case in cases.values()]
    with closing(hands.map(write_page_of, wanted)) as answers:
        return [page for page in answers if page is not None]


def _row_to_json(row: Row, cases: dict[str, Path]) -> dict[str, object]:
    """The report on ``realtime``, with that on ``naive`` under its name."""

    def shown(report: Report | None) -> dict[str, object] | None:
        if report is None:
            return None
        return report_to_json(report, cases.get(report.first.fingerprint) if report.first else None)

    about = {
        "kind": row.scenario.kind,
        "waits": row.scenario.waits,
        "verdict": row.outcome,
        "problems": row.problems(),
        "naive_undisturbed": None if row.naive_undisturbed is None else row.naive_undisturbed.outcome,
        "naive": shown(row.naive),
    }
    empty = {"scenario": row.scenario.name, "target": "realtime", "schedules": 0}
    return {**(shown(row.realtime) or empty), **about}


def _show(done: Comparison) -> None:
    console = Console(markup=False, highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)
    for table in tables(done):
        console.print(f"{table.title}. {table.about}")
        console.print(_rich(table))
        console.print()
    for line in conclusion(done):
        console.print(line)


def _show_written(page: Path, cases: dict[str, Path], pages: Sequence[Path]) -> None:
    click.echo("\nwritten:")
    drawn = {page.stem: page for page in pages}
    for case in cases.values():
        drawing = f"  # drawn: {drawn[case.stem]}" if case.stem in drawn else ""
        click.echo(f"  python -m sim replay {case}{drawing}")
    click.echo(f"  {page}")


def _rich(table: Table) -> RichTable:
    shown = RichTable()
    for number, column in enumerate(table.columns):
        right = number in table.numbers
        shown.add_column(column, justify="right" if right else "left", overflow="fold")
    for row in table.rows:
        shown.add_row(*row)
    return shown
