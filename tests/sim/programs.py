"""Random programs of timers, callbacks, tasks, streams and stalls, and what runs them on either kind of loop.

Times are multiples of 1/1024 s, so that adding them is exact and equal deadlines are equal.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import selectors
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from hypothesis import strategies as st

from sim.errors import Deadlock
from sim.network import Network
from sim.node import Node
from sim.schedule import PlainSchedule
from sim.sockets import SimSocket
from sim.tcp import Endpoint
from sim.world import World

TICK = 1 / 1024
STREAMS = 2
EVENTS = 2


@dataclass(frozen=True)
class Op:
    """One thing to do: ``what``, a time in ticks, the number of an event, task, timer or stream, and what follows."""

    what: str
    ticks: int = 0
    number: int = 0
    then: tuple[Op, ...] = ()


@dataclass(frozen=True)
class Outside:
    """What comes from outside of the loop at a time: bytes on a stream, its end, or a connection to the server."""

    ticks: int
    what: str
    stream: int = 0


@dataclass(frozen=True)
class Program:
    ops: tuple[Op, ...]
    outside: tuple[Outside, ...]


ticks = st.sampled_from([0, 1, 1, 2, 3, 5, 8])
numbers = st.integers(0, 3)
leaf = st.builds(
    Op,
    st.sampled_from(
        ["set", "clear", "stall", "cancel-timer", "cancel-task", "put", "pause", "resume", "write", "close"]
    ),
    ticks,
    numbers,
)
step = st.builds(Op, st.sampled_from(["sleep", "sleep", "wait", "wait-for", "get", "read"]), ticks, numbers)


def _nested(inner: st.SearchStrategy[Op]) -> st.SearchStrategy[Op]:
    return st.builds(
        Op,
        st.sampled_from(["soon", "later", "later", "at", "task", "task"]),
        ticks,
        numbers,
        st.lists(inner | step, max_size=4).map(tuple),
    )


ops = st.recursive(leaf, _nested, max_leaves=14)
programs = st.builds(
    Program,
    st.lists(ops, min_size=1, max_size=6).map(tuple),
    st.lists(
        st.builds(
            Outside,
            ticks.filter(bool),
            st.sampled_from(["bytes", "bytes", "bytes", "end", "connect"]),
            st.integers(0, STREAMS - 1),
        ),
        max_size=6,
    ).map(tuple),
)


class Peer(Protocol):
    """The outer end of a stream."""

    def send(self, data: bytes) -> None: ...

    def end(self) -> None: ...


class Bench(Protocol):
    """A kind of loop, and the world around it."""

    loop: asyncio.AbstractEventLoop
    over: bool

    def stall(self, seconds: float) -> None: ...

    def outside(self, seconds: float, act: Callable[[], None]) -> None: ...

    def stream(self) -> tuple[Any, Peer]: ...

    def server(self) -> tuple[Any, Callable[[], None]]: ...

    def run(self, main: Callable[[], Any]) -> None: ...


@dataclass
class Interpreter:
    """Runs a program; ``log`` is what happened, in order, with times."""

    bench: Bench
    program: Program
    log: list[tuple[float, str]] = field(default_factory=list)
    timers: list[asyncio.Handle] = field(default_factory=list)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    transports: list[asyncio.Transport] = field(default_factory=list)
    names: itertools.count[int] = field(default_factory=itertools.count)

    def run(self) -> list[tuple[float, str]]:
        self.bench.run(self.main)
        return self.log

    def note(self, what: str) -> None:
        if not self.bench.over:
            self.log.append((self.bench.loop.time(), what))

    async def main(self) -> None:
        loop = self.bench.loop
        self.events = [asyncio.Event() for _ in range(EVENTS)]
        self.queue: asyncio.Queue[int] = asyncio.Queue(2)
        peers = []
        for number in range(STREAMS):
            sock, peer = self.bench.stream()
            transport, _ = await loop.create_connection(
                lambda number=number: Logged(self, f"stream-{number}"), sock=sock
            )
            self.transports.append(transport)
            peers.append(peer)
        listening, connect = self.bench.server()
        await loop.create_server(lambda: Logged(self, f"served-{next(self.names)}"), sock=listening)
        reading, self.outer = self.bench.stream()
        self.reader, self.writer = await asyncio.open_connection(sock=reading)
        for number, each in enumerate(self.program.outside):
            peer = peers[each.stream]
            acts: dict[str, Callable[[], None]] = {
                "bytes": lambda peer=peer, number=number: (
                    peer.send(f"{number};".encode()),
                    self.outer.send(b"x"),
                )[0],
                "end": peer.end,
                "connect": connect,
            }
            self.bench.outside(each.ticks * TICK, acts[each.what])
        self.do("main", self.program.ops)

    def do(self, name: str, ops: tuple[Op, ...]) -> None:
        for op in ops:
            self.one(name, op)

    def one(self, name: str, op: Op) -> None:
        loop = self.bench.loop
        child = f"{name}.{next(self.names)}"
        self.note(f"{name} does {op.what}")
        match op.what:
            case "soon":
                self.timers.append(loop.call_soon(self.callback, child, op.then))
            case "later":
                self.timers.append(loop.call_later(op.ticks * TICK, self.callback, child, op.then))
            case "at":
                self.timers.append(loop.call_at(loop.time() + op.ticks * TICK, self.callback, child, op.then))
            case "task":
                self.tasks.append(loop.create_task(self.task(child, op.then)))
            case "set":
                self.events[op.number % EVENTS].set()
            case "clear":
                self.events[op.number % EVENTS].clear()
            case "stall":
                self.bench.stall(op.ticks * TICK)
            case "cancel-timer" if self.timers:
                self.timers[op.number % len(self.timers)].cancel()
            case "cancel-task" if self.tasks:
                self.tasks[op.number % len(self.tasks)].cancel()
            case "put" if not self.queue.full():
                self.queue.put_nowait(op.number)
            case "pause":
                self.transports[op.number % STREAMS].pause_reading()
            case "resume":
                self.transports[op.number % STREAMS].resume_reading()
            case "write":
                self.transports[op.number % STREAMS].write(b"out")
            case "close":
                self.transports[op.number % STREAMS].close()

    def callback(self, name: str, ops: tuple[Op, ...]) -> None:
        self.note(f"{name} called")
        self.do(name, ops)

    async def task(self, name: str, ops: tuple[Op, ...]) -> None:
        self.note(f"{name} begins")
        try:
            for op in ops:
                await self.step(name, op)
        except asyncio.CancelledError:
            self.note(f"{name} is cancelled")
            raise
        self.note(f"{name} ends")

    async def step(self, name: str, op: Op) -> None:
        event = self.events[op.number % EVENTS]
        match op.what:
            case "sleep":
                await asyncio.sleep(op.ticks * TICK)
            case "wait":
                await event.wait()
            case "wait-for":
                try:
                    await asyncio.wait_for(event.wait(), op.ticks * TICK)
                except TimeoutError:
                    self.note(f"{name} waited in vain")
            case "get":
                self.note(f"{name} gets {await self.queue.get()}")
            case "read":
                self.note(f"{name} reads {await self.reader.read(1)!r}")
            case _:
                self.one(name, op)
        self.note(f"{name} did {op.what}")


class Logged(asyncio.Protocol):
    def __init__(self, run: Interpreter, name: str) -> None:
        self.run, self.name = run, name

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.run.note(f"{self.name} made")

    def data_received(self, data: bytes) -> None:
        self.run.note(f"{self.name} received {data!r}")

    def eof_received(self) -> bool:
        self.run.note(f"{self.name} at its end")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.run.note(f"{self.name} lost")


# asyncio's own loop, on a clock that stands still while something is to be done


class _Over(Exception):
    pass


class _Selector(selectors.DefaultSelector):  # type: ignore[valid-type, misc]
    """Real readiness of real sockets; time passes only where a loop would wait."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.due: list[tuple[float, int, Callable[[], None]]] = []

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.come_due()
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        times = [] if timeout is None else [self.now + timeout]
        times += [self.due[0][0]] if self.due else []
        if not times:
            raise _Over
        self.now = max(self.now, min(times))
        self.come_due()
        return super().select(0)

    def come_due(self) -> None:
        while self.due and self.due[0][0] <= self.now:
            heapq.heappop(self.due)[2]()


