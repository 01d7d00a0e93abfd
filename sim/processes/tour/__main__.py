"""Runs the tour: `python -m sim.processes.tour`.

Exit status 0: all as it should be; 1: something is off; 2: wrong usage; 3: the lab itself could not run.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import click
from rich.console import Console
from rich.live import Live

from sim.processes.process import ProcessError
from sim.processes.tour import joining, leaving, talking
from sim.processes.tour.lab import Lab
from sim.processes.tour.report import Row, failures_of, row_of, table_of

EXIT_OFF = 1
EXIT_NO_LAB = 3
CHECKS = (*joining.CHECKS, *talking.CHECKS, *leaving.CHECKS)
WIDTH = 110
"""Of the table where there is no terminal to ask."""

INTRODUCTION = """\
[bold]A tour of the real-time layer.[/] Two instances and an application with the layer inside share one Redis;
real Socket.IO clients connect to both instances. Each row is one thing that was done and what came of it.
"""
HINT = """\
[bold]Next:[/] [cyan]pip install -e . && python -m realtime --demo[/] serves one instance; README.md has clients for it.
      [cyan]nox -s test[/] runs every test, [cyan]nox -s bench[/] measures.
"""


@click.command()
@click.option(
    "--redis-binary",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Start this Redis-compatible server, not the first one found.",
)
@click.option("--without-node", is_flag=True, help="Leave the JavaScript clients out.")
def main(redis_binary: Path | None, without_node: bool) -> None:
    """Start two instances over a real Redis, put real clients to them, and show what was seen."""
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    try:
        sys.exit(asyncio.run(tour(console, redis_binary=redis_binary, without_node=without_node)))
    except ProcessError as error:
        click.echo(f"The tour could not run: {error}", err=True)
        sys.exit(EXIT_NO_LAB)
    except KeyboardInterrupt:
        sys.exit(130)


async def tour(console: Console, *, redis_binary: Path | None, without_node: bool) -> int:
    """Run every check and print the table; returns the exit status."""
    start = time.perf_counter()
    console.print(INTRODUCTION)
    rows: list[Row] = []
    with Live(table_of(rows, CHECKS[0]), console=console, refresh_per_second=10) as live:
        async with Lab(redis_binary=redis_binary, without_node=without_node) as lab:
            for check in CHECKS:
                live.update(table_of(rows, check))
                rows.append(await row_of(check, lab))
        live.update(table_of(rows))
    return conclude(console, rows, time.perf_counter() - start)


def conclude(console: Console, rows: list[Row], taken: float) -> int:
    """Print what to remember; returns the exit status."""
    counts = {state: sum(row.state == state for row in rows) for state in ("ok", "off", "not run")}
    console.print("\n", end="")
    for line in failures_of(rows):
        console.print(line, soft_wrap=True)
    if not_run := [row.check.title for row in rows if row.state == "not run"]:
        console.print(f"[yellow]not run:[/] {', '.join(not_run)}", soft_wrap=True)
    colour = "bold red" if counts["off"] else "bold green"
    parts = [f"[{colour}]{counts['ok']} ok, {counts['off']} off[/]"]
    parts += [f"[yellow]{counts['not run']} not run[/]"] if counts["not run"] else []
    console.print(f"{', '.join(parts)}, in {taken:.0f} s.\n")
    console.print(HINT, end="")
    return EXIT_OFF if counts["off"] else 0


if __name__ == "__main__":
    main(prog_name="python -m sim.processes.tour")
