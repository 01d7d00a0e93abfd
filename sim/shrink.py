"""Makes a failing plan smaller: fewer holds and faults, no jitter, shorter holds, as long as it breaks the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from sim.plan import Plan
from sim.run import Outcome, Result

Try = Callable[[Plan], Result]
SHORTEST_SECONDS = 0.001


def shrink(failed: Result, attempt: Try, *, most_runs: int = 60) -> Result:
    """The smallest plan found in at most ``most_runs`` runs; at worst the one that was given."""
    best, runs = failed, 0

    def still_breaks(plan: Plan) -> bool:
        nonlocal best, runs
        runs += 1
        result = attempt(plan)
        if result.outcome is Outcome.VIOLATED and result.invariant == failed.invariant:
            best = result
            return True
        return False

    if best.plan.jitter_seed is not None:
        still_breaks(replace(best.plan, jitter_seed=None))
    index = 0
    while index < len(best.plan) and runs < most_runs:
        if not still_breaks(best.plan.without(index)):
            index += 1
    for number, hold in enumerate(best.plan.holds):
        seconds = hold.seconds
        while runs < most_runs and seconds / 2 >= SHORTEST_SECONDS:
            shorter = replace(hold, seconds=round(seconds / 2, 6))
            holds = (*best.plan.holds[:number], shorter, *best.plan.holds[number + 1 :])
            if not still_breaks(replace(best.plan, holds=holds)):
                break
            seconds = shorter.seconds
    return best
