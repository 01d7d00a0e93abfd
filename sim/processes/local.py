"""A cluster on this machine to point load or a browser at: instances of a target, their Redis, maybe a balancer."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence

from sim.directory_node import Lines, Users
from sim.processes.balancers import Balancer, Nginx, SmallBalancer, find_binary
from sim.processes.guard import Guard
from sim.processes.instances import SECRET_KEY, Fleet, Instance
from sim.processes.process import LOOPBACK, Process
from sim.processes.redis import RedisServer

REALTIME = "realtime"
"""The target that is served as anybody would serve it, and has tags in its session ids."""


class TargetInstance(Instance):
    """An instance of any other target, by `sim.targets.serve`. `directory`: HOST:PORT of the users."""

    def __init__(self, target: str, *, name: str, redis_url: str, directory: str) -> None:
        super().__init__(redis_url=redis_url, name=name, module="sim.targets.serve")
        self._target = target
        self._directory = directory

    def _command(self, port: int) -> tuple[Sequence[str], Mapping[str, str]]:
        _, environment = super()._command(port)
        command = [sys.executable, "-m", self._module, self._target, "--host", LOOPBACK, "--port", str(port)]
        command += ["--redis-url", str(self.redis_url), "--directory", self._directory, "--name", self.name]
        return command, environment


class LocalCluster:
    """`start` everything, `stop` it gently, also while it starts; both may be called once. `redis_url=None`: a Redis of
    its own.

    Its processes are in a group of their own, so that Ctrl-C reaches nobody but whoever then stops the cluster in
    order; if that one is killed, so are they.
    """

    def __init__(self, size: int, *, target: str, redis_url: str | None, balanced: bool) -> None:
        self.target = target
        self.redis = None if redis_url else RedisServer()
        self.redis_url = redis_url or ""
        self.instances: list[Instance] = []
        self.balancer: Balancer | None = None
        self._size = size
        self._balanced = balanced
        self._directory: asyncio.Server | None = None
        self._guard = Guard()

    async def start(self, stop: asyncio.Event) -> None:
        """Gives up between two steps if `stop` is set. Raises `ProcessError`, as where `stop` cut it short."""
        if self.redis is not None:
            await self._started(self.redis)
            self.redis_url = self.redis.url
        self.instances += await self._made()
        if not stop.is_set():
            await asyncio.gather(*map(self._started, self.instances))
        if self._balanced and not stop.is_set():
            where = {instance.name: f"{LOOPBACK}:{instance.port}" for instance in self.instances}
            self.balancer = (Nginx if find_binary("nginx") else SmallBalancer)(where)
            await self._started(self.balancer)

    async def stop(self) -> list[BaseException]:
        """Instances first, while clients can still be told; then what they stand on. What went wrong with some."""
        ends = await _ended(self.instances)
        ends += await _ended([process for process in (self.balancer, self.redis) if process is not None])
        for process in reversed(list(self.processes())):
            process.close()
        self._guard.close()
        if self._directory is not None:
            self._directory.close()
        return [end for end in ends if isinstance(end, BaseException)]

    def processes(self) -> Iterator[Process]:
        """All there is, in the order in which it was started."""
        if self.redis is not None:
            yield self.redis
        yield from self.instances
        if self.balancer is not None:
            yield self.balancer

    def token_recipe(self) -> str:
        """The command that prints a token for the user ann."""
        if self.target == REALTIME:
            return "python -m realtime --demo token ann"
        return f"WEBUI_SECRET_KEY={SECRET_KEY} python -m realtime token ann"

    async def _made(self) -> Sequence[Instance]:
        if self.target == REALTIME:
            # An empty key is none: the demo's own, with which anybody here can make tokens.
            settings = {"WEBUI_SECRET_KEY": ""}
            return Fleet(self._size, redis_url=self.redis_url, demo=True, settings=settings).instances
        users = Users()
        loop = asyncio.get_running_loop()
        self._directory = await loop.create_server(lambda: Lines(users), LOOPBACK, 0)
        directory = f"{LOOPBACK}:{self._directory.sockets[0].getsockname()[1]}"
        return [
            TargetInstance(
                self.target, name=f"instance-{number}", redis_url=self.redis_url, directory=directory
            )
            for number in range(1, self._size + 1)
        ]

    async def _started(self, process: RedisServer | Instance | Balancer) -> None:
        process.group = self._guard.group
        await asyncio.to_thread(process.start)


async def _ended(processes: Sequence[Process]) -> list[int | BaseException]:
    """Their exit statuses after SIGTERM, or why one had to be killed."""
    leaving = [asyncio.to_thread(process.terminate) for process in processes if process.running]
    return list(await asyncio.gather(*leaving, return_exceptions=True))


async def watch(processes: Sequence[Process], stop: asyncio.Event) -> Process | None:
    """Waits until one of the processes has ended, which is returned, or until `stop` is set."""
    while not stop.is_set():
        for process in processes:
            if not process.running:
                return process
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.2):
                await stop.wait()
    return None
