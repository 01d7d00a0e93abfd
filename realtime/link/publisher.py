"""What an instance publishes: in order, over one connection, in batches, with bounds on memory and time."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError

from realtime.errors import BusOverloaded, StateUnavailable
from realtime.histogram import ROUND_TRIPS, Histogram

from .closing import close_quietly, described
from .connect import Connector
from .words import PLAIN, Words

log = logging.getLogger(__name__)

BATCH = 128
FIRST_PAUSE = 0.05
LONGEST_PAUSE = 1.0


@dataclass(slots=True)
class _Outgoing:
    channel: str
    message: bytes
    done: asyncio.Future[None]


class Publisher:
    """A message is sent at most once: what fails is reported to whoever asked for it, never repeated, and what nobody
    waits for any more is not sent. While Redis is known to be away everything is refused at once.

    ``on_refusal`` is told of what Redis refuses, and returns whether it says so in the log itself. Whoever asked gets
    ``StateUnavailable`` with the refusal as its cause.
    """

    def __init__(
        self,
        connector: Connector,
        *,
        timeout: float,
        max_bytes: int = 16 * 1024 * 1024,
        max_messages: int = 10_000,
        words: Words = PLAIN,
        on_refusal: Callable[[ResponseError], bool] = lambda _refusal: False,
    ) -> None:
        self._connector = connector
        self._command = words.publish
        self._on_refusal = on_refusal
        self._timeout = timeout
        self._max_bytes = max_bytes
        self._max_messages = max_messages
        self._queue: deque[_Outgoing] = deque()
        self._bytes = 0
        self._wake = asyncio.Event()
        self._stale = False
        self._away = False
        self.round_trips = Histogram(ROUND_TRIPS)
        """Of batches that were answered, in seconds."""

    @property
    def away(self) -> bool:
        """Whether Redis is known not to answer."""
        return self._away

    async def publish(self, channel: str, message: bytes) -> None:
        """Returns when Redis has the message. Raises ``BusOverloaded`` at once, ``StateUnavailable`` in bounded
        time."""
        if self._away:
            raise StateUnavailable()
        if len(self._queue) >= self._max_messages or self._bytes + len(message) > self._max_bytes:
            raise BusOverloaded("too much waits to be published to Redis: slow down, then send again")
        item = _Outgoing(channel, message, asyncio.get_running_loop().create_future())
        self._queue.append(item)
        self._bytes += len(message)
        self._wake.set()
        try:
            async with asyncio.timeout(2 * self._timeout):
                await item.done  # if this is given up, so is the message, unless it is on its way
        except TimeoutError:
            raise StateUnavailable(
                "The shared state did not answer in time: try again in a moment."
            ) from None

    def reconnect(self) -> None:
        """Connects anew before the next message: the server may have become another one's replica, or gone without a
        word."""
        self._stale = True
        self._wake.set()

    async def run(self) -> None:
        """Publishes until cancelled."""
        pause = FIRST_PAUSE
        while True:
            self._stale = False
            client: Redis | None = None
            try:
                try:
                    async with asyncio.timeout(self._timeout):
                        client = await self._connector.plain()
                        await client.ping()
                except Exception as error:
                    if not self._away:
                        log.warning("no messages to other instances, Redis is away: %s", described(error))
                    self._refuse_all()
                else:
                    if self._away:
                        log.info("messages to other instances go out again")
                    self._away, pause = False, FIRST_PAUSE
                    await self._publish(client)
            finally:
                await close_quietly(client, self._timeout)
            if self._away:
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(LONGEST_PAUSE, 2 * pause)

    def close(self) -> None:
        """For good: what waits and what comes is refused."""
        self._refuse_all()

    async def _publish(self, client: Redis) -> None:
        """Returns when the connection has failed or shall be replaced."""
        while not self._stale:
            while self._queue and not self._stale:
                try:
                    async with asyncio.timeout(self._timeout):
                        connection = await client.connection_pool.get_connection()  # type: ignore[no-untyped-call]
                except Exception as error:
                    # It died while nothing was said. Nothing was sent: what waits goes out over the next one.
                    log.debug("connecting again to publish: %s", described(error))
                    return
                if not await self._send(connection, self._next_batch()):
                    return
                await client.connection_pool.release(connection)
            await self._wake.wait()
            self._wake.clear()

    def _next_batch(self) -> list[_Outgoing]:
        batch: list[_Outgoing] = []
        while self._queue and len(batch) < BATCH:
            item = self._queue.popleft()
            self._bytes -= len(item.message)
            if not item.done.done():
                batch.append(item)
        return batch

    async def _send(self, connection: AbstractConnection, batch: list[_Outgoing]) -> bool:
        """False if the connection cannot be used any more."""
        failed: list[Exception | None] = [StateUnavailable() for _ in batch]
        try:
            async with asyncio.timeout(self._timeout):
                began = time.perf_counter()
                commands = [(self._command, item.channel, item.message) for item in batch]
                await connection.send_packed_command(connection.pack_commands(commands))
                for number in range(len(batch)):
                    try:
                        await connection.read_response()
                        failed[number] = None
                    except ResponseError as refusal:
                        failed[number] = _refused(refusal)
                        if not self._on_refusal(refusal):
                            log.warning("Redis refused a message for %s: %s", batch[number].channel, refusal)
            self.round_trips.observe(time.perf_counter() - began)
            return True
        except Exception as error:
            log.warning(
                "Redis did not take %d messages: %s", len(batch) - failed.count(None), described(error)
            )
            return False
        finally:
            for item, failure in zip(batch, failed, strict=True):
                _settle(item, failure)

    def _refuse_all(self) -> None:
        self._away = True
        while self._queue:
            _settle(self._queue.popleft(), StateUnavailable())
        self._bytes = 0


def _refused(refusal: ResponseError) -> StateUnavailable:
    error = StateUnavailable()
    error.__cause__ = refusal
    return error


def _settle(item: _Outgoing, failure: Exception | None) -> None:
    if item.done.done():
        return
    if failure is None:
        item.done.set_result(None)
    else:
        item.done.set_exception(failure)
        item.done.exception()  # whoever asked may stop waiting at this very moment
