"""The connections themselves: started and closed together, and every call over them bounded."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from redis.asyncio import Redis, RedisCluster
from redis.exceptions import NoScriptError, RedisError

from realtime.errors import MessageTooLarge, StateUnavailable

from .connect import Connector
from .publisher import Publisher
from .subscriber import Subscriber

log = logging.getLogger(__name__)
T = TypeVar("T")


class RedisLink:
    """Commands, a publisher and a subscriber. ``timeout`` (seconds) bounds every wait."""

    def __init__(self, connector: Connector, *, timeout: float = 2.0) -> None:
        self.timeout = timeout
        self._connector = connector
        self._client: Redis | RedisCluster | None = None
        self.publisher = Publisher(connector, timeout=timeout)
        self.subscriber = Subscriber(connector, timeout=timeout)
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def client(self) -> Redis | RedisCluster:
        if self._client is None:
            self._client = self._connector.commands()
        return self._client

    async def start(
        self, *, supervise: Callable[[str, Callable[[], Awaitable[None]]], asyncio.Task[None]]
    ) -> None:
        """Starts publisher and subscriber as supervised tasks and waits, bounded, until the subscription stands."""
        self._tasks = [
            supervise("redis-publisher", self.publisher.run),
            supervise("redis-subscriber", self.subscriber.run),
        ]
        try:
            async with asyncio.timeout(2 * self.timeout):
                await self.subscriber.connected.wait()
        except TimeoutError:
            raise StateUnavailable(
                "Redis does not answer: is WEBSOCKET_REDIS_URL right, and is it running?"
            ) from None

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.publisher.close()
        if self._client is not None:
            try:
                async with asyncio.timeout(self.timeout):
                    await self._client.aclose()
            except (RedisError, OSError, TimeoutError) as error:
                log.debug("closing the connections to Redis: %s", error)

    async def run(self, command: Callable[[Any], Awaitable[T]]) -> T:
        """Runs one command. Raises ``StateUnavailable`` when Redis fails it or does not answer in time."""
        try:
            async with asyncio.timeout(self.timeout):
                return await command(self.client)
        except NoScriptError:
            raise
        except TimeoutError:
            raise StateUnavailable("Redis did not answer in time: try again") from None
        except (RedisError, OSError) as error:
            raise StateUnavailable(f"Redis could not be used: {error}") from error


class RedisBus:
    """The bus between instances over Redis: python-socketio's channel, heard and written."""

    def __init__(self, link: RedisLink, *, max_message_bytes: int) -> None:
        self._link = link
        self._max = max_message_bytes

    async def publish(self, channel: str, message: bytes) -> None:
        if len(message) > self._max:
            raise MessageTooLarge(
                f"a message of {len(message)} bytes for other instances; at most {self._max} may be sent"
            )
        await self._link.publisher.publish(channel, message)

    def listen(self, channel: str, receive: Callable[[bytes], None]) -> None:
        self._link.subscriber.listen(channel, receive)
