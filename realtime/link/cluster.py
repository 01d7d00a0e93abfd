"""A Redis Cluster as the layer needs it: the node that owns the state's slot, any node, and who owns which slots.

All keys of the state share a hash tag, so one node holds them; redis-py's cluster client is not used. It routes at
random until it knows the layout, ends the connections of other commands when slots move, and cannot start while the
first node that the others name is gone.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

from redis import exceptions
from redis.asyncio import Connection, ConnectionPool, Redis, SSLConnection
from redis.crc import key_slot

from .closing import close_quietly, described
from .options import connection_options, url_options

Address = tuple[str, int]
Layout = list[tuple[int, int, Address]]
"""First slot, last slot, owner."""


class OwnerConnection(Connection):
    """Asks for its address whenever it connects."""

    def __init__(self, *, find: Callable[[], Awaitable[Address]], **options: Any) -> None:
        self._find = find
        super().__init__(**options)

    async def _connect(self) -> None:
        self.host, self.port = await self._find()
        await super()._connect()  # type: ignore[no-untyped-call]


class OwnerTlsConnection(OwnerConnection, SSLConnection):
    """The same with TLS."""


class ClusterConnector:
    """``key``: a key of the state, or their common beginning with the hash tag. What nodes tell of others is kept: the
    node in the URL may be the one that is gone."""

    def __init__(self, url: str, key: str, *, timeout: float = 2.0) -> None:
        options = url_options(url)
        self._tls = options.pop("connection_class", None) is SSLConnection
        self._seed: Address = str(options.pop("host", "localhost")), int(options.pop("port", 6379))
        self._options = options | connection_options(timeout)
        self._slot = key_slot(key.encode())
        self._each = timeout / 4  # a node that hangs must leave time to ask others
        self._known = {self._seed}

    def commands(self) -> Redis:
        kind = OwnerTlsConnection if self._tls else OwnerConnection
        return Redis.from_pool(ConnectionPool(connection_class=kind, find=self._owner, **self._options))

    async def plain(self) -> Redis:
        """A node chosen at random, so that a fleet spreads over all; each passes messages on to the others."""
        if self._known == {self._seed}:
            await self._owner()
        node, _ = await self._any_node()
        return node

    async def layout(self) -> Layout:
        """Who owns which slots, as far as a node chosen at random knows."""
        node, slots = await self._any_node()
        await close_quietly(node, self._each)
        return slots

    def node(self, address: Address) -> Redis:
        """A client of one node."""
        host, port = address
        kind = SSLConnection if self._tls else Connection
        return Redis.from_pool(ConnectionPool(connection_class=kind, host=host, port=port, **self._options))

    async def aclose(self) -> None:
        return None

    async def _owner(self) -> Address:
        for first, last, owner in await self.layout():
            if first <= self._slot <= last:
                return owner
        raise exceptions.ConnectionError("no node of the cluster serves the slot of the state")

    async def _any_node(self) -> tuple[Redis, Layout]:
        """A node that answers, and who owns which slots as far as it knows."""
        failure: Exception | None = None
        for host, port in random.sample(sorted(self._known), len(self._known)):
            node = self.node((host, port))
            try:
                async with asyncio.timeout(self._each):
                    reply: list[list[Any]] = await node.cluster("SLOTS")
                # An empty host: the one that was asked (documentation of CLUSTER SLOTS).
                slots = [
                    (first, last, (owner[0].decode() or host, int(owner[1])))
                    for first, last, owner, *_replicas in reply
                ]
            except Exception as error:
                failure = error
                await close_quietly(node, self._each)
            except BaseException:
                await close_quietly(node, self._each)
                raise
            else:
                self._known = {self._seed} | {owner for _, _, owner in slots}
                return node, slots
        raise exceptions.ConnectionError(
            f"no node of the cluster answers: {described(failure or TimeoutError())}"
        )
