"""One node of a Redis Cluster for the rooms whose slots it owns: what publishes there and what listens there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from .cluster import Address, Layout
from .publisher import Publisher
from .subscriber import Receive, Subscriber
from .subscriptions import Subscriptions
from .words import SHARDED

Supervise = Callable[[str, Callable[[], Awaitable[None]]], asyncio.Task[None]]


class Nodes(Protocol):
    """What is needed of a ``ClusterConnector``."""

    async def layout(self) -> Layout: ...

    def node(self, address: Address) -> Redis: ...


class NodeConnector:
    """Leads to one node, always."""

    def __init__(self, nodes: Nodes, address: Address) -> None:
        self._nodes = nodes
        self._address = address

    def commands(self) -> Redis:
        return self._nodes.node(self._address)

    async def plain(self) -> Redis:
        return self.commands()

    async def aclose(self) -> None:
        return None


class Shard:
    """A publisher from the first message on, a subscriber while rooms are wanted: one connection each.

    ``on_refusal``: of either, see ``Publisher`` and ``Subscriber``.
    """

    def __init__(
        self,
        nodes: Nodes,
        address: Address,
        *,
        timeout: float,
        supervise: Supervise,
        receive: Receive,
        on_refusal: Callable[[ResponseError], bool],
    ) -> None:
        self._connector = NodeConnector(nodes, address)
        self._name = f"{address[0]}:{address[1]}"
        self._timeout = timeout
        self._supervise = supervise
        self._receive = receive
        self._on_refusal = on_refusal
        self._subscriber: tuple[Subscriber, asyncio.Task[None]] | None = None
        self._publisher: tuple[Publisher, asyncio.Task[None]] | None = None

    @property
    def rooms(self) -> Subscriptions:
        """Who asks for them wants some: the connection is opened."""
        if self._subscriber is None:
            subscriber = Subscriber(
                self._connector,
                timeout=self._timeout,
                words=SHARDED,
                on_lost=self._lost,
                on_refusal=self._on_refusal,
            )
            subscriber.receive_rooms = self._receive
            task = self._supervise(f"redis-subscriber {self._name}", subscriber.run)
            self._subscriber = subscriber, task
        return self._subscriber[0].rooms

    @property
    def publisher(self) -> Publisher:
        if self._publisher is None:
            publisher = Publisher(
                self._connector, timeout=self._timeout, words=SHARDED, on_refusal=self._on_refusal
            )
            self._publisher = publisher, self._supervise(f"redis-publisher {self._name}", publisher.run)
        return self._publisher[0]

    @property
    def is_well(self) -> bool:
        """Whether all connections that it should have stand."""
        return (self._subscriber is None or self._subscriber[0].connected.is_set()) and (
            self._publisher is None or not self._publisher[0].away
        )

    def refused(self, concerns: Callable[[bytes], bool]) -> None:
        """See ``Subscriptions.refused``."""
        if self._subscriber is not None:
            self._subscriber[0].rooms.refused(concerns)

    def listen_no_more(self) -> None:
        """If no room is wanted."""
        if self._subscriber is not None and not len(self._subscriber[0].rooms):
            self._subscriber[1].cancel()
            self._subscriber = None

    def close(self) -> list[asyncio.Task[None]]:
        """For good: what waits is refused. Returns what is ending."""
        ending = []
        for part in (self._subscriber, self._publisher):
            if part is not None:
                part[1].cancel()
                ending.append(part[1])
        if self._publisher is not None:
            self._publisher[0].close()
        self._subscriber = self._publisher = None
        return ending

    def _lost(self) -> None:
        # As RedisLink does for the common channel: what ended one connection has most likely ended the other. But one
        # that was given up was not lost.
        if self._subscriber is not None and self._publisher is not None:
            self._publisher[0].reconnect()
