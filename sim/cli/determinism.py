"""``determinism``: the same seeds in several processes are the same runs, and what is not would be noticed."""

from __future__ import annotations

import sys

import click

from sim.cli.ending import FAILED, HELD, fail
from sim.cli.options import check_target, scenario_of, target_option
from sim.cli.progress import Bar
from sim.determinism_check import LEAK, Finding, Job, check_all, hash_of_x_elsewhere
from sim.errors import SimulatorError
from sim.interrupt import Interrupt
from sim.leaks import LEAKS
from sim.scenario import scenarios

USUAL = ("soak", "user-pool-lost-update", "redis-restart")
RUNS_HERE = 2
"""Of each seed: one to compare with, and the same again."""


@click.command("determinism")
@click.option("--seeds", type=click.IntRange(1), default=20, show_default=True, help="Of each scenario.")
@click.option(
    "--scenario",
    "names",
    multiple=True,
    metavar="NAME",
    help=f"May be given several times. [default: {', '.join(USUAL)}]",
)
@target_option
def check_determinism(seeds: int, names: tuple[str, ...], target: str) -> None:
    """Run each seed twice here and once in two processes that hash strings differently: all must be the same run.

    Then the planted leaks, ten ways for a run to depend on more than its seed: each must be found. Ends with 3 if runs
    differ or a leak is not found.
    """
    chosen = [scenario_of(name).name for name in names] or [name for name in USUAL if name in scenarios()]
    check_target(target)
    try:
        with Interrupt() as interrupt, Bar() as bar:
            fine = _hashes_differ()
            for name in chosen:
                fine &= _same(Job(name, target, tuple(range(1, seeds + 1))), bar, interrupt)
            fine &= _leaks_found(bar, interrupt)
    except KeyboardInterrupt:
        fail("interrupted: what is not printed was not checked", FAILED)
    except SimulatorError as error:
        fail(str(error), FAILED)
    sys.exit(HELD if fine else FAILED)


def _hashes_differ() -> bool:
    """Otherwise other processes show nothing."""
    hashes = [hash("x"), *hash_of_x_elsewhere()]
    differ = len({*hashes}) == len(hashes)
    click.echo(
        f'hash("x") {"differs in all" if differ else "IS THE SAME in some"} of {len(hashes)} processes'
    )
    return differ


def _same(job: Job, bar: Bar, interrupt: Interrupt) -> bool:
    findings = _checked([job], f"{job.scenario} on {job.target}", bar, interrupt)
    for finding in findings:
        click.echo(str(finding))
    seeds = len(job.seeds)
    click.echo(
        f"{job.scenario} on {job.target}: {seeds - len(findings)} of {seeds} seeds are the same run again"
    )
    return not findings


def _leaks_found(bar: Bar, interrupt: Interrupt) -> bool:
    findings = _checked([Job(LEAK + name, "naive", (1,)) for name in LEAKS], "planted leaks", bar, interrupt)
    found = {finding.scenario.removeprefix(LEAK) for finding in findings}
    for name, leak in LEAKS.items():
        click.echo(f"  {'found    ' if name in found else 'NOT FOUND'} {name}: {leak.about}")
    click.echo(f"{len(found)} of {len(LEAKS)} planted leaks detected")
    return found == set(LEAKS)


def _checked(jobs: list[Job], what: str, bar: Bar, interrupt: Interrupt) -> list[Finding]:
    done = 0

    def watch() -> None:
        nonlocal done
        done += 1
        bar.show(what, done, RUNS_HERE * sum(len(job.seeds) for job in jobs))
        interrupt.check()

    return check_all(jobs, watch=watch)
