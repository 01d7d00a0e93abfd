"""One run: a scenario on a target under a plan, and what came of it."""

from __future__ import annotations

import enum
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from sim.coverage import Orders
from sim.errors import NotStarted, SimulatorError
from sim.invariants import Violation
from sim.lab import Lab
from sim.network import Network
from sim.plan import (
    CRASH,
    KILL_CONNECTIONS,
    PAUSE,
    REDIS_HANG,
    REDIS_RESTART,
    RESET,
    SKEW,
    Fault,
    Plan,
    PlannedSchedule,
)
from sim.scenario import Scenario
from sim.schedule import Message
from sim.targets import Factory


class Outcome(enum.StrEnum):
    HELD = "held"
    VIOLATED = "violated"
    INCONCLUSIVE = "inconclusive"
    """It ended without reaching what would make it mean something."""
    FAILED = "failed"
    """The simulator could not run it to its end."""


@dataclass(frozen=True, slots=True)
class Result:
    """``bitten``: holds and faults that took effect."""

    outcome: Outcome
    plan: Plan
    seed: int
    invariant: str = ""
    message: str = ""
    missing: tuple[str, ...] = ()
    fingerprint: str = ""
    messages: int = 0
    steps: int = 0
    virtual_seconds: float = 0.0
    wall_seconds: float = 0.0
    bitten: frozenset[str] = frozenset()
    evaluated: Counter[str] = field(default_factory=Counter)
    marks: Counter[str] = field(default_factory=Counter)
    """How often each safeguard of the target acted, where the target says so."""
    actions: tuple[str, ...] = ()
    """What clients did, by name, in order; what was skipped is not among it."""
    config: str = ""
    """What a random workload drew from the seed."""
    orders: str = ""
    """Equal for two runs iff conflicting commands came to Redis in the same order."""


class FaultsAtMessages:
    """Carries a plan's faults out when their message arrives."""

    def __init__(self, lab: Lab, faults: tuple[Fault, ...]) -> None:
        self._lab = lab
        self._due = {fault.message: fault for fault in faults}
        self.bitten: set[str] = set()

    def sent(self, message: Message, arrives_at: float) -> None:
        return None

    def arrived(self, message: Message, now: float) -> None:
        fault = self._due.pop(message.name, None)
        if fault is None:
            return
        self.bitten.add(message.name)
        lab, host = self._lab, message.target
        stalls = fault.kind in (PAUSE, REDIS_HANG)
        lab.fault(str(fault), lasting=fault.seconds if stalls else 0.0)
        if stalls:
            lab.world.nodes[host].pause(fault.seconds)
        elif fault.kind == CRASH and host in lab.instances:
            lab.instances[host].crash()
        elif fault.kind == RESET:
            _reset(lab.network, message)
        elif fault.kind == REDIS_RESTART:
            lab.redis.restart(keep_data=False)
        elif fault.kind == KILL_CONNECTIONS:
            lab.redis.kill_connections()
        elif fault.kind == SKEW:
            lab.world.nodes[host].clock_skew = fault.seconds


def _reset(network: Network, message: Message) -> None:
    def act() -> None:
        network.reset(message.source, message.target)

    network.world.later(0.0, act)


def run(scenario: Scenario, factory: Factory, plan: Plan, *, seed: int = 0, lab: Lab | None = None) -> Result:
    """Runs it in a fresh world, or in the given one, made for this plan, whose history and trace the caller wants to
    read."""
    if lab is None:
        lab = make_lab(scenario, factory, plan)
    faults = FaultsAtMessages(lab, plan.faults)
    orders = Orders()
    lab.network.observers += [faults, orders]
    began = time.perf_counter()
    outcome, invariant, message = Outcome.HELD, "", ""
    try:
        lab.run(scenario.run, seed=seed, limit=scenario.limit)
    except Violation as violation:
        outcome, invariant, message = Outcome.VIOLATED, violation.invariant, str(violation)
    except NotStarted as error:
        # A fault that keeps instances from starting at all says nothing about what they do once they run.
        outcome = Outcome.INCONCLUSIVE if plan.faults else Outcome.FAILED
        message = str(error)
    except SimulatorError as error:
        outcome, message = Outcome.FAILED, str(error)
    except Exception as error:
        outcome, message = Outcome.FAILED, "the scenario itself failed: " + _last_line(error)
    missing = tuple(mark for mark in scenario.reaches if not lab.reached.get(mark))
    if outcome is Outcome.HELD and missing:
        outcome = Outcome.INCONCLUSIVE
    return Result(
        outcome,
        plan,
        seed,
        invariant,
        message,
        missing,
        lab.trace.fingerprint,
        lab.trace.messages,
        lab.world.steps,
        lab.world.now,
        time.perf_counter() - began,
        frozenset({*lab.schedule.bitten, *faults.bitten}),
        lab.checks.evaluated,
        lab.marks(),
        tuple(lab.actions),
        lab.config,
        orders.digest(),
    )


def _last_line(error: Exception) -> str:
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"


def make_lab(scenario: Scenario, factory: Factory, plan: Plan) -> Lab:
    """A fresh world for one run under the plan."""
    schedule = PlannedSchedule(plan)
    return Lab(factory, schedule, settings=dict(scenario.settings), skips=frozenset(plan.skips))
