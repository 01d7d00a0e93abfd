"""Two instances over a Redis of their own, and what the three of them have spent so far."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from realtime.auth import create_token
from sim.processes.instances import SECRET_KEY
from sim.processes.redis import RedisServer, connect
from tests.bench.wire.machine import cpu_seconds
from tests.bench.wire.peers import Ours, running, user
from tests.bench.wire.swarm import Swarm

QUIET_SECONDS = 0.5
PATIENCE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Spent:
    """CPU seconds of each instance and of Redis; commands (those within scripts too) and bytes at Redis; seconds."""

    instances: tuple[float, ...]
    redis: float
    commands: float
    redis_bytes: float
    seconds: float

    def __sub__(self, other: Spent) -> Spent:
        return Spent(
            tuple(now - before for now, before in zip(self.instances, other.instances, strict=True)),
            self.redis - other.redis,
            self.commands - other.commands,
            self.redis_bytes - other.redis_bytes,
            self.seconds - other.seconds,
        )

    def times(self, factor: float) -> Spent:
        return Spent(
            tuple(each * factor for each in self.instances),
            self.redis * factor,
            self.commands * factor,
            self.redis_bytes * factor,
            self.seconds * factor,
        )


@dataclass(slots=True)
class Meter:
    """Reads what processes have spent. Each reading costs Redis one command, which is not counted."""

    pids: Sequence[int]
    redis: RedisServer
    _readings: int = 0

    def read(self) -> Spent:
        with connect(self.redis.port, timeout=5) as client:
            told = client.info("stats")
            redis = cpu_seconds(self.redis.pid)
        spent = Spent(
            tuple(map(cpu_seconds, self.pids)),
            redis,
            float(told["total_commands_processed"]) - self._readings,
            float(told["total_net_input_bytes"] + told["total_net_output_bytes"]),
            time.perf_counter(),
        )
        self._readings += 1
        return spent


@dataclass(slots=True)
class CostLab:
    """``a`` and ``b``: the instances. ``idle``: what a second without anything to do takes, to be taken off."""

    a: Ours
    b: Ours
    meter: Meter
    idle: Spent

    def measure(self, work: Callable[[], None], swarms: Sequence[Swarm]) -> Spent:
        """What ``work`` takes until all is quiet again, without what would have been spent anyway."""
        settle(swarms)
        before = self.meter.read()
        work()
        settle(swarms)
        spent = self.meter.read() - before
        return spent - self.idle.times(spent.seconds)


@contextmanager
def cost_lab(
    users: int, *, idle_seconds: float, settings: Mapping[str, str] | None = None
) -> Iterator[CostLab]:
    """Two instances with their defaults but for ``settings``; the users stand in the database, all in one channel."""
    with RedisServer() as redis:
        names = [user(number) for number in range(users)]
        limits = {"REALTIME_MAX_EVENTS_PER_SECOND": "1000000", "REALTIME_MAX_EVENT_BURST": "1000000"}
        a = Ours(users=names, redis_url=redis.url, settings=limits | dict(settings or {}))
        b = Ours(
            users=(), redis_url=redis.url, database_url=a.database_url, settings=limits | dict(settings or {})
        )
        with running([a, b]):
            meter = Meter((a.pid, b.pid), redis)
            time.sleep(1.0)
            before = meter.read()
            time.sleep(idle_seconds)
            spent = meter.read() - before
            yield CostLab(a, b, meter, spent.times(1 / spent.seconds))


def settle(swarms: Sequence[Swarm]) -> None:
    """Until no client has had anything for a while. Raises ``TimeoutError``."""
    end = time.monotonic() + PATIENCE_SECONDS
    while sum(swarm.pump(QUIET_SECONDS / max(1, len(swarms))) for swarm in swarms):
        if time.monotonic() > end:
            raise TimeoutError(f"the instances were still talking after {PATIENCE_SECONDS:g} s")


def token(number: int) -> str:
    return create_token(user(number), SECRET_KEY, expires_in=24 * 3600)
