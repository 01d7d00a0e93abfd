"""The servers' side of the run: CPU and memory of instances, operations of Redis, how long `/health` takes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import gevent
import psutil
import redis

from loadtests import _clock
from loadtests._errors import LoadError
from loadtests._http import Connection, Target

SAMPLE_SECONDS = 1.0
MAX_SAMPLES = 7200
"""Beyond this many every second one is dropped, and samples are taken half as often."""


@dataclass(frozen=True, slots=True)
class Sample:
    """At the Unix time `at`; lists in the order of what is watched, None where it did not answer.

    `cpu` in shares of a core, `memory` in bytes, `redis_ops` commands a second, `health` seconds.
    """

    at: float
    cpu: tuple[float | None, ...]
    memory: tuple[float | None, ...]
    redis_ops: float | None
    health: tuple[float | None, ...]


@dataclass(slots=True)
class Watcher:
    """Watches until the process ends. Nothing here may fail the run: what does not answer is a gap."""

    pids: Sequence[int]
    redis_url: str
    targets: Sequence[Target]
    samples: list[Sample] = field(default_factory=list)
    _every: float = SAMPLE_SECONDS
    _last: dict[int, tuple[float, float]] = field(default_factory=dict)
    _redis: redis.Redis | None = None
    _last_ops: tuple[float, int] | None = None

    def run(self) -> None:
        while True:
            began = _clock.now()
            used = [self._process(pid) for pid in self.pids]
            health = [gevent.spawn(self._health, target) for target in self.targets]
            gevent.joinall(health)
            self.samples.append(
                Sample(
                    began,
                    tuple(cpu for cpu, _ in used),
                    tuple(memory for _, memory in used),
                    self._ops(),
                    tuple(each.value for each in health),
                )
            )
            if len(self.samples) > MAX_SAMPLES:
                del self.samples[::2]
                self._every *= 2
            gevent.sleep(max(0.05, began + self._every - _clock.now()))

    def _process(self, pid: int) -> tuple[float | None, float | None]:
        try:
            process = psutil.Process(pid)
            with process.oneshot():
                times, memory, now = process.cpu_times(), process.memory_info().rss, time.perf_counter()
        except psutil.Error:
            return None, None
        used = times.user + times.system
        before = self._last.get(pid)
        self._last[pid] = (now, used)
        return (None if before is None else (used - before[1]) / (now - before[0])), float(memory)

    def _health(self, target: Target) -> float | None:
        try:
            connection = Connection(target, 2.0)
        except LoadError:
            return None
        try:
            began = time.perf_counter()
            connection.send(f"GET /health HTTP/1.1\r\nHost: {target.authority}\r\n\r\n".encode())
            return time.perf_counter() - began if connection.read().status == 200 else None
        except LoadError:
            return None
        finally:
            connection.close()

    def _ops(self) -> float | None:
        if not self.redis_url:
            return None
        try:
            if self._redis is None:
                self._redis = redis.Redis.from_url(self.redis_url, socket_timeout=2, socket_connect_timeout=2)
            done = int(self._redis.info("stats")["total_commands_processed"])
        except (redis.RedisError, OSError, ValueError):
            return None
        now, before = time.perf_counter(), self._last_ops
        self._last_ops = (now, done)
        # A server that was started again counts from 0.
        return None if before is None or done < before[1] else (done - before[1]) / (now - before[0])
