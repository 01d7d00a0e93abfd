"""Options and arguments that several commands have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from sim.cli.ending import USAGE, fail
from sim.scenario import Scenario, UnknownScenario, find
from sim.targets import UnknownTarget, load

Command = TypeVar("Command", bound=Callable[..., Any])

target_option = click.option(
    "--target", default="realtime", show_default=True, help="realtime, naive, or MODULE:FACTORY of your own."
)
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object per scenario and line.")


def jobs_option(default: int) -> Callable[[Command], Command]:
    return click.option(
        "--jobs",
        type=click.IntRange(1),
        default=default,
        show_default=True,
        help="Worker processes; the results are the same whatever their number.",
    )


def scenario_of(name: str) -> Scenario:
    """Ends the command when there is none, with the nearest names."""
    try:
        return find(name)
    except UnknownScenario as error:
        fail(str(error), USAGE)


def check_target(name: str) -> None:
    """Ends the command when there is none."""
    try:
        load(name)
    except UnknownTarget as error:
        fail(str(error), USAGE)
