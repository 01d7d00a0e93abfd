"""The connections themselves: started and closed together, and every call over them bounded."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.exceptions import DataError, MovedError, NoScriptError, ReadOnlyError

from realtime.errors import InvalidPayload, MessageTooLarge, StateUnavailable
from realtime.histogram import ROUND_TRIPS, Histogram

from .closing import close_quietly, described
from .cluster import ClusterConnector
from .connect import Connector
from .publisher import Publisher
from .sharded import ShardedRooms
from .subscriber import LONGEST_PAUSE, Subscriber

log = logging.getLogger(__name__)
T = TypeVar("T")

COMMAND_CONNECTIONS = 16
"""Connections of one instance for commands; more verbs than that wait their turn, within their time-out."""


class RedisLink:
    """Commands, a publisher and a subscriber; on a cluster, more of both for rooms. ``timeout`` (seconds) bounds every
    wait."""

    def __init__(self, connector: Connector, *, timeout: float = 2.0) -> None:
        self.timeout = timeout
        self._connector = connector
        self._client: Redis | None = None
        self._turns = asyncio.Semaphore(COMMAND_CONNECTIONS)
        self._closed = False
        self._failing = False
        self.round_trips = Histogram(ROUND_TRIPS)
        """Of commands that were answered, in seconds; without the wait for a connection."""
        self.failures = 0
        """Commands that Redis failed or did not answer in time."""
        self.publisher = Publisher(connector, timeout=timeout)
        # What ended one idle connection has most likely ended the other: half-open it takes a message and loses it.
        self.subscriber = Subscriber(connector, timeout=timeout, on_lost=self.publisher.reconnect)
        self.sharded: ShardedRooms | None = None
        if isinstance(connector, ClusterConnector):
            self.sharded = ShardedRooms(connector, self.publisher, self.subscriber, timeout=timeout)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(
        self, *, supervise: Callable[[str, Callable[[], Awaitable[None]]], asyncio.Task[None]]
    ) -> None:
        """Starts publisher and subscriber as supervised tasks and waits, bounded, until the subscription stands."""
        self._tasks = [
            supervise("redis-publisher", self.publisher.run),
            supervise("redis-subscriber", self.subscriber.run),
        ]
        if self.sharded is not None:
            self._tasks.append(self.sharded.start(supervise))
        try:
            async with asyncio.timeout(2 * self.timeout):
                await self.subscriber.connected.wait()
                if self.sharded is not None:
                    await self.sharded.known.wait()
        except TimeoutError:
            why = self.subscriber.failure or "it does not answer"
            raise StateUnavailable(
                f"Redis cannot be used ({why}): is WEBSOCKET_REDIS_URL right, and is it running?"
            ) from None

    async def close(self) -> None:
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.sharded is not None:
            await self.sharded.close()
        self.publisher.close()
        await close_quietly(self._client, self.timeout)
        await close_quietly(self._connector, self.timeout)

    async def run(self, command: Callable[[Any], Awaitable[T]]) -> T:
        """Runs one command. Raises ``StateUnavailable`` when Redis fails it or does not answer in time; the outcome is
        unknown then. (And redis-py's ``NoScriptError``: the caller sends the script; and ``InvalidPayload``.)

        What went wrong, with addresses, goes into the log; the error's text may be shown to clients.
        """
        if self._closed:
            raise StateUnavailable("This instance is shutting down: connect again.")
        try:
            async with asyncio.timeout(self.timeout):
                async with self._turns:
                    if self._client is None:
                        self._client = self._connector.commands()
                    client = self._client
                    began = time.perf_counter()
                    reply = await command(client)
                    self.round_trips.observe(time.perf_counter() - began)
        except NoScriptError:
            raise
        except (DataError, UnicodeEncodeError) as error:  # nothing was sent
            raise InvalidPayload(f"what Redis is asked about is no text: {error}") from error
        except TimeoutError as error:
            self._tell(error)
            raise StateUnavailable(
                "The shared state did not answer in time: try again in a moment."
            ) from None
        except (ReadOnlyError, MovedError) as error:
            # What the connections lead to is no longer what it was, and no error would ever end them.
            self._tell(error)
            await self._look_again(client)
            raise StateUnavailable() from error
        except Exception as error:  # a server that answers garbage makes redis-py raise anything
            self._tell(error)
            raise StateUnavailable() from error
        if self._failing:
            self._failing = False
            log.info("Redis can be used again")
        return reply

    def _tell(self, error: Exception) -> None:
        level = logging.DEBUG if self._failing else logging.WARNING
        self._failing = True
        self.failures += 1
        log.log(level, "Redis cannot be used: %s", described(error))

    async def _look_again(self, client: Redis) -> None:
        if self._client is client:
            self._client = None
            self.publisher.reconnect()
            self.subscriber.reconnect()
            await close_quietly(client, self.timeout)


class RedisBus:
    """The bus between instances over Redis: python-socketio's channel, heard and written."""

    def __init__(self, link: RedisLink, *, max_message_bytes: int) -> None:
        self._link = link
        self._rooms = link.sharded or link.subscriber.rooms
        self._rooms_publisher = link.sharded or link.publisher
        self._max = max_message_bytes

    async def publish(self, channel: str, message: bytes) -> None:
        self._check(message)
        await self._link.publisher.publish(channel, message)

    def listen(self, channel: str, receive: Callable[[bytes], None]) -> None:
        self._link.subscriber.listen(channel, receive)

    async def publish_to_room(self, channel: str, message: bytes) -> None:
        # But on a cluster, the same connection carries both, and one connection hears both: their order is kept.
        self._check(message)
        await self._rooms_publisher.publish(channel, message)

    def listen_to_rooms(self, receive: Callable[[bytes], None]) -> None:
        self._link.subscriber.receive_rooms = receive
        if self._link.sharded is not None:
            self._link.sharded.receive = receive

    def subscribe(self, channels: Iterable[str]) -> None:
        self._rooms.want(channels)

    async def heard(self, channels: Collection[str]) -> None:
        # A connection that was lost is on its way back: who comes meanwhile need not be turned away.
        await self._rooms.heard(channels, LONGEST_PAUSE + self._link.timeout)

    def unsubscribe(self, channels: Iterable[str]) -> None:
        self._rooms.unwant(channels)

    def _check(self, message: bytes) -> None:
        if len(message) > self._max:
            raise MessageTooLarge(
                f"a message of {len(message)} bytes for other instances; at most {self._max} may be sent"
            )
