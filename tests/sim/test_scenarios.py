"""Every scenario, undisturbed, on the layer: it holds, and gets to what makes it mean something."""

from __future__ import annotations

import pytest

from sim.explore import explore, undisturbed
from sim.run import Outcome
from sim.scenario import find, scenarios
from sim.strategies import strategy


@pytest.mark.parametrize("name", [each.name for each in scenarios().values() if not each.waits])
def test_the_layer_holds_undisturbed(name: str) -> None:
    result, _baseline = undisturbed(find(name), "realtime")
    assert result.outcome is Outcome.HELD, (result.message, result.missing)
    assert result.evaluated, "nothing was checked"


def test_an_idle_connection_that_was_reset_loses_no_message() -> None:
    """The simulator's first find: after a restart of Redis the first message to other instances was lost."""
    result, _baseline = undisturbed(find("redis-restart"), "realtime")
    assert result.outcome is Outcome.HELD, result.message


@pytest.mark.parametrize("name", ["user-pool-lost-update", "stale-user-list"])
def test_the_layer_holds_under_the_nearest_inversions(name: str) -> None:
    report = explore(find(name), "realtime", strategy("single-fault"), schedules=12)
    assert report.schedules == 12
    assert report.possible is not None
    assert report.possible > 100
    assert (report.violations, report.failed, report.inconclusive) == (0, 0, 0), report.failures
