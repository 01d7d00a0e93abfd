"""One run: a scenario on a target under a plan, and what came of it."""

from __future__ import annotations

import enum
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from sim.coverage import Orders
from sim.errors import NotStarted, SimulatorError, Unreachable, last_line
from sim.invariants import Violation
from sim.lab import Lab
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
from sim.simulated import SimulatedLab
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

    def __init__(
        self, lab: Lab, faults: tuple[Fault, ...], *, later: Callable[[Callable[[], None]], object]
    ) -> None:
        """``later`` calls something as soon as the message has arrived: a link is not reset by whom it brings news."""
        self._lab = lab
        self._later = later
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
            lab.do_pause(host, fault.seconds)
        elif fault.kind == CRASH and host in lab.instances:
            lab.do_crash(host)
        elif fault.kind == RESET:
            self._later(lambda: lab.do_reset(message.source, host))
        elif fault.kind == REDIS_RESTART:
            lab.do_restart_redis(keep_data=False)
        elif fault.kind == KILL_CONNECTIONS:
            lab.do_kill_connections()
        elif fault.kind == SKEW:
            lab.do_skew(host, fault.seconds)


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a run ended, as far as its scenario tells."""

    outcome: Outcome
    invariant: str = ""
    message: str = ""
    missing: tuple[str, ...] = ()


def judge(scenario: Scenario, plan: Plan, lab: Lab, run: Callable[[], None]) -> Verdict:
    """Runs a scenario by calling ``run``, and says what came of it."""
    outcome, invariant, message = Outcome.HELD, "", ""
    try:
        run()
    except Violation as violation:
        outcome, invariant, message = Outcome.VIOLATED, violation.invariant, str(violation)
    except Unreachable as error:
        outcome, message = Outcome.INCONCLUSIVE, str(error)
    except NotStarted as error:
        # A fault that keeps instances from starting at all says nothing about what they do once they run.
        outcome = Outcome.INCONCLUSIVE if plan.faults else Outcome.FAILED
        message = str(error)
    except SimulatorError as error:
        outcome, message = Outcome.FAILED, str(error)
    except Exception as error:
        outcome = Outcome.FAILED
        message = "the scenario itself failed: " + last_line(error) + _who_was_refused(lab)
    missing = tuple(mark for mark in scenario.reaches if not lab.reached.get(mark))
    if outcome is Outcome.HELD and missing:
        outcome = Outcome.INCONCLUSIVE
        message = "never reached: " + ", ".join(missing) + _who_was_refused(lab)
    return Verdict(outcome, invariant, message, missing)


def run(
    scenario: Scenario, factory: Factory, plan: Plan, *, seed: int = 0, lab: SimulatedLab | None = None
) -> Result:
    """Runs it in a fresh world, or in the given one, made for this plan, whose history and trace the caller wants to
    read."""
    if lab is None:
        lab = make_lab(scenario, factory, plan)
    world = lab.world
    faults = FaultsAtMessages(lab, plan.faults, later=lambda act: world.later(0.0, act))
    orders = Orders()
    lab.network.observers += [faults, orders]
    began = time.perf_counter()
    verdict = judge(scenario, plan, lab, lambda: lab.run(scenario.run, seed=seed, limit=scenario.limit))
    return Result(
        verdict.outcome,
        plan,
        seed,
        verdict.invariant,
        verdict.message,
        verdict.missing,
        lab.trace.fingerprint,
        lab.trace.messages,
        lab.world.steps,
        lab.now,
        time.perf_counter() - began,
        frozenset({*lab.schedule.bitten, *faults.bitten}),
        lab.checks.evaluated,
        lab.marks(),
        tuple(lab.actions),
        lab.config,
        orders.digest(),
    )


def _who_was_refused(lab: Lab) -> str:
    """The first client, for whoever brings an application that serves another path or wants another token."""
    for entry in lab.history.entries:
        if entry.what == "refused":
            return (
                f"; before, {entry.who} was not let in by {entry.name}: {entry.data!r} (a client connects to "
                '/ws/socket.io with auth {"token": …}, a JWT of its user)'
            )
    return ""


def make_lab(
    scenario: Scenario, factory: Factory, plan: Plan, *, bound: Callable[[float], float] = float
) -> SimulatedLab:
    """A fresh world for one run under the plan. ``bound``: see ``Lab.bound``."""
    schedule, settings, skips = PlannedSchedule(plan), dict(scenario.settings), frozenset(plan.skips)
    return SimulatedLab(factory, schedule, settings=settings, skips=skips, bound=bound)
