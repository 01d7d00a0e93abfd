"""What an instance publishes: in order, over one connection, in batches, with bounds on memory and time."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

from redis.asyncio import Redis
from redis.exceptions import RedisError

from realtime.errors import BusOverloaded, StateUnavailable

from .connect import Connector

BATCH = 128


@dataclass(slots=True)
class _Outgoing:
    channel: str
    message: bytes
    done: asyncio.Future[None]


class Publisher:
    """A message is sent at most once: what fails is reported to whoever asked for it, never repeated."""

    def __init__(
        self,
        connector: Connector,
        *,
        timeout: float,
        max_bytes: int = 16 * 1024 * 1024,
        max_messages: int = 10_000,
    ) -> None:
        self._connector = connector
        self._timeout = timeout
        self._max_bytes = max_bytes
        self._max_messages = max_messages
        self._queue: deque[_Outgoing] = deque()
        self._bytes = 0
        self._wake = asyncio.Event()
        self._client: Redis | None = None

    async def publish(self, channel: str, message: bytes) -> None:
        """Returns when Redis has the message. Raises ``BusOverloaded`` at once, ``StateUnavailable`` in bounded
        time."""
        if len(self._queue) >= self._max_messages or self._bytes + len(message) > self._max_bytes:
            raise BusOverloaded("too much waits to be published to Redis: slow down, then send again")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(_Outgoing(channel, message, done))
        self._bytes += len(message)
        self._wake.set()
        try:
            async with asyncio.timeout(2 * self._timeout):
                await asyncio.shield(done)
        except TimeoutError:
            raise StateUnavailable("Redis did not take a message in time") from None

    async def run(self) -> None:
        """Publishes until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                batch = [self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))]
                self._bytes -= sum(len(item.message) for item in batch)
                await self._send(batch)

    async def close(self) -> None:
        while self._queue:
            _settle(self._queue.popleft(), StateUnavailable("the instance is shutting down"))
        await self._drop_client()

    async def _send(self, batch: list[_Outgoing]) -> None:
        error: Exception | None = None
        try:
            async with asyncio.timeout(self._timeout):
                if self._client is None:
                    self._client = await self._connector.plain()
                pipeline = self._client.pipeline(transaction=False)
                for item in batch:
                    pipeline.publish(item.channel, item.message)
                await pipeline.execute()
        except (RedisError, OSError, TimeoutError) as failure:
            error = StateUnavailable(f"Redis did not take a message: {failure or type(failure).__name__}")
            await self._drop_client()
        finally:
            for item in batch:
                _settle(item, error)

    async def _drop_client(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            try:
                async with asyncio.timeout(self._timeout):
                    await client.aclose()
            except (RedisError, OSError, TimeoutError):
                pass


def _settle(item: _Outgoing, error: Exception | None) -> None:
    if item.done.done():
        return
    if error is None:
        item.done.set_result(None)
    else:
        item.done.set_exception(error)
        item.done.exception()  # whoever asked may have stopped waiting