class AsyncioBench:
    """``asyncio.SelectorEventLoop`` with real sockets."""

    over = False

    def __init__(self) -> None:
        self._selector = _Selector()
        self.loop = asyncio.SelectorEventLoop(self._selector)
        self.loop.time = lambda: self._selector.now  # type: ignore[method-assign]
        self._order = itertools.count()
        self._sockets: list[socket.socket] = []

    def stall(self, seconds: float) -> None:
        self._selector.now += seconds
        self._selector.come_due()

    def outside(self, seconds: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._selector.due, (self._selector.now + seconds, next(self._order), act))

    def stream(self) -> tuple[Any, Peer]:
        inner, outer = socket.socketpair()
        self._sockets += inner, outer
        inner.setblocking(False)
        return inner, _RealPeer(outer)

    def server(self) -> tuple[Any, Callable[[], None]]:
        listening = socket.create_server(("127.0.0.1", 0))
        self._sockets.append(listening)
        address = listening.getsockname()
        return listening, lambda: self._sockets.append(socket.create_connection(address))

    def run(self, main: Callable[[], Any]) -> None:
        task = self.loop.create_task(main())
        try:
            self.loop.run_forever()
        except _Over:
            task.result()
        finally:
            self.over = True
            for transport in list(self.loop._transports.values()):  # type: ignore[attr-defined]
                transport.abort()
            self.loop.run_until_complete(asyncio.sleep(0))
            for each in asyncio.all_tasks(self.loop):
                each._log_destroy_pending = False  # type: ignore[attr-defined]
                each.get_coro().close()
            for sock in self._sockets:
                sock.close()
            self.loop.close()


