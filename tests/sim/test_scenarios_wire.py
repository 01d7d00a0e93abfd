"""Scenarios of auth, calls, rooms and the wire: the naive design shows each fault, and the layer holds."""

from __future__ import annotations

import itertools

import pytest

from sim.explore import undisturbed
from sim.plan import CRASH, PAUSE, Fault, Plan
from sim.run import Outcome, Result, run
from sim.scenario import find
from sim.scenarios.calls import CALL_SECONDS, call
from sim.schedule import Hold, PlainSchedule
from sim.simulated import SimulatedLab
from sim.strategies import strategy
from sim.targets import load

pytestmark = [
    pytest.mark.explores,
    pytest.mark.filterwarnings("ignore:[Uu]nclosed:ResourceWarning"),
]

DESIGN = {
    "call-timeout-leak": "calls-end-right",
    "call-to-the-dead": "calls-to-the-gone-end",
    "forged-session-id": "nothing-reaches-outsiders",
    "identity-switch": "nothing-reaches-outsiders",
    "join-races-emit": "room-exactly-once-in-order",
    "join-twice": "told-once",
    "room-members-elsewhere": "room-members-are-known",
    "slow-consumer": "slow-consumer-is-closed",
    "token-expires": "closed-at-expiry",
    "unauthenticated-listener": "nothing-reaches-outsiders",
}
"""Faults of the design, and the invariant that each breaks first."""

ANN_LOOKED_UP, BOB_LOOKED_UP = "db→api-1 #2", "db→api-1 #5"
"""The answers of the database; the connection of each look-up is opened and ended by messages of their own."""

RACES = {
    "connect-races-close": (Hold(ANN_LOOKED_UP, 0.05), "presence-converges"),
    "handler-error-half-open": (Fault(PAUSE, ANN_LOOKED_UP, 7.0), "open-means-registered"),
}
"""Races, the one disturbance that makes each, and the invariant that it breaks."""


def once(name: str, target: str, *disturbances: Hold | Fault, seed: int = 0) -> Result:
    holds = tuple(each for each in disturbances if isinstance(each, Hold))
    faults = tuple(each for each in disturbances if isinstance(each, Fault))
    result = run(find(name), load(target), Plan(holds=holds, faults=faults), seed=seed)
    assert len(result.bitten) == len(disturbances)
    return result


@pytest.mark.parametrize("name", list(DESIGN))
def test_a_fault_of_the_design_breaks_at_once(name: str) -> None:
    result = once(name, "naive")
    assert (result.outcome, result.invariant) == (Outcome.VIOLATED, DESIGN[name]), result.message
    assert find(name).kind == "d"


@pytest.mark.parametrize("name", list(RACES))
def test_a_race_needs_its_one_disturbance(name: str) -> None:
    for seed in range(3):
        calm = once(name, "naive", seed=seed)
        assert calm.outcome is Outcome.HELD, (calm.message, calm.missing)
    disturbance, invariant = RACES[name]
    broken = once(name, "naive", disturbance)
    assert (broken.outcome, broken.invariant) == (Outcome.VIOLATED, invariant), broken.message
    held = once(name, "realtime", disturbance)
    assert held.outcome is Outcome.HELD, (held.message, held.missing)
    assert find(name).kind == "r"


def test_leaving_by_polling_while_the_connect_handler_runs_leaves_a_ghost_too() -> None:
    broken = once("connect-races-close", "naive", Hold(BOB_LOOKED_UP, 0.05))
    assert broken.outcome is Outcome.VIOLATED
    assert "bob" in broken.message
    assert once("connect-races-close", "realtime", Hold(BOB_LOOKED_UP, 0.05)).outcome is Outcome.HELD


@pytest.mark.parametrize("name", [*(name for name in DESIGN if not find(name).waits), *RACES])
def test_the_layer_holds_whatever_strikes_while_the_scenario_is_under_way(name: str) -> None:
    """A crash and a stall at messages spread over the whole of it; each run still means something."""
    _calm, baseline = undisturbed(find(name), "realtime")
    at_instances = [message.name for message in baseline.messages if message.target in baseline.hosts]
    for kind, at in ((CRASH, 0.5), (PAUSE, 0.75), (CRASH, 0.9)):
        message = at_instances[int(at * len(at_instances))]
        result = once(name, "realtime", Fault(kind, message, 7.0 if kind == PAUSE else 0.0))
        assert result.outcome is Outcome.HELD, (message, result.message, result.missing)


def test_exploring_soon_finds_the_half_open_socket() -> None:
    scenario, factory = find("handler-error-half-open"), load("naive")
    _calm, baseline = undisturbed(scenario, "naive")
    plans = itertools.islice(strategy("single-fault").plans(baseline), 60)
    results = (run(scenario, factory, plan, seed=seed) for seed, plan in plans)
    broken = next(result for result in results if result.outcome is Outcome.VIOLATED)
    assert broken.invariant == "open-means-registered"
    assert len(broken.plan) == 1


def test_the_slow_consumer_is_closed_by_the_safeguard_and_not_by_chance() -> None:
    result = once("slow-consumer", "realtime")
    assert result.outcome is Outcome.HELD, result.message
    assert result.marks["slow consumer closed"] == 1


@pytest.mark.parametrize(("target", "kept"), [("naive", 2), ("realtime", 0)])
def test_what_is_kept_of_calls_that_timed_out(target: str, kept: int) -> None:
    async def scenario(lab: SimulatedLab) -> None:
        await lab.start("api-1", "api-2")
        await lab.connect("bob-1", "bob", "api-1")
        mute = lab.raw("ann-1")
        mute.client.answers_calls = False
        assert await lab.connect_raw(mute, "ann", "api-2")
        for _ in range(2):
            await lab.knock("api-1", "call", call("ann", mute.client.sid))
        await lab.sleep(10 * CALL_SECONDS)
        assert lab.checks.count("ann-1", "chat-events") == 2
        assert await lab.knock("api-1", "waiting") == (200, {"result": kept})

    SimulatedLab(
        load(target), PlainSchedule(), settings={"websocket_event_caller_timeout": CALL_SECONDS}
    ).run(scenario)
