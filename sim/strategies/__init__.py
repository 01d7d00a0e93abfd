"""Strategies: which schedules to try. Each makes plans from the undisturbed run; none runs anything."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from sim.baseline import Baseline
from sim.plan import Plan


class Strategy(Protocol):
    """``plans`` yields each plan with the seed it is to run under; ``possible`` says how many there are (None: no
    end, then it is ``endless``)."""

    name: str
    endless: bool

    def possible(self, baseline: Baseline) -> int | None: ...

    def plans(self, baseline: Baseline) -> Iterator[tuple[int, Plan]]: ...


def strategy(name: str) -> Strategy:
    """Raises ``KeyError`` for an unknown name."""
    from sim.strategies.jitter import Jitter
    from sim.strategies.pairs import Pairs
    from sim.strategies.single_fault import SingleFault

    known: dict[str, type[Strategy]] = {"single-fault": SingleFault, "pairs": Pairs, "random": Jitter}
    return known[name]()


NAMES = ("single-fault", "pairs", "random")
