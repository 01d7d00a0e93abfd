"""A node: one simulated host, which is one asyncio event loop on virtual time.

The loop is asyncio's own ``BaseEventLoop`` with another selector: what "arrives" is what the world delivered. So a
turn goes as asyncio's does (first all I/O that arrived, then all timers that came due, then one round of callbacks),
and callbacks stay first in, first out. Each node runs in a greenlet of its own: a blocking call inside a handler parks
that node alone.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from asyncio import events
from asyncio.base_events import BaseEventLoop
from collections.abc import Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import greenlet

from sim.world import START, Timed, World

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from sim.network import Network

T = TypeVar("T")

RESOLUTION = 1e-9


class NumberedFuture(asyncio.Future[T]):
    """A future whose hash is its number on the node: sets of futures iterate alike in every process."""

    def __init__(self, *, loop: NodeLoop) -> None:
        super().__init__(loop=loop)
        self.number = next(loop.numbers)

    def __hash__(self) -> int:
        return self.number


class NumberedTask(asyncio.Task[T]):
    """The same for tasks."""

    def __init__(self, coroutine: Coroutine[Any, Any, T], *, loop: NodeLoop, **options: Any) -> None:
        self.number = next(loop.numbers)
        super().__init__(coroutine, loop=loop, **options)

    def __hash__(self) -> int:
        return self.number


class _Arrivals:
    """Stands where a selector would: hands over what arrived, and never waits."""

    def __init__(self) -> None:
        self.arrived: list[events.Handle] = []

    def select(self, _timeout: float | None) -> list[events.Handle]:
        arrived, self.arrived = self.arrived, []
        return arrived


class NodeLoop(BaseEventLoop):
    """asyncio's loop on a node's time. What needs a network goes through ``network``."""

    _ready: Any
    _scheduled: list[Any]
    _timer_cancelled_count: int
    _run_once: Callable[[], None]

    def __init__(self, node: Node, network: Network) -> None:
        super().__init__()
        self.node = node
        self.numbers = itertools.count(1)
        self._network = network
        self._selector = _Arrivals()
        self._clock_resolution = RESOLUTION
        self.set_task_factory(lambda loop, coro, **options: NumberedTask(coro, loop=self, **options))
        self.set_exception_handler(node.on_loop_error)

    def time(self) -> float:
        return self.node.world.now

    def create_future(self) -> asyncio.Future[Any]:
        return NumberedFuture(loop=self)

    def _process_events(self, event_list: list[events.Handle]) -> None:
        self._ready.extend(event_list)

    def _write_to_self(self) -> None:
        self.node.world.wake(self.node)

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """Threads would be another source of order: the work is done inline, a little later, on this node."""
        future = self.create_future()

        def work() -> None:
            if future.cancelled():
                return
            try:
                future.set_result(func(*args))
            except Exception as error:
                future.set_exception(error)

        self.call_later(self.node.executor_seconds, work)
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        return None

    async def create_connection(
        self, protocol_factory: Any, host: Any = None, port: Any = None, **_: Any
    ) -> Any:
        return await self._network.connect(self.node, protocol_factory, str(host), int(port))

    async def create_unix_connection(self, protocol_factory: Any, path: Any = None, **_: Any) -> Any:
        """``path`` is ``host:port``: the way for clients that would open sockets themselves."""
        host, _colon, port = str(path).rpartition(":")
        return await self._network.connect(self.node, protocol_factory, host, int(port))

    async def create_server(self, protocol_factory: Any, host: Any = None, port: Any = None, **_: Any) -> Any:
        return self._network.listen(self.node, protocol_factory, int(port))

    async def getaddrinfo(self, host: Any, port: Any, **_: Any) -> Any:
        return self._network.addresses(str(host), port)


class Node:
    """A host of the world. Work comes to it by ``deliver`` (the network) and ``spawn`` (the scenario)."""

    def __init__(self, world: World, network: Network, name: str) -> None:
        if name in world.nodes:
            raise ValueError(f"there is a node {name} already")
        self.world = world
        self.name = name
        self.alive = True
        self.queued = False
        self.busy_until = 0.0
        self.turn_seconds = 0.0
        """CPU time that each turn costs on the virtual clock."""
        self.executor_seconds = 0.0001
        self.clock_skew = 0.0
        """How far this host's wall clock is off, seconds."""
        self.errors: list[str] = []
        self.loop = NodeLoop(self, network)
        self._blocked = False
        self._wake: Timed | None = None
        self._tasks: list[asyncio.Task[Any]] = []
        self._greenlet = greenlet.greenlet(self._live)
        world.nodes[name] = self

    # What the world asks

    @property
    def can_run(self) -> bool:
        return self.alive and not self._blocked and self.world.now >= self.busy_until

    def has_work(self) -> bool:
        loop = self.loop
        if loop._ready or loop._selector.arrived:
            return True
        scheduled = loop._scheduled
        return bool(scheduled) and scheduled[0]._when <= self.world.now

    def turn(self) -> None:
        """One turn of the loop, in this node's greenlet; comes back early if the node blocks."""
        self._greenlet.switch()

    def plan_wake(self) -> None:
        """Asks the world to come back when the next timer is due, or when the node can run again."""
        if not self.alive or self._blocked:
            return
        when = None
        if self.busy_until > self.world.now:
            when = self.busy_until
        else:
            scheduled = self.loop._scheduled
            while scheduled and scheduled[0]._cancelled:
                heapq.heappop(scheduled)._scheduled = False
                self.loop._timer_cancelled_count -= 1
            if scheduled:
                when = scheduled[0]._when
        if when is None or (self._wake is not None and not self._wake.cancelled and self._wake.when == when):
            return
        if self._wake is not None:
            self._wake.cancel()
        self._wake = self.world.at(when, self._woken)

    def _woken(self) -> None:
        self._wake = None
        self.world.wake(self)

    def _live(self) -> None:
        loop = self.loop
        back = self.world
        while True:
            events._set_running_loop(loop)
            try:
                loop._run_once()
            finally:
                events._set_running_loop(None)
            if self.turn_seconds:
                self.busy_until = back.now + self.turn_seconds
            back.greenlet.switch()

    # What scenario and network ask

    def wall_time(self) -> float:
        return START + self.world.now + self.clock_skew

    def deliver(self, callback: Callable[..., Any], *args: Any) -> None:
        """I/O that arrives: runs in the node's next turn, before its timers."""
        if self.alive:
            self.loop._selector.arrived.append(events.Handle(callback, args, self.loop))
            self.world.wake(self)

    def spawn(self, coroutine: Coroutine[Any, Any, T], *, name: str | None = None) -> asyncio.Task[T]:
        """Starts a task on this node."""
        task: asyncio.Task[T] = NumberedTask(coroutine, loop=self.loop, name=name)
        self._tasks.append(task)
        self.world.wake(self)
        return task

    def block(self) -> None:
        """Parks this node inside a blocking call, until ``unblock``; must be called from its own code."""
        self._blocked = True
        events._set_running_loop(None)
        self.world.greenlet.switch()
        events._set_running_loop(self.loop)

    def unblock(self) -> None:
        self._blocked = False
        self.world.wake(self)

    def pause(self, seconds: float) -> None:
        """The host stands still; what arrives meanwhile is found at once when it goes on."""
        self.busy_until = max(self.busy_until, self.world.now + seconds)
        self.plan_wake()

    def kill(self) -> None:
        """As ``kill -9``: no code of the node runs any more. Its tasks are kept, or collecting them would run some."""
        self.alive = False
        if self._wake is not None:
            self._wake.cancel()

    def on_loop_error(self, _loop: Any, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self.errors.append(f"{self.world.now:.6f} {context.get('message')}: {error!r}")

    def waiting(self) -> Iterator[str]:
        """A line for each unfinished task."""
        if not self.alive:
            return
        for task in sorted(asyncio.all_tasks(self.loop), key=lambda t: getattr(t, "number", 0)):
            frames = task.get_stack(limit=1)
            where = f"{frames[0].f_code.co_qualname} line {frames[0].f_lineno}" if frames else "?"
            yield f"  {self.name}: {task.get_name()} in {where}"
