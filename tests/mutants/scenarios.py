"""Scenarios of the simulator as tests for mutants: undisturbed, and under some single faults each."""

from __future__ import annotations

from itertools import islice

import pytest

from sim.explore import undisturbed
from sim.plan import CRASH, PAUSE, Plan
from sim.run import Outcome, run
from sim.scenario import find, scenarios
from sim.strategies import strategy
from sim.targets import load

DISTURBED = 2
"""Of each kind of disturbance, at places spread over the run."""


@pytest.mark.parametrize("name", list(scenarios()))
def test_undisturbed(name: str) -> None:
    result, _baseline = undisturbed(find(name), "realtime")
    assert result.outcome is Outcome.HELD, (result.outcome, result.message, result.missing)


@pytest.mark.parametrize("name", [each.name for each in scenarios().values() if not each.waits])
def test_disturbed(name: str) -> None:
    chosen, factory = find(name), load("realtime")
    _result, baseline = undisturbed(chosen, "realtime")
    plans = [plan for _seed, plan in strategy("single-fault").plans(baseline)]
    for kind in (_inversions_and_holds, _crashes, _pauses):
        for plan in _spread(kind(plans)):
            result = run(chosen, factory, plan)
            assert result.outcome is not Outcome.VIOLATED, f"{plan}: {result.message}"


def _spread(plans: list[Plan]) -> list[Plan]:
    return list(islice(plans, 0, None, max(1, len(plans) // DISTURBED)))[:DISTURBED]


def _inversions_and_holds(plans: list[Plan]) -> list[Plan]:
    return [plan for plan in plans if plan.holds]


def _crashes(plans: list[Plan]) -> list[Plan]:
    return [plan for plan in plans if any(fault.kind == CRASH for fault in plan.faults)]


def _pauses(plans: list[Plan]) -> list[Plan]:
    return [plan for plan in plans if any(fault.kind == PAUSE for fault in plan.faults)]
