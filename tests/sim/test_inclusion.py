"""An order of commands at Redis is enforced in the simulator, and comes to what it came to before."""

from __future__ import annotations

import pytest

from sim.baseline import Recorder
from sim.explore import search, undisturbed
from sim.inclusion import JITTERS, by_key, replay_order
from sim.lab import Lab
from sim.likeness import after, names_of
from sim.plan import Plan
from sim.processes.lab import bound
from sim.run import Outcome, Result, make_lab, run
from sim.scenario import Scenario, find
from sim.schedule import Hold
from sim.strategies import strategy
from sim.targets import load

pytestmark = [pytest.mark.explores, pytest.mark.filterwarnings("ignore:[Uu]nclosed:ResourceWarning")]

RACES = ["user-pool-lost-update", "usage-lost-update"]


def recorded(name: str, plan: Plan) -> tuple[Result, Recorder]:
    recorder = Recorder()
    lab = make_lab(find(name), load("naive"), plan)
    lab.network.observers.append(recorder)
    return run(find(name), load("naive"), plan, lab=lab), recorder


@pytest.mark.parametrize("name", RACES)
def test_the_order_of_a_broken_run_breaks_it_again_and_that_of_a_calm_one_does_not(name: str) -> None:
    found = search(find(name), "naive", strategy("single-fault"), schedules=60).first
    assert found is not None
    assert len(found.plan.holds) == 1
    for plan in (found.plan, Plan()):
        result, recorder = recorded(name, plan)
        order = by_key((each.source, command) for each in recorder.messages for command in each.commands)
        twin = replay_order(find(name), load("naive"), order)
        assert twin.same_order
        assert (twin.result.outcome, twin.result.invariant) == (result.outcome, result.invariant)
    assert twin.rounds == 1, "the calm run needs no hold"


def test_what_is_in_time_on_real_processes_is_in_time_in_the_replay_too() -> None:
    """What ended within a busy machine's bounds was another outcome in the simulator, whose bounds are sharp."""

    async def late(lab: Lab) -> None:
        await lab.start("api-1")
        await lab.sleep(1.2)
        lab.checks.hold("in-time", lab.bound(1.0) > 1.2, f"{lab.bound(1.0):g} s are too short")

    scenario = Scenario("late", "r", "", late)
    assert replay_order(scenario, load("naive"), {}).result.outcome is Outcome.VIOLATED
    assert replay_order(scenario, load("naive"), {}, bound=bound).result.outcome is Outcome.HELD


def test_an_order_that_cannot_be_is_given_up() -> None:
    name = RACES[0]
    _result, recorder = recorded(name, Plan())
    order = by_key((each.source, command) for each in recorder.messages for command in each.commands)
    pool = order["open-webui:user_pool"]
    order["open-webui:user_pool"] = [("nobody", "HSET ", True), *pool]
    twin = replay_order(find(name), load("naive"), order)
    assert not twin.same_order
    assert twin.result.outcome is Outcome.HELD


def test_a_hold_comes_after_the_conflicting_command_that_it_waited_for() -> None:
    name = RACES[0]
    found = search(find(name), "naive", strategy("single-fault"), schedules=60).first
    assert found is not None
    _undisturbed, baseline = undisturbed(find(name), "naive")
    names = names_of(baseline.messages)
    assert len(set(names.values())) == len(baseline.messages)
    _result, recorder = recorded(name, found.plan)
    ((held, waited_for),) = after(found.plan, recorder.messages, names).items()
    assert held == found.plan.holds[0].message
    commands = {each.name: each.commands[0] for each in baseline.messages if each.commands}
    assert commands[held].key == commands[waited_for].key == "open-webui:user_pool"
    assert held.split("→")[0] != waited_for.split("→")[0]


def test_what_holds_at_redis_cannot_bring_about_is_reached_from_the_delays_of_the_run_itself() -> None:
    name = "reload-goes-offline"
    late = Plan(holds=(Hold("api-1→redis #41", 0.288),))
    _result, recorder = recorded(name, late)
    order = by_key((each.source, command) for each in recorder.messages for command in each.commands)
    assert not replay_order(find(name), load("naive"), order).same_order
    twin = replay_order(find(name), load("naive"), order, beginnings=[Plan(), late])
    assert twin.same_order
    assert twin.result.plan == late


def test_what_delays_that_nobody_knows_made_of_a_run_is_reached_by_drawing_others() -> None:
    name, alone = "reload-goes-offline", []
    for seed in (1000, 1003):
        result, recorder = recorded(name, Plan(jitter_seed=seed, jitter_seconds=0.2))
        order = by_key((each.source, command) for each in recorder.messages for command in each.commands)
        alone.append(replay_order(find(name), load("naive"), order).same_order)
        twin = replay_order(
            find(name),
            load("naive"),
            order,
            alike=lambda each, came_to=result: each.invariant == came_to.invariant,
            beginnings=[Plan(), *JITTERS],
        )
        assert twin.same_order
        assert twin.result.invariant == result.invariant != ""
    assert not all(alone), "holds at Redis would have been enough"
