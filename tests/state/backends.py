"""The three things a test of the shared state runs on: memory, fakeredis, and a real server."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import fakeredis
from redis.asyncio import Redis

from realtime.link import RedisLink, SingleConnector
from realtime.state import Change, MemoryState, RedisState

KINDS = ["memory", "fakeredis", "redis"]


@dataclass
class Heard:
    """What a listener heard: changes in order, and how often it was told to take a snapshot."""

    changes: list[Change] = field(default_factory=list)
    ready: int = 0
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def on_change(self, change: Change) -> None:
        self.changes.append(change)
        self._news.set()

    def on_ready(self) -> None:
        self.ready += 1
        self._news.set()

    async def wait_for(self, true: Callable[[], object]) -> None:
        """Waits, bounded, for something to be heard."""
        async with asyncio.timeout(20):
            while not true():
                self._news.clear()
                await self._news.wait()


@dataclass
class Backend:
    """A shared state, somebody who listens to it, and the means to look behind it."""

    kind: str
    state: MemoryState | RedisState
    heard: Heard
    client: Redis | None = None
    skew_ms: int = 0

    def set_time(self, now_ms: int) -> None:
        """Makes the state's time ``now_ms`` at this moment; it goes on from there."""
        self.state.clock_offset_ms = now_ms - int(time.time() * 1000) - self.skew_ms

    def advance(self, seconds: float) -> None:
        self.state.clock_offset_ms += round(seconds * 1000)

    async def settle(self) -> None:
        """Waits until everything that was published was heard."""
        at = await self.state.snapshot()
        changes = self.heard.changes
        await self.heard.wait_for(lambda: not at.version or (changes and changes[-1].version >= at.version))

    async def dump(self) -> dict[str, Any]:
        """All keys of this state with what they hold; the keys without the root."""
        if self.client is None or not isinstance(self.state, RedisState):
            return {}
        return await dump(self.client, self.state.root)

    async def wipe(self) -> None:
        """What a Redis that restarted empty is: none of this state's keys is left."""
        assert self.client is not None
        assert isinstance(self.state, RedisState)
        if keys := await _keys(self.client, self.state.root):
            await self.client.delete(*keys)


@contextlib.asynccontextmanager
async def opened(kind: str, *, url: str = "", root: str = "{test:realtime}") -> AsyncIterator[Backend]:
    """A fresh state of a kind, already listened to. A real server loses the root's keys afterwards."""
    if kind == "memory":
        memory, heard = MemoryState(), Heard()
        memory.listen(heard.on_change, heard.on_ready)
        yield Backend(kind, memory, heard)
        return
    async with linked(kind, url) as (link, client):
        state, heard = RedisState(link, root=root), Heard()
        state.listen(heard.on_change, heard.on_ready)
        listening = asyncio.create_task(link.subscriber.run())
        try:
            await heard.wait_for(lambda: heard.ready)
            skew = await server_ms(client) - int(time.time() * 1000)
            backend = Backend(kind, state, heard, client, skew)
            yield backend
            await backend.wipe()
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)


@contextlib.asynccontextmanager
async def linked(
    kind: str, url: str = "", *, timeout: float = 20.0
) -> AsyncIterator[tuple[RedisLink, Redis]]:
    """A link to a fakeredis of its own, or to the server at ``url``; and a client of it to look behind the link."""
    if kind == "fakeredis":
        server = fakeredis.FakeServer()
        connector = SingleConnector(url, make=lambda: fakeredis.FakeAsyncRedis(server=server))
    else:
        connector = SingleConnector(url, timeout=timeout)
    link, client = RedisLink(connector, timeout=timeout), connector.commands()
    try:
        yield link, client
    finally:
        await link.close()
        await client.aclose()


async def server_ms(client: Redis) -> int:
    """The server's clock."""
    reply: Any = await client.time()
    return int(reply[0]) * 1000 + int(reply[1]) // 1000


async def dump(client: Redis, root: str) -> dict[str, Any]:
    """Keys under a root, each with its content in Python's shapes; sorted where Redis has no order."""
    content: dict[str, Any] = {}
    for key in sorted(await _keys(client, root)):
        read: Any = await client.type(key)
        kind = read.decode()
        if kind == "hash":
            read = sorted((await _done(client.hgetall(key))).items())
        elif kind == "zset":
            read = await _done(client.zrange(key, 0, -1, withscores=True))
        else:
            read = await _done(client.get(key))
        content[key.decode().removeprefix(root).removeprefix(":")] = (kind, read)
    return content


async def _keys(client: Redis, root: str) -> list[bytes]:
    return [key async for key in client.scan_iter(match=f"{root}*", count=1000)]


async def _done(reply: Awaitable[Any] | Any) -> Any:
    return await reply
