"""A TCP proxy between the hosts of a lab: every link between two of them passes it and may be slow, cut, or torn.

It names messages as the simulated network does (``api-1→redis #7``), or by their likes in a simulated run: a message
is what came in one piece, towards Redis and from it made of whole commands and replies.

What a cut link does not let through is sent on when it is
mended, as TCP does; a connection that is opened meanwhile is accepted here, and gets no further.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from sim.commands import commands
from sim.likeness import Likeness, Names
from sim.processes.process import LOOPBACK
from sim.processes.resp import Values, is_published
from sim.schedule import BASE_LATENCY, Message, Schedule

PIECE = 16 * 1024
MOST_PIECES = 8
"""Read and not sent on, of one direction of one connection: a proxy that keeps more hides who does not read."""

SOCKET_BYTES = 64 * 1024
SEGMENT_BYTES = 1460
"""As on Ethernet: with the segments of loopback, 64 KiB long, the kernel keeps megabytes for who does not read."""

CONNECT_SECONDS = 10.0
LONGEST_TURN = 2.0
ACCEPT_AGAIN_SECONDS = 0.05

Upstream = Callable[[], tuple[str, int]]
"""Where a link leads, asked at every connection: a server may be started anew somewhere else."""


class Observer(Protocol):
    """As that of ``sim.network``; called in the loop of the proxy."""

    def sent(self, message: Message, arrives_at: float) -> None: ...

    def arrived(self, message: Message, now: float) -> None: ...


class Lane:
    """One direction of a link, and what is wrong with it. ``latency``: seconds, on top of the schedule's."""

    def __init__(self, source: str, target: str, *, redis: bool) -> None:
        self.source = source
        self.target = target
        self.redis = redis
        """Whether it carries whole values of the Redis protocol."""
        self.latency = 0.0
        self.bytes_per_second = 0.0
        """0: as fast as it goes."""
        self.void = False
        """Nothing arrives any more, and nobody is told."""
        self.tears = False
        """The next message arrives half, and its connection is reset."""
        self.loses_published = False
        self.lost = 0
        """How many published messages it has lost."""
        self._passing = asyncio.Event()
        self._passing.set()

    @property
    def name(self) -> str:
        return f"{self.source}→{self.target}"

    def block(self) -> None:
        self._passing.clear()

    def pass_on(self) -> None:
        self._passing.set()

    async def passing(self) -> None:
        await self._passing.wait()


