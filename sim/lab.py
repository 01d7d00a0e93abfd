"""The simulated lab: the verbs of scenarios, on a world of nodes.

A scenario is a coroutine on the node ``driver``. What it asks of a client or an instance runs on that host's own node;
the answer comes back to the driver without passing the simulated network.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import jwt

from sim.client_node import ClientNode, RawNode
from sim.determinism import owned
from sim.directory_node import DirectoryNode
from sim.errors import NotStarted, SimulatorError
from sim.faults import Faults
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

START_SECONDS = 30.0
RESTART_SECONDS = 0.1
"""Until an instance that ended while it was started is started again, as whatever supervises processes does."""
POLL_SECONDS = 0.01


class Lab(Faults):
    """One world, made for one run."""

    def __init__(
        self,
        factory: Factory,
        schedule: Schedule,
        *,
        settings: dict[str, Any] | None = None,
        skips: frozenset[str] = frozenset(),
    ) -> None:
        """``skips``: actions of clients and faults that are left out, by name."""
        self.schedule = schedule
        self.world = World()
        self.network = Network(self.world, schedule)
        self.trace = Trace()
        self.network.observers.append(self.trace)
        self.history = History(note=self._note)
        self.reached: dict[str, int] = {}
        self.checks = Checks(self)
        self.seed = 0
        self.config = ""
        """What a random workload drew from the seed, in words."""
        self.actions: list[str] = []
        """What clients did and what was done to hosts, by name, in order: ``ann-1 emit #2``; what was skipped is not
        among it."""
        self._lasting_until = 0.0
        """When the last fault that was made known ended, or ends."""
        self._skips = skips
        self._counted: Counter[str] = Counter()
        self._factory = factory
        self._settings = settings or {}
        self.driver = Node(self.world, self.network, "driver")
        self.redis = RedisNode(self.world, self.network)
        self.directory = DirectoryNode(self.world, self.network)
        self.instances: dict[str, InstanceNode] = {}
        self.clients: dict[str, ClientNode] = {}
        self._raw: dict[str, RawNode] = {}
        self._backend: Node | None = None
        self._knocks = 0

    # Verbs

    async def start(self, *names: str) -> None:
        """Starts instances, all at once, and waits until they serve."""
        for name in names:
            if name not in self.instances:
                context = Context(name, self.redis.url, self.directory.address, settings=self._settings)
                self.instances[name] = InstanceNode(self.world, self.network, context, self._factory)
            if self.instances[name].ended:
                self.instances[name].start()
        deadline = self.world.now + START_SECONDS
        while waiting := [name for name in names if not self.instances[name].running]:
            if self.world.now >= deadline:
                raise NotStarted(
                    f"{', '.join(waiting)} did not start within {START_SECONDS:g} virtual seconds"
                )
            await asyncio.sleep(POLL_SECONDS)
            for name in waiting:
                if self.instances[name].ended:
                    await asyncio.sleep(RESTART_SECONDS)
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
        if not self.does(raw, "connect"):
            return False
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
        if not self.does(client, "connect"):
            return False
        if user is not None:
            auth = {**auth, "token": self.token(user)}
        address = self.instances[at].address
        connecting = client.connect(address, auth or None, transport=transport, reconnection=reconnection)
        return await self.on(client.node, connecting)

    async def connect_with(self, client: ClientNode, token: str, at: str) -> bool:
        """With a token of one's own."""
        if not self.does(client, "connect"):
            return False
        address = self.instances[at].address
        return await self.on(client.node, client.connect(address, {"token": token}))

    async def emit(self, client: ClientNode, event: str, data: Any = None) -> None:
        if self.does(client, "emit"):
            await self.on(client.node, client.emit(event, data))

    async def call(self, client: ClientNode, event: str, data: Any = None) -> Any:
        if not self.does(client, "call"):
            return None
        return await self.on(client.node, client.call(event, data))

    async def knock(
        self, instance: str, door: str, payload: dict[str, Any] | None = None, **query: str
    ) -> tuple[int, Any]:
        """Status and answer of one of an instance's doors, asked by another module of the backend: its own host.

        Status 0 when the instance is not there, or ends meanwhile. In the history ``backend`` emits to the door and
        is acked, both with ``{"number", …}`` of the knock.
        """
        if self._backend is None:
            self._backend = Node(self.world, self.network, "backend")
        self._knocks += 1
        number = self._knocks
        host, _colon, port = self.instances[instance].address.partition(":")
        asked = {"number": number, "at": instance, "payload": payload if payload is not None else query}
        self.history.add(self.world.now, "backend", "emit", door, asked)
        try:
            status, answer = await self.on(
                self._backend, knock(host, int(port), door, payload, query=query or None)
            )
        except (OSError, TimeoutError) as error:
            status, answer = 0, {"error": "unreachable", "message": repr(error)}
        answered = {"number": number, "status": status, "answer": answer}
        self.history.add(self.world.now, "backend", "ack", door, answered)
        return status, answer

    async def close(self, client: ClientNode) -> None:
        if self.does(client, "close"):
            await self.on(client.node, client.close())

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

    def does(self, who: ClientNode | RawNode | str, verb: str) -> bool:
        """Numbers an action or a fault of the scenario; whether it is to be done."""
        what = f"{who if isinstance(who, str) else who.name} {verb}"
        self._counted[what] += 1
        name = f"{what} #{self._counted[what]}"
        if name in self._skips:
            return False
        self.actions.append(name)
        return True

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
