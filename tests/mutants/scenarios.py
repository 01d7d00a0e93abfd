"""Scenarios of the simulator as tests for mutants: undisturbed, under the nearest inversions, and random ones."""

from __future__ import annotations

import pytest

from sim.explore import explore, undisturbed
from sim.run import Outcome
from sim.scenario import find, scenarios
from sim.strategies import strategy

INVERSIONS = 4
"""Of each scenario: the orders of two commands at Redis that a little delay would swap."""

RANDOM_RUNS = 24
"""Of the random workload, which draws instances, clients and faults from its seed."""

FIXED = [name for name, each in scenarios().items() if name != "soak" and not each.waits]


@pytest.mark.parametrize("name", FIXED)
def test_undisturbed(name: str) -> None:
    result, _baseline = undisturbed(find(name), "realtime")
    assert result.outcome is Outcome.HELD, (result.outcome, result.message, result.missing)


@pytest.mark.parametrize("name", FIXED)
def test_the_nearest_inversions(name: str) -> None:
    report = explore(find(name), "realtime", strategy("single-fault"), schedules=INVERSIONS)
    assert not report.violations, report.first


@pytest.mark.parametrize("seed", range(RANDOM_RUNS))
def test_random_workloads(seed: int) -> None:
    result, _baseline = undisturbed(find("soak"), "realtime", seed=seed)
    assert result.outcome is not Outcome.VIOLATED, result.message
