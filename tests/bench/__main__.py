"""Runs the benchmarks named, or all: ``python -m tests.bench [NAME…] [ROW…] [--quick]``.

Names: capacity, load, simulator, storm, verbs, wire; of ``wire`` single rows may be named. ``--quick`` makes it short;
then, as with single rows, nothing is saved.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

import uvloop

from tests.bench.capacity.run import run_capacity
from tests.bench.load import run_load
from tests.bench.report import Figure, always, at_least, at_most, publish
from tests.bench.simulator import simulator
from tests.bench.storm import storm
from tests.bench.verbs import verbs
from tests.bench.wire.rows import ROWS
from tests.bench.wire.run import run_wire

SIZES = (100, 400, 2000)


async def run_storm() -> bool:
    figures: list[Figure] = []
    costs = {}
    for size in SIZES:
        result = await storm(size)
        costs[size] = result.cpu_ms_per_connect
        name = f"{size} clients"
        figures.append(at_most(f"{name}: server CPU per connect", result.cpu_ms_per_connect, 2.0, "ms"))
        sent = result.megabytes
        figures.append(
            at_most(f"{name}: sent to clients", sent, 40.0, "MB")
            if size == 400
            else Figure(f"{name}: sent to clients", sent, "MB")
        )
        figures.append(Figure(f"{name}: until all were connected", result.connect_seconds, "s"))
        figures.append(Figure(f"{name}: until every list was right", result.settle_seconds, "s"))
        figures.append(always(f"{name}: all users in the pool", holds=result.all_in_pool))
        figures.append(always(f"{name}: every client holds the right list", holds=result.all_lists_right))
    growth = costs[SIZES[-1]] / costs[SIZES[0]]
    figures.append(at_most(f"CPU per connect, {SIZES[-1]} to {SIZES[0]} clients", growth, 1.75, "x"))
    note = (
        "Two instances over a real Redis, `--demo`, websocket clients of distinct users, 100 connecting at a time. "
        "CPU is user and system time of both instances from the first connect until one second after every client "
        "held the right list, divided by the clients. The seed's way on such a machine: 8.4 ms at 100 clients, "
        "28 ms and rising; 1,061 MB at 400; half of the lists wrong at the end."
    )
    return publish("Connect storm", "storm", figures, note=note)


async def run_verbs() -> bool:
    figures: list[Figure] = []
    for verb in await verbs():
        figures.append(at_least(f"{verb.name}: calls a second in one process", verb.per_second, 5000, "/s"))
        figures.append(Figure(f"{verb.name}: commands per call", verb.commands, "", "1", verb.commands == 1))
    return publish("State verbs over Redis", "verbs", figures, note="16 calls in flight, one session each.")


async def run_simulator() -> bool:
    cost = await asyncio.to_thread(simulator)
    runs, idle = cost.runs_per_second, cost.idle
    return publish(
        "The simulator",
        "simulator",
        [
            at_least("two instances, four clients connect: bare python-socketio", runs["bare"], 40, "runs/s"),
            Figure("the same: naive", runs["naive"], "runs/s"),
            at_least("the same: realtime", runs["realtime"], 15, "runs/s"),
            at_most("one step of a node's loop", cost.step_us, 3.0, "µs"),
            at_least(
                "three instances, ten idle clients: bare python-socketio", idle["bare"], 1000, "virtual s/s"
            ),
            Figure("the same: naive", idle["naive"], "virtual s/s"),
            Figure("the same: realtime", idle["realtime"], "virtual s/s"),
            at_most("soak on realtime, median run", cost.soak_seconds, 0.3, "s"),
            at_most("memory after 150 soaks", cost.memory_mb_late, 500, "MB"),
            Figure("memory after 50 soaks", cost.memory_mb_early, "MB"),
        ],
        note="CPU time of one process. An idle instance of `realtime` renews its lease and pings Redis.",
    )


def main() -> int:
    words = sys.argv[1:]
    quick = "--quick" in words
    rows = [word for word in words if word in ROWS]
    runs: dict[str, Callable[[], bool]] = {
        "capacity": lambda: run_capacity(quick=quick),
        "load": lambda: uvloop.run(run_load()),
        "simulator": lambda: uvloop.run(run_simulator()),
        "verbs": lambda: uvloop.run(run_verbs()),
        "storm": lambda: uvloop.run(run_storm()),
        "wire": lambda: run_wire(rows or list(ROWS), quick=quick),
    }
    wanted = [word for word in words if word not in ROWS and word != "--quick"] or list(runs)
    if unknown := set(wanted) - runs.keys():
        print(
            f"unknown benchmark: {', '.join(sorted(unknown))}; there are: {', '.join(runs)}; "
            f"rows of wire: {', '.join(ROWS)}",
            file=sys.stderr,
        )
        return 2
    met = [runs[name]() for name in wanted]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
