"""The simulated lab: the verbs of scenarios, on a world of nodes.

A scenario is a coroutine on the node ``driver``. What it asks of a client or an instance runs on that host's own node;
the answer comes back to the driver without passing the simulated network.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import jwt

from sim.client_node import ClientNode, RawNode
from sim.determinism import owned
from sim.directory_node import DirectoryNode
from sim.errors import SimulatorError
from sim.history import Entry, History
from sim.instance_node import InstanceNode
from sim.invariants import Checks
from sim.network import Network
from sim.node import Node
from sim.redis_node import RedisNode
from sim.schedule import Schedule
from sim.targets import SECRET, Context, Factory
from sim.targets.knock import knock
from sim.trace import Trace
from sim.world import START, World

T = TypeVar("T")

START_SECONDS = 10.0
POLL_SECONDS = 0.01


class Lab:
    """One world, made for one run."""

    def __init__(
        self, factory: Factory, schedule: Schedule, *, settings: dict[str, Any] | None = None
    ) -> None:
        self.world = World()
        self.network = Network(self.world, schedule)
        self.trace = Trace()
        self.network.observers.append(self.trace)
        self.history = History(note=self._note)
        self.reached: dict[str, int] = {}
        self.checks = Checks(self)
        self._factory = factory
        self._settings = settings or {}
        self.driver = Node(self.world, self.network, "driver")
        self.redis = RedisNode(self.world, self.network)
        self.directory = DirectoryNode(self.world, self.network)
        self.instances: dict[str, InstanceNode] = {}
        self.clients: dict[str, ClientNode] = {}
        self._raw: dict[str, RawNode] = {}
        self._backend: Node | None = None

    # Verbs

    async def start(self, *names: str) -> None:
        """Starts instances, all at once, and waits until they serve."""
        for name in names:
            self.launch(name)
        await self.until(
            lambda: all(self.instances[name].running for name in names), START_SECONDS, "instances"
        )

    def launch(self, name: str) -> None:
        """Begins to start an instance."""
        if name not in self.instances:
            context = Context(name, self.redis.url, self.directory.address, settings=self._settings)
            self.instances[name] = InstanceNode(self.world, self.network, context, self._factory)
        self.instances[name].start()

    async def connect(
        self, name: str, user: str | None, at: str, *, transport: str = "websocket", **auth: Any
    ) -> ClientNode:
        """A new tab of a user on an instance; None is a stranger without a token."""
        client = self.client(name)
        await self.connect_again(client, user, at, transport=transport, **auth)
        return client

    def client(self, name: str) -> ClientNode:
        """A tab that is not connected yet."""
        if name not in self.clients:
            self.clients[name] = ClientNode(self.world, self.network, self.history, name)
        return self.clients[name]

    def raw(self, name: str) -> RawNode:
        """A client of which anything may be expected; not connected yet."""
        if name not in self._raw:
            self._raw[name] = RawNode(self.world, self.network, self.history, name)
        return self._raw[name]

    async def connect_raw(self, raw: RawNode, user: str, at: str, *, transport: str = "websocket") -> bool:
        host, _colon, port = self.instances[at].address.partition(":")
        auth = {"token": self.token(user)}
        return await self.on(raw.node, raw.client.connect(host, int(port), auth, transport=transport))

    async def connect_again(
        self,
        client: ClientNode,
        user: str | None,
        at: str,
        *,
        transport: str = "websocket",
        reconnection: bool = False,
        **auth: Any,
    ) -> bool:
        """``reconnection``: it comes back by itself whenever the connection is lost."""
        if user is not None:
            auth = {**auth, "token": self.token(user)}
        address = self.instances[at].address
        connecting = client.connect(address, auth or None, transport=transport, reconnection=reconnection)
        return await self.on(client.node, connecting)

    async def connect_with(self, client: ClientNode, token: str, at: str) -> bool:
        """With a token of one's own."""
        address = self.instances[at].address
        return await self.on(client.node, client.connect(address, {"token": token}))

    async def emit(self, client: ClientNode, event: str, data: Any = None) -> None:
        await self.on(client.node, client.emit(event, data))

    async def call(self, client: ClientNode, event: str, data: Any = None) -> Any:
        return await self.on(client.node, client.call(event, data))

    async def knock(
        self, instance: str, door: str, payload: dict[str, Any] | None = None, **query: str
    ) -> tuple[int, Any]:
        """Status and answer of one of an instance's doors, asked by another module of the backend: its own host."""
        if self._backend is None:
            self._backend = Node(self.world, self.network, "backend")
        host, _colon, port = self.instances[instance].address.partition(":")
        return await self.on(self._backend, knock(host, int(port), door, payload, query=query))

    async def close(self, client: ClientNode) -> None:
        await self.on(client.node, client.close())

    def drop(self, client: ClientNode | RawNode, *, silent: bool = True) -> None:
        """The tab's host is gone without a word to anyone, or its connections are reset."""
        self.fault(f"{client.name} vanishes")
        self.network.crash(client.node, silent=silent)

    def crash(self, instance: str, *, silent: bool = False) -> None:
        self.fault(f"{instance} crashes")
        self.instances[instance].crash(silent=silent)

    def pause(self, host: str, seconds: float) -> None:
        self.fault(f"{host} stalls for {seconds:g} s")
        self.world.nodes[host].pause(seconds)

    def partition(self, one: str, other: str) -> None:
        self.fault(f"{one} and {other} are cut off from each other")
        self.network.cut(one, other)

    def heal(self, one: str, other: str) -> None:
        self.fault(f"{one} and {other} reach each other again")
        self.network.mend(one, other)

    def skew(self, host: str, seconds: float) -> None:
        self.world.nodes[host].clock_skew = seconds

    def restart_redis(self, *, keep_data: bool) -> None:
        """Redis goes and is back at once, with its data or empty; every connection to it is reset."""
        self.fault(f"redis restarts {'with' if keep_data else 'without'} its data")
        self.redis.crash()
        self.redis.restart(keep_data=keep_data)

    def drop_redis_connections(self) -> None:
        """As CLIENT KILL of all of them."""
        self.fault("redis closes its connections")
        self.redis.kill_connections()

    async def until_time(self, when: float) -> None:
        """Sleeps until a virtual time."""
        await asyncio.sleep(max(0.0, when - self.world.now))

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def until(self, true: Callable[[], object], within: float, what: str) -> None:
        """Waits for a condition on the world; raises ``SimulatorError`` after ``within`` virtual seconds."""
        deadline = self.world.now + within
        while not true():
            if self.world.now >= deadline:
                raise SimulatorError(f"waited {within:g} virtual seconds in vain for {what}")
            await asyncio.sleep(POLL_SECONDS)

    async def together(self, *work: Awaitable[Any]) -> list[Any]:
        """Several verbs at once; their results."""
        return list(await asyncio.gather(*work))

    def background(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """A verb that goes on while the scenario does something else; await it to get its result."""
        return self.driver.spawn(work)

    def reach(self, what: str) -> None:
        """Says that the run has got to what makes it mean something."""
        self.reached[what] = self.reached.get(what, 0) + 1

    def fault(self, what: str) -> None:
        self.history.add(self.world.now, "lab", "fault", what)

    def token(self, user: str, *, lifetime: float = 3600.0) -> str:
        now = START + self.world.now
        claims = {
            "id": user,
            "iat": int(now),
            "exp": now + lifetime,
            "jti": f"{user}-{len(self.history.entries)}",
        }
        return jwt.encode(claims, SECRET, algorithm="HS256")

    # Running

    async def on(self, node: Node, work: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine on another node and brings its result back to the caller's."""
        answer: asyncio.Future[T] = self.driver.loop.create_future()

        def finished(task: asyncio.Task[T]) -> None:
            self.driver.deliver(_settle, answer, task)

        node.spawn(work).add_done_callback(finished)
        return await answer

    def run(
        self, scenario: Callable[[Lab], Coroutine[Any, Any, None]], *, seed: int = 0, limit: float = 300.0
    ) -> None:
        """Runs a scenario to its end. Raises what it raises, or ``Deadlock`` or ``Livelock``."""
        with owned(self.world, seed):
            task = self.driver.spawn(scenario(self), name="scenario")
            self.world.run(task.done, limit=limit)
            task.result()

    def _note(self, entry: Entry) -> None:
        self.trace.note(entry.at, f"{entry.who} {entry.what} {entry.name} {entry.data!r}")


def _settle(answer: asyncio.Future[T], task: asyncio.Task[T]) -> None:
    if answer.done():
        return
    if task.cancelled():
        answer.cancel()
    elif (error := task.exception()) is not None:
        answer.set_exception(error)
    else:
        answer.set_result(task.result())
