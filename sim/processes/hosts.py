"""The hosts of a lab of real processes: instances of any target, and a Redis that can be put back to what it was."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import redis
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from sim.errors import SimulatorError
from sim.processes.instances import SETTING_PREFIXES
from sim.processes.nursery import Nursery
from sim.processes.process import LOOPBACK, Process, ProcessError, Server, clean_environment, free_port
from sim.processes.redis import RedisServer

SERVE = "sim.targets.serve"
DATA = "dump.rdb"
LOOK_SECONDS = 0.005


@functools.cache
def nursery_of_instances() -> Nursery:
    """One for all labs of this process; it starts when it is first needed, and ends with the process."""
    return Nursery(SERVE, "sim.targets.naive", "sim.targets.realtime")


class _Forked(Process):
    """A process that is a nursery's child: when its owner is gone, however that ended, it is gone too."""

    nursery: Nursery

    def _launch(self, command: Sequence[str], environment: Mapping[str, str] | None) -> None:
        if self.running:
            raise ProcessError(f"{self.name} runs already, as process {self.pid}")
        # A nursery's child has what this class' owner asks of a Popen.
        self._popen = self.nursery.fork(command, environment, self._log_path)  # type: ignore[assignment]


class Instance(_Forked, Server):
    """One instance of a target. ``links``: the URL of its Redis and the address of its database, through the proxy."""

    def __init__(
        self,
        nursery: Nursery,
        target: str,
        name: str,
        links: Callable[[], tuple[str, str]],
        settings: Mapping[str, Any],
        clock: Callable[[], float],
    ) -> None:
        super().__init__(name, free_port())
        self.nursery = nursery
        self.serving = False
        self.started_at = 0.0
        self._target = target
        self._links = links
        self._settings = settings
        self._clock = clock

    @property
    def running(self) -> bool:
        """Whether it serves."""
        return self.serving and not self.ended

    @property
    def ended(self) -> bool:
        return self._popen is None or self._popen.poll() is not None

    def launch(self) -> None:
        """Begins to start; ``serving`` says when it has."""
        self.serving = False
        self.started_at = self._clock()
        self._launch(*self._command(self.port))

    def signal_end(self) -> None:
        """SIGTERM, also to one that stands still."""
        if not self.ended:
            self._started().terminate()
            self.resume()

    async def look(self) -> None:
        """Finds out whether it serves by now."""
        if not self.serving and not self.ended:
            try:
                _reader, writer = await asyncio.open_connection(LOOPBACK, self.port)
            except OSError:
                await asyncio.sleep(LOOK_SECONDS)
                return
            writer.close()
            self.serving = not self.ended

    def _command(self, port: int) -> tuple[Sequence[str], Mapping[str, str]]:
        redis_url, directory = self._links()
        command = [sys.executable, "-m", SERVE, self._target, "--port", str(port), "--redis-url", redis_url]
        command += ["--directory", directory, "--name", self.name, "--settings", json.dumps(self._settings)]
        return command, clean_environment(without=SETTING_PREFIXES, extra={"PYTHONUNBUFFERED": "1"})

    def _ready_on(self, port: int) -> bool:
        return self.serving


class LabRedis(_Forked, RedisServer):
    """A server of the lab's own."""

    def __init__(self, nursery: Nursery, binary: Path | None) -> None:
        super().__init__(binary=binary)
        self.nursery = nursery

    def keep(self) -> bytes:
        """Its data as it is now."""
        self.execute("SAVE")
        return (self.folder / DATA).read_bytes()

    def relaunch(self, data: bytes | None) -> None:
        """Kills it and begins to start it on its port, with this data or empty."""
        self.kill()
        (self.folder / DATA).unlink(missing_ok=True)
        if data is not None:
            (self.folder / DATA).write_bytes(data)
        self._launch(*self._command(self.port))

    def through(self, port: int) -> str:
        """Its URL for who reaches it by a port of the proxy."""
        return f"redis://{LOOPBACK}:{port}/0"

    @property
    def address(self) -> tuple[str, int]:
        return LOOPBACK, self.port


class OtherRedis:
    """A server that was there before the lab, and stays: one database of it, which must be empty, is the lab's."""

    def __init__(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port or 6379
        except ValueError:  # a port that is none, an address that is torn
            host = None
        if not host or parts.scheme != "redis":
            raise SimulatorError(f"{url!r} is no address of a Redis: give one as redis://HOST:PORT/DATABASE")
        self.url = url
        self.address = (host, port)
        self._parts = parts
        self._ours = False

    def through(self, port: int) -> str:
        login, at, _host = self._parts.netloc.rpartition("@")
        return urlunsplit(self._parts._replace(netloc=f"{login}{at}{LOOPBACK}:{port}"))

    async def begin(self) -> None:
        """Raises ``SimulatorError`` when it cannot be used."""
        try:
            (keys,) = await ask_redis(self.url, ("DBSIZE",))
        except (redis.RedisError, OSError) as error:
            raise SimulatorError(f"the Redis at {self.url} cannot be used: {error}") from None
        if keys:
            raise SimulatorError(
                f"the database {self.url} has {keys} keys: give an empty one, as redis://HOST:PORT/9"
            )
        self._ours = True

    async def end(self) -> None:
        """Leaves the database as it was found; one that was refused is somebody else's."""
        if not self._ours:
            return
        with contextlib.suppress(redis.RedisError, OSError):
            await ask_redis(self.url, ("FLUSHDB",))


async def ask_redis(url: str, *commands: tuple[str | int, ...]) -> list[Any]:
    """The answers to some commands, on a connection of their own. Raises redis-py's errors, after 5 s at most."""
    client: Any = redis.asyncio.Redis.from_url(  # its commands are not typed
        url, socket_timeout=5, socket_connect_timeout=5, retry=Retry(NoBackoff(), 0), decode_responses=True
    )
    client.response_callbacks.clear()
    try:
        return [await client.execute_command(*words) for words in commands]
    finally:
        await client.aclose()
