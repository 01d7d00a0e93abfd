"""Acks a second per core: the raw client of `loadtests/` beside Locust's own SocketIOUser, on the same server."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from statistics import median

from sim.processes.instances import SECRET_KEY, Instance
from tests.bench.report import Figure, at_least, publish

USERS = 10
SECONDS = 4.0
ROUNDS = 3
GOALS = {"websocket": 2.0, "polling": 4.0}


@dataclass(frozen=True, slots=True)
class Cost:
    """What one generator process did: acks and the CPU seconds that it used for them."""

    acks: int
    cpu: float

    @property
    def per_core(self) -> float:
        """Acks a second of a fully used core."""
        return self.acks / self.cpu


async def run_load() -> bool:
    """Both clients by turns, several rounds; the ratio is the median of the rounds' ratios."""
    figures: list[Figure] = []
    settings = {"REALTIME_MAX_EVENTS_PER_SECOND": "1000000", "REALTIME_MAX_EVENT_BURST": "1000000"}
    async with Instance(demo=True, settings=settings) as instance:
        for transport, goal in GOALS.items():
            rounds = [
                {client: await _measure(client, instance.url, transport) for client in ("raw", "locust")}
                for _ in range(ROUNDS)
            ]
            for client, name in (("raw", "ours"), ("locust", "Locust's SocketIOUser")):
                value = median(each[client].per_core for each in rounds)
                figures.append(Figure(f"{transport}: acks a second per core, {name}", value, "/s"))
            ratio = median(each["raw"].per_core / each["locust"].per_core for each in rounds)
            figures.append(at_least(f"{transport}: ours to Locust's", ratio, goal, "x"))
    note = (
        f"{USERS} users in one process call `usage` as fast as the acks come, {SECONDS:g} s, {ROUNDS} rounds by turns; "
        "divided by the CPU time of that process alone. Both report each ack to Locust's `request` event once."
    )
    return publish("Load generator", "load-client", figures, note=note)


async def _measure(client: str, url: str, transport: str) -> Cost:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bench.load_clients", client, url, transport, str(USERS), str(SECONDS)),
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"WEBUI_SECRET_KEY": SECRET_KEY},
    )
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    return Cost(**json.loads(output))
