"""Every single disturbance of the undisturbed run.

Each inversion of two conflicting commands at Redis (the earlier one held until just after the later), each crash and
each pause of an instance at a message that reaches it, and each single message held; of the kinds of fault that the
scenario is about, each at every message that reaches the host it is for. What the scenario is about comes first, then
the disturbances that break racy pools, so that a bounded search finds them first.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import TypeVar

from sim.baseline import Baseline, Sent
from sim.commands import conflict
from sim.plan import CRASH, KILL_CONNECTIONS, PAUSE, REDIS_HANG, REDIS_RESTART, SKEW, Fault, Plan
from sim.schedule import BASE_LATENCY, Hold

T = TypeVar("T")

INVERSION_WINDOW = 1.0
"""Seconds within which two conflicting commands count as neighbours whose order could have been the other."""

PAUSE_SECONDS = 7.0
"""Longer than a lease and shorter than two."""

SECONDS = {PAUSE: PAUSE_SECONDS, REDIS_HANG: 8.0, SKEW: 4.0}
REDIS = "redis"
AT_REDIS = frozenset((REDIS_RESTART, REDIS_HANG, KILL_CONNECTIONS))

HOLD_SECONDS = 0.05


class SingleFault:
    name = "single-fault"
    endless = False

    def possible(self, baseline: Baseline) -> int:
        return sum(1 for _ in self.plans(baseline))

    def plans(self, baseline: Baseline) -> Iterator[tuple[int, Plan]]:
        yield from ((0, plan) for plan in self._all(baseline))

    def _all(self, baseline: Baseline) -> Iterator[Plan]:
        yield from _faults(baseline, baseline.faults)
        yield from inversions(baseline)
        yield from _faults(baseline, [kind for kind in (CRASH, PAUSE) if kind not in baseline.faults])
        for message in baseline.messages:
            yield Plan(holds=(Hold(message.name, HOLD_SECONDS),))


def _faults(baseline: Baseline, kinds: Sequence[str]) -> Iterator[Plan]:
    for message in _spread(baseline.messages):
        for kind in kinds:
            if message.target == REDIS if kind in AT_REDIS else message.target in baseline.hosts:
                yield Plan(faults=(Fault(kind, message.name, SECONDS.get(kind, 0.0)),))


def _spread(items: Sequence[T]) -> list[T]:
    """All of them, early ones and late ones in turn: a search that ends soon has tried some of every part of a run."""
    bits = len(items).bit_length()
    return [items[at] for at in sorted(range(len(items)), key=lambda at: f"{at:0{bits}b}"[::-1])]


def inversions(baseline: Baseline) -> Iterator[Plan]:
    """The nearest pairs first: those are the orders that a little delay would swap."""
    at_redis = [message for message in baseline.messages if message.commands]
    pairs = [
        (later.arrives_at - earlier.arrives_at, number, earlier)
        for number, (earlier, later) in enumerate(itertools.combinations(at_redis, 2))
        if later.arrives_at - earlier.arrives_at <= INVERSION_WINDOW and _conflicting(earlier, later)
    ]
    tried: set[tuple[str, float]] = set()
    for distance, _number, earlier in sorted(pairs, key=lambda pair: pair[:2]):
        hold = Hold(earlier.name, round(distance + 1.2 * BASE_LATENCY, 6))
        if (hold.message, hold.seconds) not in tried:
            tried.add((hold.message, hold.seconds))
            yield Plan(holds=(hold,))


def _conflicting(earlier: Sent, later: Sent) -> bool:
    if earlier.source == later.source and later.sent_at > earlier.arrives_at:
        # The same host sent it after the other's answer could be there: mostly because of it.
        return False
    return any(conflict(one, other) for one in earlier.commands for other in later.commands)