class _RealPeer:
    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._ended = False

    def send(self, data: bytes) -> None:
        if not self._ended:
            try:
                self._sock.send(data)
            except OSError:
                return

    def end(self) -> None:
        if not self._ended:
            self._ended = True
            self._sock.shutdown(socket.SHUT_WR)


# A node's loop


class NodeBench:
    """A node, and endpoints that nobody owns around it."""

    over = False

    def __init__(self) -> None:
        self.world = World()
        self.network = Network(self.world, PlainSchedule(latency=0.0))
        self.node = Node(self.world, self.network, "node")
        self.loop = self.node.loop

    def stall(self, seconds: float) -> None:
        if seconds:
            self.node.park(lambda: False, seconds, "a stall")

    def outside(self, seconds: float, act: Callable[[], None]) -> None:
        self.world.later(seconds, act)

    def stream(self) -> tuple[Any, Peer]:
        inner = Endpoint(self.network, self.node, ("node", 1), ("out", 2))
        outer = Endpoint(self.network, None, ("out", 2), ("node", 1))
        inner.peer, outer.peer = outer, inner
        sock = SimSocket(self.node, self.network, inner)
        sock.setblocking(False)
        return sock, _SimPeer(inner)

    def server(self) -> tuple[Any, Callable[[], None]]:
        sock = SimSocket(self.node, self.network)
        sock.setblocking(False)
        sock.bind(("node", 80))
        sock.listen()

        def connect() -> None:
            inner = Endpoint(self.network, self.node, ("node", 80), ("out", 3))
            outer = Endpoint(self.network, None, ("out", 3), ("node", 80))
            inner.peer, outer.peer = outer, inner
            listener = self.network.listeners["node", 80]
            listener.backlog.append(inner)
            listener.changed()

        return sock, connect

    def run(self, main: Callable[[], Any]) -> None:
        task = self.node.spawn(main())
        try:
            self.world.run(lambda: False, limit=100.0)
        except Deadlock:
            task.result()
        finally:
            self.over = True
            self.world.close()


class _SimPeer:
    def __init__(self, inner: Endpoint) -> None:
        self._inner = inner
        self._ended = False

    def send(self, data: bytes) -> None:
        if not self._ended and not self._inner.closed:
            self._inner.data_arrived(data)

    def end(self) -> None:
        if not self._ended:
            self._ended = True
            self._inner.eof_arrived_here()
