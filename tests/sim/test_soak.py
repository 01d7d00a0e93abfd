"""The random workload: drawn from the seed alone, judged by the truth, and what it once found stays mended."""

from __future__ import annotations

import statistics

import pytest

from sim.plan import Plan
from sim.run import Outcome, Result, run
from sim.scenario import find
from sim.scenarios.soak import DEEDS, FAULTS, draw
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


def test_the_naive_target_breaks_under_most_workloads_with_a_crash() -> None:
    crashing = [seed for seed in range(60) if any(fault[1] == "crash" for fault in draw(seed).faults)][:6]
    outcomes = [soak(seed, "naive").outcome for seed in crashing]
    assert outcomes.count(Outcome.VIOLATED) > len(outcomes) / 2


@pytest.mark.parametrize("seed", range(1, 25))
def test_the_layer_holds_under_a_random_workload(seed: int) -> None:
    result = soak(seed, splits=0.1)
    assert result.outcome is Outcome.HELD, (result.config, result.message, result.missing)
    assert result.evaluated["presence-converges"] == 1
    assert result.evaluated["usage-converges"] == 2


@pytest.mark.parametrize("seed", [131, 263, 278, 696])
def test_what_once_broke_the_layer_breaks_it_no_more(seed: int) -> None:
    assert soak(seed).outcome is Outcome.HELD
