"""Simulated TCP between nodes: connections open, carry bytes in order, push back, half-close, reset and fall silent.

A message is all that one end wrote in one turn of its node. The schedule says when it arrives; what follows on the
same connection never arrives before it.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

from sim.node import Node
from sim.schedule import Message, Schedule
from sim.transport import End, SimServer
from sim.world import World

CONNECT_SECONDS = 127.0
"""How long a connect to a silent host takes to fail, as on Linux."""

ProtocolFactory = Callable[[], asyncio.BaseProtocol]


class Observer(Protocol):
    """Sees every message when it is sent and when it arrives, in the world's order."""

    def sent(self, message: Message, arrives_at: float) -> None: ...

    def arrived(self, message: Message, now: float) -> None: ...


class Network:
    """Who listens where, which links are cut, and the counters that name messages."""

    def __init__(self, world: World, schedule: Schedule) -> None:
        self.world = world
        self.schedule = schedule
        self.observers: list[Observer] = []
        self._listeners: dict[tuple[str, int], tuple[Node, ProtocolFactory]] = {}
        self._sent: Counter[tuple[str, str]] = Counter()
        self._cut: set[frozenset[str]] = set()
        self._silent: set[str] = set()
        self._ends: dict[int, End] = {}
        self._ports = 40_000

    # Asked by node loops

    def addresses(self, host: str, port: Any) -> list[tuple[Any, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port))]

    def listen(self, node: Node, factory: ProtocolFactory, port: int) -> SimServer:
        key = (node.name, port)
        if key in self._listeners:
            raise OSError(98, f"address already in use: {node.name}:{port}")
        self._listeners[key] = (node, factory)
        return SimServer(node.name, port, lambda: self._listeners.pop(key, None))

    async def connect(
        self, node: Node, factory: ProtocolFactory, host: str, port: int
    ) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
        """As ``create_connection``: raises ``ConnectionRefusedError`` or, after a long time, ``TimeoutError``."""
        opened: asyncio.Future[End] = node.loop.create_future()
        self._ports += 1
        near = End(self, node, host, (node.name, self._ports), (host, port))
        self.send(near, "open", b"", lambda: self._accept(near, opened, port))
        async with asyncio.timeout(CONNECT_SECONDS):
            await opened
        protocol = factory()
        near.begin(protocol)
        return near, protocol

    # Asked by the ends of connections

    def send(self, end: End, kind: str, data: bytes, arrive: Callable[[], None]) -> None:
        """Puts a message on its way; ``arrive`` runs outside of all nodes when it gets there, if it does."""
        source, target = end.node.name, end.peer_name
        self._sent[source, target] += 1
        name = f"{source}→{target} #{self._sent[source, target]}"
        message = Message(name, source, target, kind, data, self.world.now)
        when = max(self.world.now + self.schedule.delay(message), end.last_arrival)
        end.last_arrival = when
        for observer in self.observers:
            observer.sent(message, when)

        def at_arrival() -> None:
            if self.connected(source, target):
                for observer in self.observers:
                    observer.arrived(message, self.world.now)
                arrive()

        self.world.at(when, at_arrival)

    def add(self, end: End) -> None:
        self._ends[end.number] = end

    def remove(self, end: End) -> None:
        self._ends.pop(end.number, None)

    def _accept(self, near: End, opened: asyncio.Future[End], port: int) -> None:
        """The opening of a connection has arrived."""
        node, factory = self._listeners.get((near.peer_name, port), (None, None))
        if node is None or factory is None or not node.alive:
            target = self.world.nodes.get(near.peer_name)
            if target is None or target.alive or near.peer_name not in self._silent:
                self._answer(near, lambda: _fail(opened, ConnectionRefusedError(111, "connection refused")))
            return
        far = End(self, node, near.node.name, near.peer_address, near.address)
        near.peer, far.peer = far, near
        accepted: ProtocolFactory = factory
        node.deliver(lambda: far.begin(accepted()))
        self.send(far, "accept", b"", lambda: near.node.deliver(_succeed, opened, near))

    def _answer(self, near: End, act: Callable[[], None]) -> None:
        """A refusal comes back from a host that has no end of the connection."""
        self.world.later(self.schedule.delay(self._refusal(near)), lambda: near.node.deliver(act))

    def _refusal(self, near: End) -> Message:
        self._sent[near.peer_name, near.node.name] += 1
        number = self._sent[near.peer_name, near.node.name]
        name = f"{near.peer_name}→{near.node.name} #{number}"
        return Message(name, near.peer_name, near.node.name, "refuse", b"", self.world.now)

    # Faults

    def connected(self, one: str, other: str) -> bool:
        return frozenset((one, other)) not in self._cut

    def cut(self, one: str, other: str) -> None:
        """What is sent between the two is lost, silently, until ``mend``; connections that lost bytes stay broken."""
        self._cut.add(frozenset((one, other)))

    def mend(self, one: str, other: str) -> None:
        self._cut.discard(frozenset((one, other)))

    def crash(self, node: Node, *, silent: bool = False) -> None:
        """Kills a node. Its peers see a reset, or nothing."""
        node.kill()
        if silent:
            self._silent.add(node.name)
        for key in [key for key in self._listeners if key[0] == node.name]:
            del self._listeners[key]
        for end in [end for end in self._ends.values() if end.node is node]:
            self.remove(end)
            peer = end.peer
            if peer is not None and not silent:
                self.send(end, "reset", b"", peer.reset_arrived)

    def reset(self, one: str, other: str) -> int:
        """Resets every connection between two nodes, as a middlebox would; how many there were."""
        ends = [e for e in self._ends.values() if e.node.name == one and e.peer_name == other]
        for end in ends:
            end.reset_arrived()
            if end.peer is not None:
                end.peer.reset_arrived()
        return len(ends)


def _succeed(opened: asyncio.Future[End], end: End) -> None:
    if not opened.done():
        opened.set_result(end)


def _fail(opened: asyncio.Future[End], error: Exception) -> None:
    if not opened.done():
        opened.set_exception(error)
