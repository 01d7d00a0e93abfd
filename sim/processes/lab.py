"""The lab of real processes: the verbs of scenarios on uvicorn processes, a real Redis and real clients.

Scenario, clients and the proxy between all hosts are one asyncio loop of this process. The clock starts when the first
instances serve: how long processes take to start is no part of a scenario.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import redis

from sim.client import Client, Raw, forget_clients
from sim.directory_node import Lines, Users
from sim.errors import NotStarted, SimulatorError, Unreachable
from sim.faults import Backup
from sim.lab import Lab
from sim.likeness import Names
from sim.processes.hosts import Instance, LabRedis, OtherRedis, ask_redis, nursery_of_instances
from sim.processes.monitor import Monitor
from sim.processes.nursery import Nursery
from sim.processes.process import LOOPBACK, START_SECONDS, Process
from sim.processes.proxy import Link, Proxy
from sim.raw_client import Note
from sim.schedule import PlainSchedule, Schedule
from sim.targets.knock import knock

T = TypeVar("T")

REDIS, DATABASE = "redis", "db"
TOLERANCE = 1.1
SLACK_SECONDS = 0.25
"""On a busy machine what must be over within some seconds may take ``TOLERANCE`` times as many, and this."""


def bound(seconds: float) -> float:
    """How long what may take so long at most may take on real processes; see ``Lab.bound``."""
    return seconds * TOLERANCE + SLACK_SECONDS


RESTART_SECONDS = 0.1
CLOSE_SECONDS = 5.0


class ProcessLab(Lab):
    """Made for one run. ``redis_url``: a server that is there already, whose database must be empty; it is left as it
    was, and cannot be killed. ``instances``: so many at least, beside those that the scenario names. ``names``,
    ``after``: see ``Proxy``. ``on_the_second``: the instances' wall clocks begin a second when the lab's clock
    starts, as in a simulated world: what is stamped with whole seconds is the same then. ``monitored``:
    ``monitor`` keeps which commands came to Redis, in their order."""

    def __init__(
        self,
        target: str,
        schedule: Schedule | None = None,
        *,
        settings: Mapping[str, Any] | None = None,
        skips: frozenset[str] = frozenset(),
        nursery: Nursery | None = None,
        redis_url: str | None = None,
        redis_binary: Path | None = None,
        instances: int = 0,
        names: Names | None = None,
        after: Mapping[str, str] | None = None,
        on_the_second: bool = False,
        monitored: bool = False,
    ) -> None:
        super().__init__(skips=skips)
        self.target = target
        self.schedule = schedule or PlainSchedule()
        self.proxy = Proxy(lambda: self.now, self.schedule, names, after)
        self.users = Users()
        self.instances: dict[str, Instance] = {}
        self._settings = dict(settings or {})
        self._nursery = nursery or nursery_of_instances()
        self._other = None if redis_url is None else OtherRedis(redis_url)
        self._own = None if redis_url else LabRedis(self._nursery, redis_binary)
        self._least = instances
        self._on_the_second = on_the_second
        self._clock_offset = 0.0
        self.monitor = Monitor(self.proxy.origins.get) if monitored else None
        self._began: float | None = None
        self._ended: float | None = None
        self._database = (LOOPBACK, 0)
        self._clients: dict[str, Client] = {}
        self._raw: dict[str, Raw] = {}
        self._gone: set[str] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._stalled_until: defaultdict[str, float] = defaultdict(float)
        self._stalled = 0.0

    # Clocks

    @property
    def now(self) -> float:
        if self._began is None:
            return 0.0
        return (time.monotonic() if self._ended is None else self._ended) - self._began

    def wall_time(self) -> float:
        return time.time()

    def bound(self, seconds: float) -> float:
        return bound(seconds)

    # Instances and clients

    async def start(self, *names: str) -> None:
        wanted = list(names)
        if self._began is None:
            wanted += [name for name in _names(self._least) if name not in names]
        for name in wanted:
            if name not in self.instances:
                self.instances[name] = Instance(
                    self._nursery,
                    self.target,
                    name,
                    functools.partial(self._links_of, name),
                    self._settings,
                    lambda: self.now,
                )
            if self.instances[name].ended:
                self._launch(name)
        deadline = time.monotonic() + START_SECONDS
        while waiting := [each for name in wanted if not (each := self.instances[name]).running]:
            if time.monotonic() > deadline:
                log = waiting[0].log[-2000:].strip()
                raise NotStarted(f"{waiting[0].name} did not start within {START_SECONDS:g} s:\n{log}")
            await asyncio.gather(*(instance.look() for instance in waiting))
            for instance in waiting:
                if instance.ended:
                    await asyncio.sleep(RESTART_SECONDS)
                    self._launch(instance.name)
        if self._began is None:
            self._began = time.monotonic()
            if self._on_the_second:
                self._clock_offset = -(time.time() % 1.0)
        if self._clock_offset:
            await asyncio.gather(*(self._set_clock(name, 0.0) for name in wanted))

    def client(self, name: str) -> Client:
        if name not in self._clients:
            self._clients[name] = Client(name, self._note_of(name), functools.partial(self._dial, name))
        return self._clients[name]

    def raw(self, name: str) -> Raw:
        if name not in self._raw:
            self._raw[name] = Raw(name, self._note_of(name))
        return self._raw[name]

    def place(self, who: Client | Raw, instance: str) -> tuple[str, int]:
        return LOOPBACK, self._way(who.name, instance).port

    async def do(self, who: Client | Raw, work: Coroutine[Any, Any, T]) -> T:
        return await work

    def background(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def peek(
        self,
        instance: str,
        door: str,
        payload: dict[str, Any] | None = None,
        query: Mapping[str, str] | None = None,
        *,
        timeout: float,
        by: str = "driver",
    ) -> tuple[int, Any]:
        port = self._way(by, instance).port
        return await knock(LOOPBACK, port, door, payload, query=query, timeout=timeout)

    # Faults

    def do_drop(self, client: Client | Raw, *, silent: bool) -> None:
        self._gone.add(client.name)
        for link in self.proxy.of(client.name):
            if not silent:
                link.reset_at(link.up.target)
            for lane in link.lanes:
                lane.void = True

    def do_crash(self, instance: str, *, silent: bool = False) -> None:
        if silent:
            for link in self.proxy.of(instance):
                for lane in link.lanes:
                    lane.void = True
        self.instances[instance].kill()

    def do_pause(self, host: str, seconds: float) -> None:
        until = max(self._stalled_until[host], self.now + seconds)
        self._stalled += until - max(self._stalled_until[host], self.now)
        self._stalled_until[host] = until
        self._halt(host)
        if host in self._timers:
            self._timers.pop(host).cancel()
        self._timers[host] = asyncio.get_running_loop().call_later(until - self.now, self._go_on, host)

    def do_terminate(self, instance: str) -> None:
        self.instances[instance].signal_end()

    def do_partition(self, one: str, other: str) -> None:
        for link in self._between(one, other):
            for lane in link.lanes:
                lane.block()

    def do_heal(self, one: str, other: str) -> None:
        for link in self._between(one, other):
            for lane in link.lanes:
                lane.pass_on()

    def do_reset(self, one: str, other: str) -> None:
        for link in self._between(one, other):
            link.reset()

    def do_skew(self, host: str, seconds: float) -> None:
        self.background(self._set_clock(host, seconds))

    def do_restart_redis(self, *, keep_data: bool, back_to: Backup | None = None) -> None:
        own = self._own_redis("restarted")
        self._go_on(REDIS)
        own.relaunch(own.keep() if keep_data else back_to)

    def do_kill_connections(self) -> None:
        addresses = [address for link in self.proxy.of(REDIS) for address in link.local_addresses()]
        kills = [("CLIENT", "KILL", "ADDR", address) for address in addresses]
        self.background(self.ask_redis(*kills))

    def do_lose_published(self, host: str, *, lose: bool) -> None:
        lane = self.proxy.lane(REDIS, host)
        lane.loses_published = lose
        lane.lost = 0

    def keep_redis(self) -> Backup:
        return self._own_redis("put back to what it was").keep()

    def lost_published(self, host: str) -> int:
        return self.proxy.lane(REDIS, host).lost

    @property
    def healed_at(self) -> float:
        return max(self._lasting_until, *self._stalled_until.values(), 0.0)

    def stalls(self) -> float:
        return self._stalled

    def steady(self, instance: str, since: float) -> bool:
        found = self.instances[instance]
        return found.running and found.started_at <= since and self._stalled_until[instance] <= since

    # Running

    def run(
        self,
        scenario: Callable[[Lab], Coroutine[Any, Any, None]],
        *,
        seed: int = 0,
        limit: float = 300.0,
    ) -> None:
        """Runs a scenario to its end. Raises what it raises, or ``SimulatorError`` after ``limit`` seconds."""
        self.seed = seed
        asyncio.run(self._run(scenario, limit))

    async def _run(self, scenario: Callable[[Lab], Coroutine[Any, Any, None]], limit: float) -> None:
        async with self.opened():
            try:
                async with asyncio.timeout(self.bound(limit) + START_SECONDS) as time_left:
                    await scenario(self)
            except TimeoutError:
                if not time_left.expired():
                    raise
                raise SimulatorError(f"the scenario did not end within {self.bound(limit):g} s") from None

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Everything but instances is there; at the end nothing is any more."""
        try:
            loop = asyncio.get_running_loop()
            served = await loop.create_server(lambda: Lines(self.users), LOOPBACK, 0)
            self._database = served.sockets[0].getsockname()
            if self._other is not None:
                await self._other.begin()
            else:
                assert self._own is not None
                self._own.start()
            if self.monitor is not None:
                began = asyncio.Event()
                self.background(self.monitor.listen(*self._redis.address, began))
                await began.wait()
            yield
            served.close()
        finally:
            await self._close()

    async def _close(self) -> None:
        self._ended = time.monotonic()
        for timer in self._timers.values():
            timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for instance in self.instances.values():
            instance.close()
        await self.proxy.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                for client in self._clients.values():
                    await client.abandon()
        forget_clients()
        if self._own is not None:
            self._own.close()
        if self._other is not None:
            await self._other.end()

    # Its own

    async def _set_clock(self, host: str, ahead: float) -> None:
        with contextlib.suppress(OSError, TimeoutError):  # it may just be dying
            await self.peek(host, "clock", {"seconds": ahead + self._clock_offset}, timeout=5.0)

    def _launch(self, name: str) -> None:
        self._stalled_until.pop(name, None)
        for link in self.proxy.of(name):
            for lane in link.lanes:
                lane.void = False
        self.instances[name].launch()

    def _links_of(self, name: str) -> tuple[str, str]:
        """What an instance is told: the URL of its Redis, and its database."""
        to_redis = self.proxy.link(name, REDIS, lambda: self._redis.address)
        to_database = self.proxy.link(name, DATABASE, lambda: self._database)
        return self._redis.through(to_redis.port), f"{LOOPBACK}:{to_database.port}"

    def _way(self, who: str, instance: str) -> Link:
        return self.proxy.link(who, instance, lambda: (LOOPBACK, self.instances[instance].port))

    def _between(self, one: str, other: str) -> list[Link]:
        found = self.proxy.between(one, other)
        if not found:
            client, instance = (one, other) if other in self.instances else (other, one)
            if instance not in self.instances:
                raise Unreachable(f"there is nothing between {one} and {other}")
            found = [self._way(client, instance)]
        return found

    def _dial(self, client: str, instance: str) -> tuple[aiohttp.BaseConnector, str]:
        return aiohttp.TCPConnector(), f"http://{LOOPBACK}:{self._way(client, instance).port}"

    def _note_of(self, name: str) -> Note:
        def note(what: str, event: str, data: Any) -> None:
            if name not in self._gone and self._ended is None:
                self.history.add(self.now, name, what, event, data)

        return note

    @property
    def redis_url(self) -> str:
        """Of the Redis itself, past the proxy."""
        return self._redis.url

    @property
    def _redis(self) -> LabRedis | OtherRedis:
        found = self._own or self._other
        assert found is not None
        return found

    def _own_redis(self, done: str) -> LabRedis:
        if self._own is None:
            raise Unreachable(f"the Redis of --redis-url cannot be {done}: leave the option away")
        return self._own

    async def ask_redis(self, *commands: tuple[str | int, ...]) -> None:
        """Some commands, on a connection of their own; a Redis that does not answer is none the wiser."""
        with contextlib.suppress(redis.RedisError, OSError):
            await ask_redis(self._redis.url, *commands)

    def _halt(self, host: str) -> None:
        if host == REDIS and self._own is None:
            for link in self.proxy.of(REDIS):
                for lane in link.lanes:
                    lane.block()
        elif (process := self._process(host)).running:
            process.pause()

    def _go_on(self, host: str) -> None:
        self._timers.pop(host, None)
        if host == REDIS and self._own is None:
            for link in self.proxy.of(REDIS):
                for lane in link.lanes:
                    lane.pass_on()
        else:
            self._process(host).resume()

    def _process(self, host: str) -> Process:
        if host == REDIS:
            return self._own_redis("stopped")
        if host not in self.instances:
            raise Unreachable(f"{host} is no process of its own here")
        return self.instances[host]


def _names(number: int) -> list[str]:
    return [f"api-{each}" for each in range(1, number + 1)]
