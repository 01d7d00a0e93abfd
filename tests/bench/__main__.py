"""Runs the benchmarks named, or all: ``python -m tests.bench [storm] [verbs]``."""

from __future__ import annotations

import sys

import uvloop

from tests.bench.report import Figure, always, at_least, at_most, publish
from tests.bench.storm import storm
from tests.bench.verbs import verbs

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


def main() -> int:
    wanted = sys.argv[1:] or ["verbs", "storm"]
    runs = {"verbs": run_verbs, "storm": run_storm}
    if unknown := set(wanted) - runs.keys():
        print(
            f"unknown benchmark: {', '.join(sorted(unknown))}; there are: {', '.join(runs)}", file=sys.stderr
        )
        return 2
    met = [uvloop.run(runs[name]()) for name in wanted]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
