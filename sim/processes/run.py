"""One run on real processes: a scenario on a target under a plan, and what came of it, as ``sim.run`` does it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sim.baseline import Baseline, Recorder
from sim.coverage import Orders
from sim.likeness import Names
from sim.plan import Plan, PlannedSchedule
from sim.processes.lab import ProcessLab
from sim.processes.monitor import Seen
from sim.processes.proxy import Observer
from sim.run import FaultsAtMessages, Result, judge
from sim.scenario import Scenario


@dataclass(frozen=True, slots=True)
class Places:
    """Where runs are made: which Redis (None: one of the lab's own), and how many instances at least."""

    redis_url: str | None = None
    redis_binary: Path | None = None
    instances: int = 0


def run_on_processes(
    scenario: Scenario,
    target: str,
    plan: Plan,
    *,
    seed: int = 0,
    places: Places | None = None,
    names: Names | None = None,
    after: Mapping[str, str] | None = None,
    observers: Sequence[Observer] = (),
    seen: list[Seen] | None = None,
) -> Result:
    """Everything is started for this run and ended after it. Times are real seconds. ``names``, ``after``: see
    ``Proxy``. ``seen``: gets the commands that came to Redis, in their order."""
    places = places or Places()
    lab = ProcessLab(
        target,
        PlannedSchedule(plan),
        settings=scenario.settings,
        skips=frozenset(plan.skips),
        redis_url=places.redis_url,
        redis_binary=places.redis_binary,
        instances=places.instances,
        names=names,
        after=after,
        on_the_second=names is not None,
        monitored=seen is not None,
    )
    faults = FaultsAtMessages(lab, plan.faults, later=lambda act: asyncio.get_running_loop().call_soon(act))
    orders = Orders()
    lab.proxy.observers += [faults, orders, *observers]
    began = time.perf_counter()
    verdict = judge(scenario, plan, lab, lambda: lab.run(scenario.run, seed=seed, limit=scenario.limit))
    if seen is not None and lab.monitor is not None:
        seen += lab.monitor.seen
    return Result(
        verdict.outcome,
        plan,
        seed,
        verdict.invariant,
        verdict.message,
        verdict.missing,
        messages=lab.proxy.messages,
        virtual_seconds=lab.now,
        wall_seconds=time.perf_counter() - began,
        bitten=frozenset({*lab.schedule.bitten, *faults.bitten}),
        evaluated=Counter(lab.checks.evaluated),
        actions=tuple(lab.actions),
        config=lab.config,
        orders=orders.digest(),
    )


def undisturbed_on_processes(
    scenario: Scenario,
    target: str,
    *,
    seed: int = 0,
    places: Places | None = None,
    names: Names | None = None,
) -> tuple[Result, Baseline]:
    """The run without a hold or a fault, and its messages: what tries are made of."""
    recorder = Recorder()
    result = run_on_processes(
        scenario, target, Plan(), seed=seed, places=places, names=names, observers=[recorder]
    )
    hosts = frozenset(message.target for message in recorder.messages if message.target.startswith("api-"))
    return result, Baseline(tuple(recorder.messages), hosts, scenario.derived, scenario.faults)
