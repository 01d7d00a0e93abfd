"""The simulated lab: the verbs of scenarios, on a world of nodes.

A scenario is a coroutine on the node ``driver``. What it asks of a client or an instance runs on that host's own node;
the answer comes back to the driver without passing the simulated network.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

from sim.client import Client, Raw
from sim.client_node import ClientNode, RawNode
from sim.determinism import owned
from sim.directory_node import DirectoryNode
from sim.errors import NotStarted
from sim.faults import Backup
from sim.history import Entry
from sim.instance_node import PORT, InstanceNode
from sim.lab import POLL_SECONDS, START_SECONDS, Lab
from sim.network import Network
from sim.node import Node
from sim.redis_node import RedisNode
from sim.schedule import Schedule
from sim.targets import Context, Factory
from sim.targets.knock import knock
from sim.trace import Trace
from sim.world import START, World

T = TypeVar("T")

RESTART_SECONDS = 0.1
"""Until an instance that ended while it was started is started again, as whatever supervises processes does."""


class SimulatedLab(Lab):
    """One world, made for one run."""

    def __init__(
        self,
        factory: Factory,
        schedule: Schedule,
        *,
        settings: dict[str, Any] | None = None,
        skips: frozenset[str] = frozenset(),
        bound: Callable[[float], float] = float,
    ) -> None:
        """``skips``: actions of clients and faults that are left out, by name. ``bound``: see ``Lab.bound``."""
        self.trace = Trace()
        super().__init__(skips=skips)
        self.schedule = schedule
        self.world = World()
        self.network = Network(self.world, schedule)
        self.network.observers.append(self.trace)
        self._factory = factory
        self._settings = settings or {}
        self._bound = bound
        self.driver = Node(self.world, self.network, "driver")
        self.redis = RedisNode(self.world, self.network)
        self.directory = DirectoryNode(self.world, self.network)
        self.instances: dict[str, InstanceNode] = {}
        self.clients: dict[str, ClientNode] = {}
        self._raw: dict[str, RawNode] = {}
        self._backend: Node | None = None

    @property
    def now(self) -> float:
        return self.world.now

    def wall_time(self) -> float:
        return START + self.world.now

    def bound(self, seconds: float) -> float:
        """Nothing takes long here but what the run makes long, unless somebody wants it as elsewhere."""
        return self._bound(seconds)

    async def start(self, *names: str) -> None:
        for name in names:
            if name not in self.instances:
                context = Context(name, self.redis.url, self.directory.address, settings=self._settings)
                self.instances[name] = InstanceNode(self.world, self.network, context, self._factory)
            if self.instances[name].ended:
                self.instances[name].start()
        deadline = self.now + START_SECONDS
        while waiting := [name for name in names if not self.instances[name].running]:
            if self.now >= deadline:
                trouble = self.instances[waiting[0]].trouble
                raise NotStarted(
                    f"{', '.join(waiting)} did not start within {START_SECONDS:g} virtual seconds"
                    + (f": {trouble}" if trouble else "")
                )
            await asyncio.sleep(POLL_SECONDS)
            for name in waiting:
                if self.instances[name].ended:
                    await asyncio.sleep(RESTART_SECONDS)
                    self.instances[name].start()

    def client(self, name: str) -> ClientNode:
        if name not in self.clients:
            self.clients[name] = ClientNode(self.world, self.network, self.history, name)
        return self.clients[name]

    def raw(self, name: str) -> RawNode:
        if name not in self._raw:
            self._raw[name] = RawNode(self.world, self.network, self.history, name)
        return self._raw[name]

    def place(self, who: Client | Raw, instance: str) -> tuple[str, int]:
        return instance, PORT

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
        asking = knock(instance, PORT, door, payload, query=query, timeout=timeout)
        if by == "driver":
            return await asking
        if self._backend is None:
            self._backend = Node(self.world, self.network, by)
        return await self.on(self._backend, asking)

    async def do(self, who: Client | Raw, work: Coroutine[Any, Any, T]) -> T:
        return await self.on(_node_of(who), work)

    def background(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        return self.driver.spawn(work)

    # Faults

    def do_drop(self, client: Client | Raw, *, silent: bool) -> None:
        self.network.crash(_node_of(client), silent=silent)

    def do_crash(self, instance: str, *, silent: bool = False) -> None:
        self.instances[instance].crash(silent=silent)

    def do_pause(self, host: str, seconds: float) -> None:
        self.world.nodes[host].pause(seconds)

    def do_terminate(self, instance: str) -> None:
        self.instances[instance].terminate()

    def do_partition(self, one: str, other: str) -> None:
        self.network.cut(one, other)

    def do_heal(self, one: str, other: str) -> None:
        self.network.mend(one, other)

    def do_reset(self, one: str, other: str) -> None:
        self.network.reset(one, other)

    def do_skew(self, host: str, seconds: float) -> None:
        self.world.nodes[host].clock_skew = seconds

    def do_restart_redis(self, *, keep_data: bool, back_to: Backup | None = None) -> None:
        self.redis.restart(keep_data=keep_data, back_to=back_to)

    def do_kill_connections(self) -> None:
        self.redis.kill_connections()

    def do_lose_published(self, host: str, *, lose: bool) -> None:
        self.redis.deaf.pop(host, None)
        if lose:
            self.redis.deaf[host] = 0

    def burden(self, host: str, seconds: float) -> None:
        """Every turn of this host takes CPU time from now on: what comes meanwhile waits."""
        self.world.nodes[host].turn_seconds = seconds

    def keep_redis(self) -> Backup:
        return self.redis.keep()

    def lost_published(self, host: str) -> int:
        return self.redis.deaf[host]

    @property
    def healed_at(self) -> float:
        return max(self._lasting_until, *(node.busy_until for node in self.world.nodes.values()))

    def stalls(self) -> float:
        return sum(node.stalled_seconds for node in self.world.nodes.values())

    def steady(self, instance: str, since: float) -> bool:
        found = self.instances[instance]
        return (
            found.running
            and found.node is not None
            and found.started_at <= since
            and (found.node.busy_until <= since)
        )

    # Running

    async def on(self, node: Node, work: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine on another node and brings its result back to the caller's."""
        answer: asyncio.Future[T] = self.driver.loop.create_future()

        def finished(task: asyncio.Task[T]) -> None:
            self.driver.deliver(_settle, answer, task)

        node.spawn(work).add_done_callback(finished)
        return await answer

    def run(
        self,
        scenario: Callable[[SimulatedLab], Coroutine[Any, Any, None]],
        *,
        seed: int = 0,
        limit: float = 300.0,
    ) -> None:
        """Runs a scenario to its end. Raises what it raises, or ``Deadlock`` or ``Livelock``."""
        self.seed = seed
        with owned(self.world, seed):
            task = self.driver.spawn(scenario(self), name="scenario")
            self.world.run(task.done, limit=limit)
            task.result()

    def marks(self) -> Counter[str]:
        """How often each safeguard of the target acted, over all instances and their earlier lives; 0 for those that
        never did."""
        apps = [app for instance in self.instances.values() for app in (*instance.former, instance.app)]
        offered = [getattr(getattr(app, "state", None), "marks", None) for app in apps]
        found: Counter[str] = Counter()
        for marks in offered:
            if marks is not None:
                found.update(marks())
        return found

    def _note(self, entry: Entry) -> None:
        self.trace.note(entry.at, f"{entry.who} {entry.what} {entry.name} {entry.data!r}")


def _node_of(who: Client | Raw) -> Node:
    assert isinstance(who, ClientNode | RawNode), "made by another lab"
    return who.node


def _settle(answer: asyncio.Future[T], task: asyncio.Task[T]) -> None:
    if answer.done():
        return
    if task.cancelled():
        answer.cancel()
    elif (error := task.exception()) is not None:
        answer.set_exception(error)
    else:
        answer.set_result(task.result())
