"""A demand made for real, by Locust, and what the instances and Redis spent on it: held against the forecast."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sim.processes.instances import Fleet
from sim.processes.redis import RedisServer
from tests.bench.capacity.costs import Costs
from tests.bench.capacity.lab import Meter
from tests.bench.capacity.model import Demand, Forecast, forecast
from tests.bench.wire.machine import memory_bytes
from tests.load.__main__ import environment, locust

STAY, AWAY, TYPING, USAGE = 40.0, 2.0, 30.0, 5.0
"""Seconds that a user stays and is away, and between typings and heartbeats, on average."""
JOINING_SECONDS = 20.0
MARGIN_SECONDS = 5.0
EVENT_BYTES = 290.0
ID_BYTES = 30.0
"""What a run of Locust's sends and is called."""


@dataclass(frozen=True, slots=True)
class Checked:
    """Cores and commands a second in the middle of a run, and bytes of memory of an instance at its end."""

    users: int
    forecast: Forecast
    cores: float
    redis_cores: float
    redis_commands: float
    memory: float
    doubts: Sequence[str]
    """Why the run says nothing, if it does not."""

    def against(self, costs: Costs) -> Checked:
        """The same run, held against a forecast from other costs."""
        return replace(self, forecast=forecast(costs, lab_demand(self.users), self.forecast.instances))


def check(costs: Costs, users: int, seconds: float) -> Checked:
    """Two instances, `users` users of `loadtests/` by websocket, measured for ``seconds`` once all are there."""
    with (
        tempfile.TemporaryDirectory(prefix="capacity-") as folder,
        RedisServer() as redis,
        Fleet(2, redis_url=redis.url, demo=True) as fleet,
    ):
        report = Path(folder) / "load.json"
        length = JOINING_SECONDS + seconds + 2 * MARGIN_SECONDS
        options = {
            "-u": users,
            "-r": users / JOINING_SECONDS,
            "-t": f"{length:.0f}s",
            "--instances": ",".join(instance.url for instance in fleet.instances),
            "--session-seconds": STAY,
            "--idle-seconds": AWAY,
            "--typing-every": TYPING,
            "--usage-every": USAGE,
            "--report-json": report,
        }
        words = [str(word) for option in options.items() for word in option]
        meter = Meter([instance.pid for instance in fleet.instances], redis)
        process = subprocess.Popen(
            locust([*words, "WebsocketUser"]), env=environment(), stdout=subprocess.DEVNULL
        )
        try:
            _wait(process, JOINING_SECONDS + MARGIN_SECONDS)
            before = meter.read()
            _wait(process, seconds)
            spent = meter.read() - before
            memory = float(max(memory_bytes(instance.pid) for instance in fleet.instances))
            process.wait(timeout=length + 60)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        told = json.loads(report.read_text())
    errors = [f"{number} × {text}" for text, number in told["errors"].items()]
    return Checked(
        users=users,
        forecast=forecast(costs, lab_demand(users), len(fleet.instances)),
        cores=sum(spent.instances) / spent.seconds,
        redis_cores=spent.redis / spent.seconds,
        redis_commands=spent.commands / spent.seconds,
        memory=memory,
        doubts=[*told["doubts"], *errors],
    )


def lab_demand(users: float) -> Demand:
    """What that many users of `loadtests/` ask for: all of them are in one channel, and are told whole lists."""
    there = users * STAY / (STAY + AWAY)
    arrivals = users / (STAY + AWAY)
    return Demand(
        probes=1.0,
        online=there,
        sessions=there,
        polling=0.0,
        arrivals=arrivals,
        changes=2 * arrivals,
        events=there / TYPING,
        audience=there,
        event_bytes=EVENT_BYTES,
        usages=there / USAGE,
        words=0.0,
        word_bytes=0.0,
        kept=False,
        presence="lists",
        id_bytes=ID_BYTES,
    )


def _wait(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Raises ``RuntimeError`` if the load ends meanwhile."""
    try:
        status = process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return
    raise RuntimeError(f"the load ended early, with status {status}")
