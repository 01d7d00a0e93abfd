"""The random workload: drawn from the seed alone, judged by the truth, and what it once found stays mended."""

from __future__ import annotations

import statistics

import pytest

from sim.plan import Plan
from sim.run import Outcome, Result, run
from sim.scenario import find
from sim.scenarios.soak import DEEDS, FAULTS, draw
from sim.schedule import PlainSchedule
from sim.simulated import SimulatedLab
from sim.targets import load


def soak(seed: int, target: str = "realtime", **plan: object) -> Result:
    made = Plan(jitter_seed=seed, **plan)  # type: ignore[arg-type]
    return run(find("soak"), load(target), made, seed=seed)


def test_a_seed_always_draws_the_same_and_most_draw_something_else() -> None:
    drawn = [draw(seed) for seed in range(200)]
    assert drawn == [draw(seed) for seed in range(200)]
    assert len({str(config) for config in drawn}) > 190


def test_every_deed_and_every_fault_is_drawn_and_none_is_always_drawn() -> None:
    drawn = [draw(seed) for seed in range(300)]
    for deed in DEEDS:
        assert 0.1 < statistics.mean(any(deed == step[2] for step in config.steps) for config in drawn) < 0.9
    for fault in FAULTS:
        assert (
            0.02 < statistics.mean(any(fault == each[1] for each in config.faults) for config in drawn) < 0.9
        )


def test_workloads_with_a_crash_break_the_naive_target() -> None:
    crashing = [seed for seed in range(120) if any(fault[1] == "crash" for fault in draw(seed).faults)][:12]
    outcomes = [soak(seed, "naive").outcome for seed in crashing]
    assert outcomes.count(Outcome.VIOLATED) >= 3


@pytest.mark.parametrize("seed", range(1, 25))
def test_the_layer_holds_under_a_random_workload(seed: int) -> None:
    result = soak(seed, splits=0.1)
    assert result.outcome is Outcome.HELD, (result.config, result.message, result.missing)
    assert result.evaluated["presence-converges"] == 1
    assert result.evaluated["usage-converges"] == 2


def test_a_message_after_redis_restarted_behind_a_partition_is_not_lost() -> None:
    """Found by soak: the publisher's connection was half-open, and took the next message without passing it on."""

    async def scenario(lab: SimulatedLab) -> None:
        await lab.start("api-1", "api-2")
        ann = await lab.connect("ann-1", "ann", "api-1")
        bob = await lab.connect("bob-1", "bob", "api-2")
        await lab.checks.everyone_sees([ann, bob], {"ann", "bob"})
        lab.partition("api-2", "redis")
        lab.restart_redis(keep_data=True)
        await lab.sleep(0.3)
        lab.heal("api-2", "redis")
        await lab.sleep(3.0)
        await lab.checks.reaches_once(bob, [ann, bob], "said after all was healed")

    SimulatedLab(load("realtime"), PlainSchedule()).run(scenario)


def test_two_crashes_of_one_instance_at_once_are_one() -> None:
    """Found by soak: it was started twice at the same time, and served with neither."""

    async def scenario(lab: SimulatedLab) -> None:
        await lab.start("api-1")
        lab.crash("api-1")
        lab.crash("api-1")
        await lab.together(lab.start("api-1"), lab.start("api-1"))
        assert (await lab.connect("ann-1", "ann", "api-1")).sid is not None

    SimulatedLab(load("realtime"), PlainSchedule()).run(scenario)


def test_a_host_that_is_slow_keeps_its_clients_waiting_and_loses_nothing() -> None:
    def connects_in(seconds: float) -> float:
        """Virtual time of one connect, at a host whose every turn takes so long."""
        taken: list[float] = []

        async def scenario(lab: SimulatedLab) -> None:
            await lab.start("api-1")
            lab.burden("api-1", seconds)
            before = lab.world.now
            tab = await lab.connect("ann-1", "ann", "api-1")
            taken.append(lab.world.now - before)
            await lab.checks.reaches_once(tab, [tab], "heard")

        SimulatedLab(load("realtime"), PlainSchedule()).run(scenario)
        return taken[0]

    assert connects_in(0.002) > 2 * connects_in(0.0)
