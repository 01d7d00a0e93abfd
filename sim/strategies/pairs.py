"""Two inversions at once, for small scenarios; every pair of them, nearest first."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from sim.baseline import Baseline
from sim.plan import Plan
from sim.strategies.single_fault import inversions


class Pairs:
    name = "pairs"
    endless = False

    def possible(self, baseline: Baseline) -> int:
        single = sum(1 for _ in inversions(baseline))
        return single * (single - 1) // 2

    def plans(self, baseline: Baseline) -> Iterator[tuple[int, Plan]]:
        single = list(inversions(baseline))
        for one, other in itertools.combinations(single, 2):
            if one.holds[0].message != other.holds[0].message:
                yield 0, Plan(holds=one.holds + other.holds)
