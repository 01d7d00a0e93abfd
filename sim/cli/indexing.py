"""``index``: one page that leads to everything that was found."""

from __future__ import annotations

from pathlib import Path

import click

from sim.cli.ending import FAILED, fail
from sim.errors import SimulatorError
from sim.picture.contents import write_index


@click.command("index")
@click.option(
    "--reports",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    default=Path("reports"),
    show_default=True,
    help="Folder of the reports, with the cases in `cases`.",
)
def index(reports: Path) -> None:
    """Draw the races that best show what happens, and write `index.html`, which leads to them and to every report."""
    try:
        click.echo(f"written: {write_index(reports)}")
    except SimulatorError as error:
        fail(str(error), FAILED)
