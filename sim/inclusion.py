"""Is what happened on real processes among what the simulator can do? A real run's order of conflicting commands at
Redis, enforced in a simulated run by holds.

Each round runs the scenario, finds the first step that came before one that it followed in the real run, and holds it
until just after that one. In the end the orders are the same, as far as both go, or it was given up. Holds at Redis
cannot change in which order an instance takes up its work: that is why several beginnings are tried, first the delays
that the real run was under, in the end such as are drawn. Where one order
at Redis allows several outcomes, those at each instance count, too: what others published came before or after it
published something itself, which python-socketio tells the instance's own clients first.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sim.baseline import Recorder
from sim.commands import Command, commands, digest
from sim.plan import Plan
from sim.processes.resp import Values, published
from sim.run import Result, make_lab, run
from sim.scenario import Scenario
from sim.schedule import BASE_LATENCY, Hold, Message
from sim.targets import Factory

MOST_ROUNDS = 25
"""Of each beginning. Where it comes to the order at all, it does so in less."""

SPREADS = (0.004, 0.02, 0.05, 0.1, 0.2, 0.4)
JITTERS = tuple(
    Plan(jitter_seed=seed, jitter_seconds=SPREADS[seed % len(SPREADS)]) for seed in range(6 * len(SPREADS))
)
"""Beginnings when nothing else is left: the delays of a busy machine are known to nobody."""

REDIS = "redis"

Step = tuple[str, str, bool]
"""Who, which command, whether it writes."""

Orders = dict[str, list[Step]]
"""The steps on each key and at each instance."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a step was in a simulated run: the message to hold, and when it happened."""

    message: str
    at: float


@dataclass(frozen=True, slots=True)
class Replayed:
    """``same_order``: whether the simulator could be brought to the order; ``result`` is that of a run that is alike,
    or of the best that there was. ``rounds``: of all beginnings."""

    result: Result
    same_order: bool
    rounds: int


def by_key(seen: Iterable[tuple[str, Command]]) -> Orders:
    """The steps on each key, in their order; keys that nobody writes are left out."""
    found: Orders = {}
    for who, command in seen:
        if command.key:
            found.setdefault(command.key, []).append(_step(who, command))
    return {key: steps for key, steps in found.items() if any(writes for _who, _name, writes in steps)}


def _step(who: str, command: Command) -> Step:
    return who, f"{command.name} {command.said}", command.writes


@dataclass
class Inboxes:
    """Observes a run, in either lab: at each instance, what it published and what it was pushed that others had."""

    steps: defaultdict[str, list[tuple[Step, Place]]] = field(default_factory=lambda: defaultdict(list))
    _own: Counter[tuple[str, str]] = field(default_factory=Counter)
    _heard: dict[str, str] = field(default_factory=dict)

    def sent(self, message: Message, arrives_at: float) -> None:
        if message.target != REDIS or message.kind != "data":
            return
        for command in commands(message.data):
            if command.name == "PUBLISH":
                self._own[message.source, command.said] += 1
                # What is published can only be delayed by what it was the answer to.
                place = Place(self._heard.get(message.source, message.name), message.sent_at)
                self.steps[f"at {message.source}"].append(
                    ((message.source, f"says {command.said}", True), place)
                )

    def arrived(self, message: Message, now: float) -> None:
        if message.source != REDIS or message.kind != "data":
            return
        self._heard[message.target] = message.name
        for value in Values().feed(message.data):
            said = published(value)
            if said is None:
                continue
            what = digest(said.decode(errors="replace"))
            if self._own[message.target, what]:
                self._own[message.target, what] -= 1  # the echo of its own
            else:
                self.steps[f"at {message.target}"].append(
                    ((REDIS, f"says {what}", False), Place(message.name, now))
                )

    def orders(self) -> Orders:
        return {key: [step for step, _place in steps] for key, steps in self.steps.items()}


def replay_order(
    scenario: Scenario,
    factory: Factory,
    wanted: Mapping[str, Sequence[Step]],
    *,
    at_instances: Mapping[str, Sequence[Step]] | None = None,
    alike: Callable[[Result], bool] = lambda _result: True,
    beginnings: Sequence[Plan] = (Plan(),),
    bound: Callable[[float], float] = float,
    seed: int = 0,
) -> Replayed:
    """``wanted``: the order at Redis. While a run in that order is not ``alike``, steps at instances are brought into
    their order as well, as far as that goes; and then another of the ``beginnings`` is tried. ``bound``: see
    ``Lab.bound``; what is late in one lab only would be another outcome."""
    best, rounds = None, 0
    for plan in beginnings:
        for _round in range(MOST_ROUNDS):
            rounds += 1
            lab, recorder, inboxes = make_lab(scenario, factory, plan, bound=bound), Recorder(), Inboxes()
            lab.network.observers += [recorder, inboxes]
            result = run(scenario, factory, plan, seed=seed, lab=lab)
            early = _first_too_early(wanted, _steps(recorder))
            if early is None and alike(result):
                return Replayed(result, True, rounds)
            if best is None or (early is None and not best.same_order):
                best = Replayed(result, early is None, rounds)
            if early is None:
                early = _first_too_early(at_instances or {}, inboxes.steps)
            place, until = early or (None, None)
            if place is None or until is None:
                break
            plan = _held(plan, place.message, until.at - place.at + 1.2 * BASE_LATENCY)
    assert best is not None, "there is a beginning"
    return replace(best, rounds=rounds)


def _held(plan: Plan, message: str, seconds: float) -> Plan:
    before = next((hold.seconds for hold in plan.holds if hold.message == message), 0.0)
    others = tuple(hold for hold in plan.holds if hold.message != message)
    return replace(plan, holds=(*others, Hold(message, round(before + seconds, 6))))


def _steps(recorder: Recorder) -> dict[str, list[tuple[Step, Place]]]:
    found: dict[str, list[tuple[Step, Place]]] = {}
    for message in recorder.messages:
        for command in message.commands:
            place = Place(message.name, message.arrives_at)
            found.setdefault(command.key, []).append((_step(message.source, command), place))
    return found


def _first_too_early(
    wanted: Mapping[str, Sequence[Step]], steps: Mapping[str, Sequence[tuple[Step, Place]]]
) -> tuple[Place, Place | None] | None:
    """The first step that came before one that it has to follow, and that one; None for that one if none of those ever
    came."""
    found = [
        early
        for key, those in steps.items()
        if key in wanted and (early := _too_early(wanted[key], those)) is not None
    ]
    # What never came may come when another step has come into its place.
    can_be = [early for early in found if early[1] is not None]
    return min(can_be or found, key=lambda early: early[0].at, default=None)


def _too_early(
    wanted: Sequence[Step], steps: Sequence[tuple[Step, Place]]
) -> tuple[Place, Place | None] | None:
    """For one key. Reads between two writes have no order among themselves."""
    left = list(wanted)
    for number, (step, place) in enumerate(steps):
        if step not in left:
            # Only this run has it; at the end both go on as long as they like.
            continue
        missing = _missing(left[: left.index(step)], step)
        if missing is not None:
            later = (other for each, other in steps[number + 1 :] if each == missing)
            return place, next(later, None)
        left.remove(step)
    return None


def _missing(before: Sequence[Step], step: Step) -> Step | None:
    """The first of those that the step has to follow: a read follows writes, a write follows everything."""
    return next((each for each in before if each[2] or step[2]), None)
