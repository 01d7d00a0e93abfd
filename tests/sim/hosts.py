"""A small world for tests of the simulator itself: hosts, and coroutines that run on them to their end."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from sim.determinism import owned
from sim.network import Network
from sim.node import Node
from sim.schedule import Message, PlainSchedule, Schedule
from sim.world import World

T = TypeVar("T")

LIMIT = 3600.0


class Hosts:
    """A world with hosts ``a`` and ``b``, and whatever ``host`` adds."""

    def __init__(self, schedule: Schedule | None = None) -> None:
        self.world = World()
        self.network = Network(self.world, schedule or PlainSchedule())
        self.a = self.host("a")
        self.b = self.host("b")

    def host(self, name: str) -> Node:
        return Node(self.world, self.network, name)

    def run(
        self, *work: tuple[Node, Coroutine[Any, Any, Any]], seed: int = 0, limit: float = LIMIT
    ) -> list[Any]:
        """Runs coroutines on their hosts until all are done; their results."""
        with owned(self.world, seed):
            tasks = [node.spawn(coroutine) for node, coroutine in work]
            self.world.run(lambda: all(task.done() for task in tasks), limit=limit)
            return [task.result() for task in tasks]

    def settle(self, seconds: float) -> Coroutine[Any, Any, None]:
        return asyncio.sleep(seconds)


class Seen:
    """Every message, as an observer sees it."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.arrivals: list[tuple[float, str]] = []

    def sent(self, message: Message, arrives_at: float) -> None:
        self.messages.append(message)

    def arrived(self, message: Message, now: float) -> None:
        self.arrivals.append((now, message.name))


class Recorder(asyncio.Protocol):
    """A server's side of a connection that keeps what it got; ``reading`` False leaves it unread."""

    def __init__(self, *, reading: bool = True) -> None:
        self.data = bytearray()
        self.eof = False
        self.lost: list[Exception | None] = []
        self.keep_open = False
        self._reading = reading

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        if not self._reading:
            transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        self.data += data

    def eof_received(self) -> bool:
        self.eof = True
        return self.keep_open

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.append(exc)
