"""``python -m sim.picture CASE FILE``: draws a saved run, as a page (.html) or a still drawing (.svg)."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import click

from sim.case import Case
from sim.errors import SimulatorError
from sim.picture import write_page, write_svg

WRITERS = {".html": write_page, ".svg": write_svg}


@click.command()
@click.argument("case", type=click.Path(path_type=Path))
@click.argument("file", type=click.Path(path_type=Path))
def main(case: Path, file: Path) -> None:
    """Run the saved CASE again and draw it into FILE: a page if its name ends in .html, a drawing if in .svg."""
    writer = WRITERS.get(file.suffix)
    if writer is None:
        raise click.UsageError(f"{file}: the name ends in neither .html nor .svg")
    logging.disable(logging.CRITICAL)
    try:
        writer(file, Case.read(case))
    except SimulatorError as error:
        click.echo(str(error), err=True)
        sys.exit(3)
    finally:
        logging.disable(logging.NOTSET)
    click.echo(str(file))


if __name__ == "__main__":
    main(prog_name="python -m sim.picture")