class Proxy:
    """All links of one lab. ``clock``: the lab's; ``schedule``: how long each message is held; ``names``: those of the
    messages of another run, for their likes here. Others are numbered beyond: ``api-1→redis +3``. ``after``: messages
    that wait until another one to Redis was answered, instead of the time that the schedule says."""

    def __init__(
        self,
        clock: Callable[[], float],
        schedule: Schedule,
        names: Names | None = None,
        after: Mapping[str, str] | None = None,
    ) -> None:
        self._after = dict(after or {})
        self._answered = {name: asyncio.Event() for name in self._after.values()}
        self._unanswered: dict[str, list[str]] = {}
        self._names = names
        self._likeness = Likeness()
        self.clock = clock
        self.schedule = schedule
        self.observers: list[Observer] = []
        self.messages = 0
        self.origins: dict[str, str] = {}
        """Which host is behind a connection, by the address that the server at its end sees."""
        self._links: dict[tuple[str, str], Link] = {}
        self._sent: Counter[str] = Counter()

    def link(self, source: str, target: str, upstream: Upstream) -> Link:
        """The link on which ``source`` opens connections to ``target``; made when it is first asked for."""
        if (source, target) not in self._links:
            self._links[source, target] = Link(self, source, target, upstream)
        return self._links[source, target]

    def lane(self, source: str, target: str) -> Lane:
        """Raises ``KeyError`` when the two never had to do with each other."""
        for link in self.between(source, target):
            return link.up if link.up.source == source else link.down
        raise KeyError(f"{source}→{target}")

    def between(self, one: str, other: str) -> list[Link]:
        return [link for hosts, link in self._links.items() if set(hosts) == {one, other}]

    def of(self, host: str) -> list[Link]:
        return [link for hosts, link in self._links.items() if host in hosts]

    def message(self, lane: Lane, kind: str, data: bytes) -> tuple[Message, float]:
        """Names one, and says when it is due on the monotonic clock."""
        self.messages += 1
        now = self.clock()
        message = Message(self._name(lane, kind, data), lane.source, lane.target, kind, data, now)
        delay = max(0.0, self.schedule.delay(message) - BASE_LATENCY)
        if message.name in self._after:
            delay = 0.0
        delay += lane.latency
        for name in self._unanswered.pop(lane.target, ()) if lane.source == "redis" else ():
            self._answered[name].set()
        for observer in self.observers:
            observer.sent(message, now + delay)
        return message, time.monotonic() + delay

    async def its_turn(self, message: Message) -> None:
        """Waits for what has to come before it, for a time."""
        if message.name in self._after:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._answered[self._after[message.name]].wait(), LONGEST_TURN)

    def arrived(self, message: Message) -> None:
        if message.name in self._answered:
            self._unanswered.setdefault(message.source, []).append(message.name)
        for observer in self.observers:
            observer.arrived(message, self.clock())

    def _name(self, lane: Lane, kind: str, data: bytes) -> str:
        mark = "#"
        if self._names is not None:
            found = tuple(commands(data)) if lane.redis and lane.target == "redis" else ()
            known = self._names.get(self._likeness.of(lane.source, lane.target, kind, found))
            if known is not None:
                return known
            mark = "+"
        self._sent[lane.name] += 1
        return f"{lane.name} {mark}{self._sent[lane.name]}"

    async def close(self) -> None:
        for link in self._links.values():
            link.close()
        tasks = [task for link in self._links.values() for task in link.tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Link:
    """One host's way to another. It listens on a port of its own, so that it is known who comes."""

    def __init__(self, proxy: Proxy, source: str, target: str, upstream: Upstream) -> None:
        self.up = Lane(source, target, redis=target == "redis")
        self.down = Lane(target, source, redis=target == "redis")
        self.tasks: set[asyncio.Task[None]] = set()
        self.upstream = upstream
        self.proxy = proxy
        self._connections: dict[Connection, None] = {}
        self._listener = socket.create_server((LOOPBACK, 0), backlog=200)
        self._listener.setblocking(False)
        self._task(self._accept())

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @property
    def lanes(self) -> tuple[Lane, Lane]:
        return self.up, self.down

    def local_addresses(self) -> list[str]:
        """``host:port`` of the open connections, as the server at their end sees them."""
        return [address for each in self._connections if (address := each.local_address)]

    def reset(self) -> None:
        """As a middlebox does that has forgotten them; how it was before for whoever comes then."""
        for connection in list(self._connections):
            connection.reset()

    def half_close(self) -> None:
        """As if who opened them had nothing more to say: the other side may still talk."""
        for connection in list(self._connections):
            connection.half_close()

    def reset_at(self, host: str) -> None:
        """Resets the connections at this end only."""
        for connection in list(self._connections):
            connection.reset_at(host == self.up.target)

    def close(self) -> None:
        self._listener.close()
        self.reset()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while self._listener.fileno() >= 0:
            try:
                accepted, _address = await loop.sock_accept(self._listener)
            except OSError:  # it was closed, or there is no room for one more just now
                await asyncio.sleep(ACCEPT_AGAIN_SECONDS)
                continue
            connection = Connection(self, accepted)
            self._connections[connection] = None
            self._task(connection.run()).add_done_callback(partial(self._forget, connection))

    def _forget(self, connection: Connection, _task: asyncio.Task[None]) -> None:
        self._connections.pop(connection, None)

    def _task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task


@dataclass(eq=False)
class Connection:
    """One connection of a link: two sockets, and what is under way between them."""

    link: Link
    accepted: socket.socket
    _near: asyncio.StreamWriter | None = None
    _far: asyncio.StreamWriter | None = None
    _flows_left: int = 2
    _over: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def local_address(self) -> str:
        name = None if self._far is None else self._far.get_extra_info("sockname")
        return f"{name[0]}:{name[1]}" if name else ""

    async def run(self) -> None:
        reader, self._near = await asyncio.open_connection(sock=_small(self.accepted), limit=PIECE)
        try:
            if not await self._opened():
                return
            assert self._far is not None
            flows = [
                asyncio.create_task(self._flow(self.link.up, reader, self._far)),
                asyncio.create_task(self._flow(self.link.down, self._far_reader, self._near)),
            ]
            for flow in flows:
                flow.add_done_callback(self._flow_ended)
            try:
                await self._over.wait()
            finally:
                for flow in flows:
                    flow.cancel()
                await asyncio.gather(*flows, return_exceptions=True)
        finally:
            for writer in (self._near, self._far):
                if writer is not None:
                    writer.close()

    def _flow_ended(self, _flow: asyncio.Task[None]) -> None:
        self._flows_left -= 1
        if not self._flows_left:
            self._over.set()

    async def _opened(self) -> bool:
        """Connects at the other end; whether somebody was there."""
        if not await self._arrives(self.link.up, *self.link.proxy.message(self.link.up, "open", b"")):
            await self._over.wait()
        try:
            far = await _connect(self.link.upstream())
        except OSError:
            self.reset()
            return False
        self._far_reader, self._far = await asyncio.open_connection(sock=far, limit=PIECE)
        self.link.proxy.origins[self.local_address] = self.link.up.source
        return await self._arrives(self.link.down, *self.link.proxy.message(self.link.down, "accept", b""))

    async def _flow(self, lane: Lane, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One direction, until it ends. What is read waits in a short queue for its time."""
        queue: asyncio.Queue[tuple[Message, float]] = asyncio.Queue(MOST_PIECES)
        reading = asyncio.create_task(self._read(lane, reader, queue))
        try:
            while True:
                message, due = await queue.get()
                if not await self._arrives(lane, message, due):
                    continue
                if message.kind == "eof":
                    writer.write_eof()
                    return
                if message.kind == "reset" or not await self._write(lane, message.data, writer):
                    self.reset()
                    return
        except OSError:
            self.reset()
        finally:
            reading.cancel()

    async def _read(
        self, lane: Lane, reader: asyncio.StreamReader, queue: asyncio.Queue[tuple[Message, float]]
    ) -> None:
        values = Values() if lane.redis else None
        kind = "eof"
        try:
            while data := await reader.read(PIECE):
                whole = data if values is None else b"".join(_kept(lane, values.feed(data)))
                if whole:
                    await queue.put(self.link.proxy.message(lane, "data", whole))
        except OSError:
            kind = "reset"
        await queue.put(self.link.proxy.message(lane, kind, b""))

    async def _arrives(self, lane: Lane, message: Message, due: float) -> bool:
        """Waits until it is time and the lane passes; whether it does."""
        if (left := due - time.monotonic()) > 0:
            await asyncio.sleep(left)
        await self.link.proxy.its_turn(message)
        await lane.passing()
        if lane.void:
            return False
        self.link.proxy.arrived(message)
        await lane.passing()  # what was done because it arrived may have cut the lane
        return not lane.void

    async def _write(self, lane: Lane, data: bytes, writer: asyncio.StreamWriter) -> bool:
        """False when it was torn."""
        if lane.tears:
            lane.tears = False
            writer.write(data[: len(data) // 2])
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(writer.drain(), 1.0)
            return False
        step = len(data) if not lane.bytes_per_second else max(1, int(lane.bytes_per_second / 50))
        for at in range(0, len(data), step):
            writer.write(data[at : at + step])
            await writer.drain()
            if lane.bytes_per_second:
                await asyncio.sleep(step / lane.bytes_per_second)
        return True

    def reset(self) -> None:
        for writer in (self._near, self._far):
            _reset(writer)
        self._over.set()

    def half_close(self) -> None:
        if self._far is not None and not self._far.is_closing():
            self._far.write_eof()

    def reset_at(self, far: bool) -> None:
        _reset(self._far if far else self._near)


def _kept(lane: Lane, values: list[bytes]) -> Iterator[bytes]:
    for value in values:
        if lane.loses_published and is_published(value):
            lane.lost += 1
        else:
            yield value


async def _connect(address: tuple[str, int]) -> socket.socket:
    made = _small(socket.socket())
    made.setblocking(False)
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            await asyncio.get_running_loop().sock_connect(made, address)
    except OSError:
        made.close()
        raise
    return made


def _small(made: socket.socket) -> socket.socket:
    """With short buffers and segments, and without waiting for more to send."""
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BYTES)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT_BYTES)
    return made


def _reset(writer: asyncio.StreamWriter | None) -> None:
    """Without lingering, closing sends a reset instead of an end (socket(7), ``SO_LINGER``)."""
    if writer is not None and not writer.is_closing():
        made = writer.get_extra_info("socket")
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
