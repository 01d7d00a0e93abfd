"""What simulated runs cost, in CPU time of one process: ``python -m tests.bench.simulator`` prints the figures as JSON.

A process of its own, since the simulator owns time and randomness of the one it runs in. CPU time, since a run never
waits: on a core of its own it takes as long.
"""

from __future__ import annotations

import asyncio
import json
import logging
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass

import psutil

from sim.node import Node
from sim.plan import Plan
from sim.run import run
from sim.scenario import find
from sim.schedule import PlainSchedule
from sim.simulated import SimulatedLab
from sim.targets import load

TARGETS = {"bare": "tests.bench.bare_app:make_app", "naive": "naive", "realtime": "realtime"}
ROUNDS = 15
STEPS = 100_000
IDLE_SECONDS = 200.0
SOAKS = 150


@dataclass(frozen=True, slots=True)
class Simulated:
    """``runs_per_second``: two instances, four clients, one connect each. ``idle``: virtual seconds a second with three
    instances and ten clients that answer pings. Both by target."""

    runs_per_second: dict[str, float]
    idle: dict[str, float]
    step_us: float
    soak_seconds: float
    memory_mb_early: float
    memory_mb_late: float


def simulator() -> Simulated:
    """Measures in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.simulator"], capture_output=True, text=True, timeout=600
    )
    if done.returncode:
        raise RuntimeError(f"the benchmark of the simulator failed:\n{done.stderr}")
    return Simulated(**json.loads(done.stdout.splitlines()[-1]))


async def connect_four(lab: SimulatedLab) -> None:
    await lab.start("api-1", "api-2")
    for number in range(4):
        tab = await lab.connect(f"tab-{number}", f"user-{number}", f"api-{number % 2 + 1}")
        assert tab.sid is not None


def _runs_per_second(target: str) -> float:
    seconds = []
    for number in range(ROUNDS + 2):
        began = time.process_time()
        SimulatedLab(load(target), PlainSchedule()).run(connect_four)
        if number >= 2:  # the first ones import
            seconds.append(time.process_time() - began)
    return 1 / statistics.median(seconds)


def _idle(target: str) -> float:
    taken: list[float] = []

    async def scenario(lab: SimulatedLab) -> None:
        await lab.start("api-1", "api-2", "api-3")
        for number in range(10):
            await lab.connect(f"tab-{number}", f"user-{number}", f"api-{number % 3 + 1}")
        began = time.process_time()
        await lab.sleep(IDLE_SECONDS)
        taken.append(time.process_time() - began)

    SimulatedLab(load(target), PlainSchedule()).run(scenario, limit=2 * IDLE_SECONDS)
    return IDLE_SECONDS / taken[0]


def _step_us() -> float:
    """A chain of ``call_soon`` on one node."""

    async def scenario(lab: SimulatedLab) -> None:
        node = Node(lab.world, lab.network, "chain")

        async def chain() -> float:
            left, done = STEPS, asyncio.get_running_loop().create_future()

            def step() -> None:
                nonlocal left
                left -= 1
                if left:
                    node.loop.call_soon(step)
                else:
                    done.set_result(None)

            began = time.process_time()
            node.loop.call_soon(step)
            await done
            return time.process_time() - began

        taken.append(await lab.on(node, chain()))

    taken: list[float] = []
    for _ in range(3):
        SimulatedLab(load("naive"), PlainSchedule()).run(scenario)
    return min(taken) / STEPS * 1e6


def _soaks() -> tuple[float, float, float]:
    scenario, factory, process = find("soak"), load("realtime"), psutil.Process()
    seconds, memory = [], [0.0, 0.0]
    for seed in range(SOAKS):
        began = time.process_time()
        run(scenario, factory, Plan(jitter_seed=seed), seed=seed)
        seconds.append(time.process_time() - began)
        if seed in (SOAKS // 3, SOAKS - 1):
            memory[seed == SOAKS - 1] = process.memory_info().rss / 1e6
    return statistics.median(seconds), memory[0], memory[1]


def main() -> None:
    logging.disable(logging.CRITICAL)
    step_us = _step_us()
    runs = {name: _runs_per_second(target) for name, target in TARGETS.items()}
    idle = {name: _idle(target) for name, target in TARGETS.items()}
    soak_seconds, early, late = _soaks()
    print(json.dumps(asdict(Simulated(runs, idle, step_us, soak_seconds, early, late))))


if __name__ == "__main__":
    main()
