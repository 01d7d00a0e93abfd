"""Tries on real processes: no two runs are the same there, so a disturbance is drawn from a seed, again and again.

Of four tries one is left alone, in one every message has a delay of its own, in one a single message is held or
something breaks at it, and one is the schedule that the simulator found, if it found one. Messages are named as in the
simulated run; where another run has no such message, nothing happens to it.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace

from sim.baseline import Baseline, Sent
from sim.plan import CRASH, PAUSE, Fault, Plan
from sim.strategies.single_fault import AT_REDIS, REDIS, SECONDS, inversions

KINDS = ALONE, DELAYS, FOUND, DRAWN = "left alone", "delays", "the simulator's schedule", "a hold or fault"

LONGEST_JITTER = (0.004, 0.02, 0.05)
NEAREST = 40
"""Of the pairs of conflicting commands, those whose order a short hold would swap."""

EXTRA_SECONDS = 0.03
"""A hold is up to so much longer than it had to be in the undisturbed run: this one has times of its own."""


class Tries:
    """``plans`` never ends. ``found``: the simulator's schedule, for messages of the baseline."""

    name = "tries"
    endless = True

    def __init__(self, found: Plan | None = None) -> None:
        self._found = found

    def possible(self, baseline: Baseline) -> None:
        return None

    def plans(self, baseline: Baseline) -> Iterator[tuple[int, Plan]]:
        swaps = list(itertools.islice(inversions(baseline), NEAREST))
        for seed in itertools.count(1):
            yield seed, self._draw(random.Random(f"try {seed}"), seed, baseline, swaps)

    def kind_of(self, seed: int) -> str:
        """What is tried under this seed, one of ``KINDS``; that of 0 is left alone."""
        kind = KINDS[seed % len(KINDS)]
        return DRAWN if kind is FOUND and not self._found else kind

    def _draw(self, dice: random.Random, seed: int, baseline: Baseline, swaps: Sequence[Plan]) -> Plan:
        kind = self.kind_of(seed)
        if kind is ALONE or baseline.derived:
            return Plan()
        if kind is DELAYS:
            return Plan(jitter_seed=seed, jitter_seconds=dice.choice(LONGEST_JITTER))
        if kind is FOUND:
            assert self._found is not None
            return self._found
        faults = [
            Fault(kind, message.name, SECONDS.get(kind, 0.0))
            for kind in baseline.faults or (CRASH, PAUSE)
            for message in baseline.messages
            if _fits(kind, message, baseline)
        ]
        if faults and (not swaps or dice.random() < (0.7 if baseline.faults else 0.3)):
            return Plan(faults=(dice.choice(faults),))
        if not swaps:
            return Plan()
        hold = dice.choice(swaps).holds[0]
        return Plan(holds=(replace(hold, seconds=round(hold.seconds + dice.uniform(0.0, EXTRA_SECONDS), 4)),))


def _fits(kind: str, message: Sent, baseline: Baseline) -> bool:
    return message.target == REDIS if kind in AT_REDIS else message.target in baseline.hosts
