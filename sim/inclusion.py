"""Is what happened on real processes among what the simulator can do? A real run's order of conflicting commands at
Redis, enforced in a simulated run by holds.

Each round runs the scenario, finds the first command that came to Redis before one that it followed in the real run,
and holds it until just after that one. In the end the orders are the same, as far as both go, or it was given up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from sim.baseline import Recorder, Sent
from sim.commands import Command
from sim.plan import Plan
from sim.run import Result, make_lab, run
from sim.scenario import Scenario
from sim.schedule import BASE_LATENCY, Hold
from sim.targets import Factory

MOST_ROUNDS = 80

Step = tuple[str, str, bool]
"""Who, which command, whether it writes."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """``same_order``: whether the simulator could be brought to the order; ``result`` is that of the last round."""

    result: Result
    same_order: bool
    rounds: int


def by_key(seen: Iterable[tuple[str, Command]]) -> dict[str, list[Step]]:
    """The steps on each key, in their order; keys that nobody writes are left out."""
    found: dict[str, list[Step]] = {}
    for who, command in seen:
        if command.key:
            found.setdefault(command.key, []).append(_step(who, command))
    return {key: steps for key, steps in found.items() if any(writes for _who, _name, writes in steps)}


def _step(who: str, command: Command) -> Step:
    return who, f"{command.name} {command.said}", command.writes


def replay_order(
    scenario: Scenario, factory: Factory, wanted: Mapping[str, Sequence[Step]], *, seed: int = 0
) -> Replayed:
    plan = Plan()
    for number in range(1, MOST_ROUNDS + 1):
        lab, recorder = make_lab(scenario, factory, plan), Recorder()
        lab.network.observers.append(recorder)
        result = run(scenario, factory, plan, seed=seed, lab=lab)
        early = _first_too_early(wanted, recorder.messages)
        if early is None:
            return Replayed(result, True, number)
        message, until = early
        if until is None:
            break
        seconds = until.arrives_at - message.arrives_at + 1.2 * BASE_LATENCY
        plan = _held(plan, message.name, seconds)
    return Replayed(result, False, number)


def _held(plan: Plan, message: str, seconds: float) -> Plan:
    before = next((hold.seconds for hold in plan.holds if hold.message == message), 0.0)
    others = tuple(hold for hold in plan.holds if hold.message != message)
    return replace(plan, holds=(*others, Hold(message, round(before + seconds, 6))))


def _first_too_early(
    wanted: Mapping[str, Sequence[Step]], messages: Sequence[Sent]
) -> tuple[Sent, Sent | None] | None:
    """The first message with a command that came before one that it has to follow, and that one's message; None for
    that one if it never came."""
    steps: dict[str, list[tuple[Step, Sent]]] = {}
    for message in messages:
        for command in message.commands:
            if command.key in wanted:
                steps.setdefault(command.key, []).append((_step(message.source, command), message))
    found = [early for key, those in steps.items() if (early := _too_early(wanted[key], those)) is not None]
    return min(found, key=lambda early: early[0].arrives_at, default=None)


def _too_early(wanted: Sequence[Step], steps: Sequence[tuple[Step, Sent]]) -> tuple[Sent, Sent | None] | None:
    """For one key. Reads between two writes have no order among themselves."""
    left = list(wanted)
    for place, (step, message) in enumerate(steps):
        before = _before(left, step)
        if before is None:
            # Only this run has it; at the end both go on as long as they like.
            continue
        missing = _missing(before, step)
        if missing is not None:
            later = (other for each, other in steps[place + 1 :] if each == missing)
            return message, next(later, None)
        left.remove(step)
    return None


def _before(left: Sequence[Step], step: Step) -> Sequence[Step] | None:
    """What is still to come before the next step of that kind; None if there is none."""
    return left[: left.index(step)] if step in left else None


def _missing(before: Sequence[Step], step: Step) -> Step | None:
    """The first of those that the step has to follow: a read follows writes, a write follows everything."""
    return next((each for each in before if each[2] or step[2]), None)
