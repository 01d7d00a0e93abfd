"""Tries on real processes: no two runs are the same there, so a disturbance is drawn from a seed, again and again.

Of four tries one is left alone, in one every message has a delay of its own, and in two a single message is held, or
something breaks at it. Messages are named as in one undisturbed run; where another run has no such message, nothing
happens to it.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

from sim.baseline import Baseline, Sent
from sim.plan import CRASH, PAUSE, Fault, Plan
from sim.schedule import Hold
from sim.strategies.single_fault import AT_REDIS, REDIS, SECONDS, inversions

ALONE, DELAYS, HOLD, FAULT = "left alone", "delays", "a hold", "a fault"

LONGEST_JITTER = (0.004, 0.02, 0.05)
NEAREST = 40
"""Of the pairs of conflicting commands, those whose order a short hold would swap."""

EXTRA_SECONDS = 0.03
"""A hold is up to so much longer than it had to be in the undisturbed run: this one has times of its own."""


class Tries:
    """``plans`` never ends."""

    name = "tries"
    endless = True

    def possible(self, baseline: Baseline) -> None:
        return None

    def plans(self, baseline: Baseline) -> Iterator[tuple[int, Plan]]:
        swaps = list(itertools.islice(inversions(baseline), NEAREST))
        for seed in itertools.count(1):
            yield seed, self._draw(random.Random(f"try {seed}"), seed, baseline, swaps)

    def _draw(self, dice: random.Random, seed: int, baseline: Baseline, swaps: list[Plan]) -> Plan:
        if seed % 4 == 0 or baseline.derived:
            return Plan()
        if seed % 4 == 1:
            return Plan(jitter_seed=seed, jitter_seconds=dice.choice(LONGEST_JITTER))
        wanted = baseline.faults or ((CRASH, PAUSE) if seed % 8 == 3 else ())
        if wanted and (seed % 4 == 3 or not swaps):
            kind = dice.choice(wanted)
            places = [message for message in baseline.messages if _fits(kind, message, baseline)]
            if places:
                return Plan(faults=(Fault(kind, dice.choice(places).name, SECONDS.get(kind, 0.0)),))
        if not swaps:
            return Plan()
        hold = dice.choice(swaps).holds[0]
        return Plan(holds=(Hold(hold.message, round(hold.seconds + dice.uniform(0.0, EXTRA_SECONDS), 4)),))


def kind_of(plan: Plan) -> str:
    """Which of the four a try was."""
    if plan.faults:
        return FAULT
    if plan.holds:
        return HOLD
    return ALONE if plan.jitter_seed is None else DELAYS


def _fits(kind: str, message: Sent, baseline: Baseline) -> bool:
    return message.target == REDIS if kind in AT_REDIS else message.target in baseline.hosts
