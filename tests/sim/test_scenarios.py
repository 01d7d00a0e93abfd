"""Every scenario: it holds on the layer, breaks on the naive design as its kind says, and notices what it is about."""

from __future__ import annotations

import itertools

import pytest

from realtime.leasing import LeaseKeeper
from realtime.repairs import Repair, Repairs
from realtime.replica import Replica
from realtime.state.redis import RedisState
from sim.baseline import Baseline, Sent
from sim.explore import explore, undisturbed
from sim.plan import CRASH, KILL_CONNECTIONS, PAUSE, REDIS_RESTART, SKEW
from sim.run import Outcome, Result, run
from sim.scenario import find, scenarios
from sim.scenarios import faults, locks, presence, state, usage
from sim.strategies import strategy
from sim.strategies.single_fault import SingleFault
from sim.targets import load

pytestmark = pytest.mark.explores

MODULES = {module.__name__ for module in (faults, locks, presence, state, usage)}
MOST_SCHEDULES = 40
"""Within which the naive design must break; compare spends five seconds, which is more."""


def of_kind(kind: str) -> list[str]:
    return [
        name for name, each in scenarios().items() if each.kind == kind and each.run.__module__ in MODULES
    ]


def broke(result: Result) -> bool:
    assert result.outcome is not Outcome.FAILED, f"{result.plan}: {result.message}"
    return result.outcome is Outcome.VIOLATED


@pytest.mark.parametrize("name", [each.name for each in scenarios().values() if not each.waits])
def test_the_layer_holds_undisturbed(name: str) -> None:
    result, _baseline = undisturbed(find(name), "realtime")
    assert result.outcome is Outcome.HELD, (result.message, result.missing)
    assert result.evaluated, "nothing was checked"


@pytest.mark.parametrize("name", of_kind("r"))
def test_a_race_passes_undisturbed_on_the_naive_design_and_breaks_under_one_disturbance(name: str) -> None:
    result, baseline = undisturbed(find(name), "naive")
    assert result.outcome is Outcome.HELD, (result.message, result.missing)
    plans = itertools.islice(SingleFault().plans(baseline), MOST_SCHEDULES)
    results = (run(find(name), load("naive"), plan, seed=seed) for seed, plan in plans)
    assert any(broke(result) for result in results)


@pytest.mark.parametrize("name", of_kind("d"))
def test_a_fault_of_the_design_breaks_undisturbed_on_the_naive_design(name: str) -> None:
    result, _baseline = undisturbed(find(name), "naive")
    assert result.outcome is Outcome.VIOLATED


@pytest.mark.parametrize("name", sorted({"user-pool-lost-update", *of_kind("n")}))
def test_the_layer_holds_under_the_nearest_inversions(name: str) -> None:
    report = explore(find(name), "realtime", strategy("single-fault"), schedules=6)
    assert report.schedules == 6
    assert report.possible is not None
    assert report.possible > 100
    assert (report.violations, report.failed, report.inconclusive) == (0, 0, 0), report.failures


@pytest.mark.parametrize("name", [name for name in of_kind("r") if find(name).faults])
def test_the_layer_holds_under_the_faults_that_a_scenario_is_about(name: str) -> None:
    report = explore(find(name), "realtime", strategy("single-fault"), schedules=6)
    assert (report.violations, report.failed, report.inconclusive) == (0, 0, 0), report.failures
    assert not report.coverage.unbitten


def test_an_idle_connection_that_was_reset_loses_no_message() -> None:
    """The simulator's first find: after a restart of Redis the first message to other instances was lost."""
    _result, baseline = undisturbed(find("redis-restart"), "realtime")
    last = [plan for _seed, plan in SingleFault().plans(baseline) if plan.faults][:20:5]
    for plan in last:
        assert run(find("redis-restart"), load("realtime"), plan).outcome is Outcome.HELD, str(plan)


def deaf_to_renewals(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Replica, "check", lambda *_args, **_more: None)


def hasty(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(LeaseKeeper, "may_judge", True)


def loyal(patch: pytest.MonkeyPatch) -> None:
    async def same(_self: RedisState, seen: str) -> str:
        return seen

    patch.setattr(RedisState, "new_epoch", same)


def forgetful(patch: pytest.MonkeyPatch) -> None:
    want = Repairs.want
    patch.setattr(
        Repairs, "want", lambda self, repair: None if repair is not Repair.REAP else want(self, repair)
    )


def indulgent(patch: pytest.MonkeyPatch) -> None:
    async def nothing(_self: Repairs) -> None:
        return None

    patch.setattr(Repairs, "reap", nothing)


@pytest.mark.parametrize(
    ("name", "without"),
    [
        ("lost-last-publish", deaf_to_renewals),
        ("redis-failover-rollback", hasty),
        ("redis-failover-rollback", loyal),
        ("reaped-but-alive", forgetful),
        ("fleet-died-together", indulgent),
    ],
)
def test_a_scenario_of_leases_notices_that_a_safeguard_is_missing(
    name: str, without: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert callable(without)
    without(monkeypatch)
    result, _baseline = undisturbed(find(name), "realtime")
    assert result.outcome is Outcome.VIOLATED, (result.outcome, result.missing)


def test_a_search_tries_first_what_a_scenario_is_about_at_the_hosts_it_is_for() -> None:
    messages = tuple(Sent(f"{at}", "ann", ("redis", "api-1")[at % 2], "data", at, at + 1) for at in range(8))
    about = (REDIS_RESTART, SKEW)
    plans = [
        plan for _seed, plan in SingleFault().plans(Baseline(messages, frozenset({"api-1"}), faults=about))
    ]
    kinds = [plan.faults[0].kind if plan.faults else "hold" for plan in plans]
    assert set(kinds[:8]) == set(about)
    assert sorted(kinds[8:]) == sorted([CRASH, PAUSE] * 4 + ["hold"] * 8)
    at = {
        kind: {plan.faults[0].message for plan in plans if plan.faults and plan.faults[0].kind == kind}
        for kind in kinds
    }
    assert at[REDIS_RESTART] == set("0246")
    assert at[SKEW] == at[CRASH] == set("1357")
    assert KILL_CONNECTIONS not in kinds


def test_a_search_that_ends_soon_has_tried_faults_all_over_the_run() -> None:
    messages = tuple(Sent(f"{at}", "ann", "api-1", "data", at, at + 1) for at in range(64))
    plans = SingleFault().plans(Baseline(messages, frozenset({"api-1"}), faults=(CRASH,)))
    first = sorted(int(plan.faults[0].message) for _seed, plan in itertools.islice(plans, 8))
    assert all(later - earlier <= 16 for earlier, later in itertools.pairwise([0, *first, 64]))
