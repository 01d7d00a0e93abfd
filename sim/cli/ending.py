"""How a command ends: its exit status."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import NoReturn

import click

from sim.run import Outcome

HELD, VIOLATED, USAGE, FAILED = 0, 1, 2, 3


def status_of(outcomes: Iterable[Outcome]) -> int:
    """A violation outweighs a failure, and that an outcome that says nothing."""
    found = set(outcomes)
    if Outcome.VIOLATED in found:
        return VIOLATED
    return HELD if found <= {Outcome.HELD} else FAILED


def fail(message: str, status: int) -> NoReturn:
    """Says why on standard error, and ends."""
    click.echo(message, err=True)
    sys.exit(status)
