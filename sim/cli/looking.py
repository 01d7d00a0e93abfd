"""``list``, ``run`` and ``replay``: one look at one thing."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import NoReturn

import click

from sim.case import Case, replay
from sim.cli.ending import FAILED, fail, status_of
from sim.cli.options import (
    PROCESSES,
    check_target,
    json_option,
    places_of,
    places_options,
    scenario_of,
    target_option,
)
from sim.cli.words import result_to_json, sentence
from sim.errors import SimulatorError
from sim.explore import undisturbed
from sim.picture import write_page
from sim.processes.process import ProcessError
from sim.processes.run import Places, undisturbed_on_processes
from sim.scenario import Scenario, scenarios

html_option = click.option(
    "--html", type=click.Path(path_type=Path), help="Write the run as a page to look at, one file."
)


@click.command("list")
@json_option
def list_scenarios(as_json: bool) -> None:
    """Show every scenario and what it is about.

    Its kind: r, a race or outage; d, a fault of the design; n, only a layer with leases has it; s, a random workload.
    """
    for each in scenarios().values():
        if as_json:
            shown = {"scenario": each.name, "kind": each.kind, "about": each.about, "waits": each.waits}
            click.echo(json.dumps(shown))
        else:
            waits = f" (waits: {each.waits})" if each.waits else ""
            click.echo(f"{each.name:26} {each.kind}  {each.about}{waits}")


@click.command("run")
@click.argument("scenario")
@target_option
@click.option("--seed", default=0, show_default=True)
@json_option
@click.option("--save", type=click.Path(path_type=Path), help="Write the run to a file for `replay`.")
@html_option
@places_options
def run_one(
    scenario: str,
    target: str,
    seed: int,
    as_json: bool,
    save: Path | None,
    html: Path | None,
    lab: str,
    instances: int | None,
    redis_url: str | None,
) -> None:
    """Run SCENARIO once, undisturbed."""
    chosen = scenario_of(scenario)
    check_target(target)
    places = places_of(lab, instances, redis_url)
    if places is not None:
        if save is not None or html is not None:
            raise click.UsageError("a run on processes is none to replay: --save and --html are not for it")
        _run_on_processes(chosen, target, seed, places, as_json=as_json)
    result, _baseline = undisturbed(chosen, target, seed=seed)
    case = Case.of(scenario, target, result)
    if save is not None:
        case.save(save)
    shown = result_to_json(scenario, target, result)
    click.echo(json.dumps(shown) if as_json else f"{scenario}: {sentence(result)}")
    _write(html, case)
    sys.exit(status_of([result.outcome]))


def _run_on_processes(
    scenario: Scenario, target: str, seed: int, places: Places, *, as_json: bool
) -> NoReturn:
    try:
        result, _baseline = undisturbed_on_processes(scenario, target, seed=seed, places=places)
    except KeyboardInterrupt:
        fail("interrupted: every process of it has ended", FAILED)
    except (SimulatorError, ProcessError) as error:
        fail(str(error), FAILED)
    shown = {**result_to_json(scenario.name, target, result), "on": PROCESSES}
    click.echo(json.dumps(shown) if as_json else f"{scenario.name}: {sentence(result, unit='seconds')}")
    sys.exit(status_of([result.outcome]))


@click.command("replay")
@click.argument("file", type=click.Path(path_type=Path))
@html_option
def replay_file(file: Path, html: Path | None) -> None:
    """Run a saved FILE again, bit for bit."""
    try:
        case = Case.read(file)
        result = replay(case)
    except SimulatorError as error:
        fail(str(error), FAILED)
    click.echo(f"the same run again: {sentence(result)}")
    _write(html, case)
    sys.exit(status_of([result.outcome]))


def _write(html: Path | None, case: Case) -> None:
    if html is not None:
        html.parent.mkdir(parents=True, exist_ok=True)
        write_page(html, case)
        click.echo(f"page: {html}", err=True)
