"""Makes a failing plan smaller: no jitter, fewer holds and faults, shorter holds, fewer client actions, as long as it
breaks the same invariant.

An action may only go where the undisturbed run without it holds: else its absence would be what breaks the scenario,
and not the disturbance. (A run that breaks undisturbed keeps all its actions therefore.) A scenario that derives what
it expects from what was done needs no such caution.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from sim.plan import Plan
from sim.run import Outcome, Result

Try = Callable[[Plan], Result]
SHORTEST_SECONDS = 0.001
MOST_RUNS = 80


def shrink(failed: Result, attempt: Try, *, derived: bool = False, most_runs: int = MOST_RUNS) -> Result:
    """The smallest plan found in at most ``most_runs`` runs; at worst the one that was given."""
    shrinking = _Shrinking(failed, attempt, derived, most_runs)
    shrinking.drop_jitter()
    shrinking.drop_disturbances()
    shrinking.drop_actions()
    shrinking.shorten_holds()
    return shrinking.best


class _Shrinking:
    def __init__(self, failed: Result, attempt: Try, derived: bool, most_runs: int) -> None:
        self.best = failed
        self._attempt = attempt
        self._derived = derived
        self._left = most_runs

    def drop_jitter(self) -> None:
        if self.best.plan.jitter_seed is not None:
            self._still_breaks(replace(self.best.plan, jitter_seed=None, splits=0.0))

    def drop_disturbances(self) -> None:
        index = 0
        while index < len(self.best.plan):
            if not self._still_breaks(self.best.plan.without(index)):
                index += 1

    def drop_actions(self) -> None:
        """From the last to the first, since later ones build on earlier ones; many at once first."""
        if not (len(self.best.plan) or self._derived):
            return
        size = max(1, len(self.best.actions) // 2)
        while size:
            end = len(self.best.actions)
            while end > 0 and self._left > 0:
                chunk = self.best.actions[max(0, end - size) : end]
                skips = (*self.best.plan.skips, *chunk)
                if self._still_breaks(
                    replace(self.best.plan, skips=skips), held_undisturbed=not self._derived
                ):
                    end = min(end, len(self.best.actions))
                else:
                    end -= size
            size //= 2

    def shorten_holds(self) -> None:
        for number, hold in enumerate(self.best.plan.holds):
            seconds = hold.seconds
            while seconds / 2 >= SHORTEST_SECONDS:
                seconds = round(seconds / 2, 6)
                holds = list(self.best.plan.holds)
                holds[number] = replace(hold, seconds=seconds)
                if not self._still_breaks(replace(self.best.plan, holds=tuple(holds))):
                    break

    def _still_breaks(self, plan: Plan, *, held_undisturbed: bool = False) -> bool:
        result = self._run(plan)
        if result is None or result.outcome is not Outcome.VIOLATED:
            return False
        if result.invariant != self.best.invariant:
            return False
        if held_undisturbed:
            calm = self._run(plan.undisturbed)
            if calm is None or calm.outcome is not Outcome.HELD:
                return False
        self.best = result
        return True

    def _run(self, plan: Plan) -> Result | None:
        """None when no more runs are to be made."""
        if self._left <= 0:
            return None
        self._left -= 1
        return self._attempt(plan)
