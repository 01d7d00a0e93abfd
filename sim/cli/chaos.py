"""``chaos``: hundreds of faults of all kinds on real processes, and whether all is right after each."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sys
from pathlib import Path

import click

from sim.cli.ending import FAILED, HELD, VIOLATED, fail
from sim.cli.options import json_option, redis_option
from sim.cli.progress import Bar
from sim.errors import SimulatorError
from sim.interrupt import Interrupt
from sim.processes.chaos.report import conclusion, to_json, write
from sim.processes.chaos.session import Session
from sim.processes.process import ProcessError
from sim.processes.redis import NoRedisServer, find_server, server_version


@click.command("chaos")
@click.option("--faults", type=click.IntRange(1), default=200, show_default=True)
@click.option("--instances", type=click.IntRange(2), default=3, show_default=True)
@click.option("--clients", type=click.IntRange(10), default=100, show_default=True)
@click.option("--seed", type=int, help="Of the order of faults and of what they strike. [default: a new one]")
@redis_option("An empty database of a Redis that is there; what would disturb others is left out.")
@click.option(
    "--reports",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("reports") / "out",
    show_default=True,
    help="Folder for chaos.md and chaos.json.",
)
@json_option
def chaos(
    faults: int,
    instances: int,
    clients: int,
    seed: int | None,
    redis_url: str | None,
    reports: Path,
    as_json: bool,
) -> None:
    """Strike a fleet of `realtime` with faults of all kinds, and see how long until all is right again.

    Ends with 1 when an invariant broke, with 3 when the lab failed. Ctrl-C ends it, with every process of it; the
    report has what was done until then.
    """
    chosen = random.SystemRandom().randrange(1_000_000) if seed is None else seed
    session = Session(faults, instances, clients, chosen)
    try:
        found = find_server()
        with Interrupt() as interrupt, Bar() as bar:

            def watch(session: Session) -> None:
                last = session.struck[-1].kind if session.struck else "everybody comes"
                bar.show(f"chaos, seed {chosen}: {last}", len(session.struck), faults)
                interrupt.check()

            with contextlib.suppress(KeyboardInterrupt):
                asyncio.run(session.run(redis_url=redis_url, redis_binary=found, watch=watch))
            session.interrupted = interrupt.pressed
    except NoRedisServer as error:
        fail(str(error), FAILED)
    except (SimulatorError, ProcessError) as error:
        session.failed = str(error)
    version = server_version(found)
    written = write(session, reports, server=f"{version.product} {version.major}.{version.minor}")
    if as_json:
        click.echo(json.dumps(to_json(session)))
    else:
        for line in [*conclusion(session), f"written: {', '.join(map(str, written))}"]:
            click.echo(line)
    sys.exit(VIOLATED if session.broken else FAILED if session.interrupted or session.failed else HELD)
