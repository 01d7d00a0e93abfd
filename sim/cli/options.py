"""Options and arguments that several commands have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from sim.cli.ending import USAGE, fail
from sim.errors import SimulatorError
from sim.processes.hosts import OtherRedis
from sim.processes.run import Places
from sim.scenario import Scenario, UnknownScenario, find
from sim.targets import UnknownTarget, load

Command = TypeVar("Command", bound=Callable[..., Any])

target_option = click.option(
    "--target", default="realtime", show_default=True, help="realtime, naive, or MODULE:FACTORY of your own."
)
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object per scenario and line.")


SIMULATOR, PROCESSES = "simulator", "processes"


def redis_option(about: str) -> Callable[[Command], Command]:
    """The URL of a lab's Redis; what is no URL of one ends the command."""

    def check(_context: click.Context, _option: click.Parameter, url: str | None) -> str | None:
        try:
            return url if url is None else OtherRedis(url).url
        except SimulatorError as error:
            raise click.BadParameter(str(error)) from None

    return click.option("--redis-url", callback=check, help=about)


def places_options(command: Command) -> Command:
    """Where runs are made; ``places_of`` makes sense of them."""
    options = (
        click.option(
            "--on",
            "lab",
            type=click.Choice((SIMULATOR, PROCESSES)),
            default=SIMULATOR,
            show_default=True,
            help="In virtual time, or on real processes and a real Redis.",
        ),
        click.option(
            "--instances",
            type=click.IntRange(1),
            help="On processes: so many at least, beside those that the scenario starts.",
        ),
        redis_option(
            "On processes: an empty database of a Redis that is there, redis://HOST:PORT/DATABASE; else one is started."
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def places_of(lab: str, instances: int | None, redis_url: str | None) -> Places | None:
    """None for the simulator. Ends the command when options do not go together."""
    if lab == PROCESSES:
        return Places(redis_url, instances=instances or 0)
    if instances is not None or redis_url is not None:
        raise click.UsageError("--instances and --redis-url are for --on processes")
    return None


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
