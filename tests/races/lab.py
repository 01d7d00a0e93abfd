"""Two instances on one Redis, whose verbs and whose news can be held: what the tests of races start from."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from realtime.errors import StateUnavailable
from realtime.link import Connector
from realtime.server import RealtimeServer
from realtime.state import RedisState
from tests.support.barriers import Barriers, Changes
from tests.support.stack import make_settings, running

QUICK: dict[str, Any] = {"realtime_lease_seconds": 1.0, "realtime_state_timeout_seconds": 0.5}
"""A lease that is over soon, for tests that wait for its end."""


@dataclass
class Node:
    """An instance with its barriers in place."""

    server: RealtimeServer
    url: str
    verbs: Barriers
    changes: Changes

    @property
    def state(self) -> RedisState:
        assert isinstance(self.server.state, RedisState)
        return self.server.state

    def cut_off(self) -> None:
        """As ``kill -9`` looks from Redis: nothing comes from it any more."""
        self.verbs.fail()


@contextlib.asynccontextmanager
async def node(
    redis_url: str,
    prefix: str,
    *,
    prepare: Callable[[Node], None] = lambda _node: None,
    connector: Connector | None = None,
    **settings: Any,
) -> AsyncIterator[Node]:
    """One instance. ``prepare`` may close gates before it starts."""
    made: list[Node] = []

    def put_in(server: RealtimeServer) -> None:
        made.append(Node(server, "", Barriers(server.state), Changes(server)))
        prepare(made[0])

    options = make_settings(redis_url, redis_key_prefix=prefix, **settings)
    async with running(options, prepare=put_in, connector=connector) as instance:
        made[0].url = instance.url
        yield made[0]


@contextlib.asynccontextmanager
async def two(redis_url: str, prefix: str, **settings: Any) -> AsyncIterator[tuple[Node, Node]]:
    async with node(redis_url, prefix, **settings) as one, node(redis_url, prefix, **settings) as other:
        yield one, other


async def until_agreed(*nodes: Node, users: set[str], within: float = 5.0) -> None:
    """Waits until every instance's copy, and the shared state, hold exactly these users."""

    async def agreed() -> bool:
        copies = [node.server.replica.users for node in nodes]
        return all(copy == users for copy in copies) and set(await nodes[0].server.USER_POOL.keys()) == users

    await until_true(agreed, within, what=f"{users} on all instances and in the pool")


async def until_true(true: Callable[[], Awaitable[object]], within: float = 5.0, *, what: str) -> None:
    """As ``until``, for a condition that has to be asked for."""
    try:
        async with asyncio.timeout(within):
            while not await _asked(true):
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"waited {within} s in vain for {what}") from None


async def _asked(true: Callable[[], Awaitable[object]]) -> object:
    try:
        return await true()
    except StateUnavailable:
        return False


async def later(milliseconds: int, *nodes: Node) -> None:
    """Moves the state's time forward for all of these; it stays moved, and their leases are renewed by it."""
    gates = [each.verbs.hold("reap") for each in nodes]
    for each in nodes:
        each.state.clock_offset_ms += milliseconds
    for each in nodes:
        await each.server.leases.renew()
    for each, gate in zip(nodes, gates, strict=True):
        each.verbs.remove(gate)
