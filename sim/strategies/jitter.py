"""Random schedules: a delay of its own for every message, and now and then a fault, all from the seed."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

from sim.baseline import Baseline
from sim.plan import CRASH, PAUSE, RESET, Fault, Plan


class Jitter:
    name = "random"
    endless = True

    def possible(self, baseline: Baseline) -> None:
        return None

    def plans(self, baseline: Baseline) -> Iterator[tuple[int, Plan]]:
        at_instances = [message.name for message in baseline.messages if message.target in baseline.hosts]
        for seed in itertools.count(1):
            draw = random.Random(f"plan {seed}")
            faults = (
                ()
                if baseline.derived
                else tuple(
                    Fault(kind, name, round(draw.uniform(0.2, 8.0), 3) if kind == PAUSE else 0.0)
                    for kind, name in (
                        (draw.choice((CRASH, PAUSE, RESET)), draw.choice(at_instances))
                        for _ in range(draw.choice((0, 0, 1, 2)) if at_instances else 0)
                    )
                )
            )
            jitter = draw.choice((0.001, 0.004, 0.02))
            splits = draw.choice((0.0, 0.0, 0.1, 0.5))
            yield seed, Plan(faults=faults, jitter_seed=seed, jitter_seconds=jitter, splits=splits)
