"""``python -m sim``: list scenarios, run one, explore schedules, replay, compare targets, serve a cluster.

Exit status: 0 all invariants held, 1 a violation, 2 wrong usage, 3 the simulator failed or too many runs were
inconclusive.
"""

from __future__ import annotations

import logging
import signal
from typing import Any

import click

from sim.cli.chaos import chaos
from sim.cli.clustering import run_cluster
from sim.cli.comparing import compare_targets
from sim.cli.confirming import confirm
from sim.cli.determinism import check_determinism
from sim.cli.ending import FAILED, fail
from sim.cli.exploring import explore_many
from sim.cli.including import inclusion
from sim.cli.indexing import index
from sim.cli.looking import list_scenarios, replay_file, run_one


class Commands(click.Group):
    """Ctrl-C says nothing of invariants, where click's own exit status would mean that one broke."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except KeyboardInterrupt:
            fail("interrupted", FAILED)


@click.group(cls=Commands)
@click.option("--verbose", is_flag=True, help="Show what the simulated hosts log.")
@click.pass_context
def main(context: click.Context, verbose: bool) -> None:
    """Run scenarios on the real stack in virtual time, and find the schedules that break them.

    Exit status: 0 all invariants held, 1 a violation, 2 wrong usage, 3 the simulator failed or too many runs were
    inconclusive.
    """
    if not verbose:
        logging.disable(logging.CRITICAL)
        context.call_on_close(lambda: logging.disable(logging.NOTSET))


for command in (
    list_scenarios,
    run_one,
    explore_many,
    replay_file,
    compare_targets,
    check_determinism,
    run_cluster,
    confirm,
    chaos,
    inclusion,
    index,
):
    main.add_command(command)

if __name__ == "__main__":
    # Who is told to end takes everything along that it has started, as after Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    main(prog_name="python -m sim")
