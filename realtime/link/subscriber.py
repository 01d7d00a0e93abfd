"""What an instance hears: one pub/sub connection that comes back by itself and notices when it has gone deaf."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Any

from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from .connect import Connector

log = logging.getLogger(__name__)

Receive = Callable[[bytes], None]
LONGEST_PAUSE = 1.0


class Subscriber:
    """Channels and who receives their messages. After every (re)connect all ``on_ready`` callbacks run: what was
    published in between is lost, and they are where the loss is made good."""

    def __init__(self, connector: Connector, *, timeout: float) -> None:
        self._connector = connector
        self._timeout = timeout
        self._receivers: dict[str, list[Receive]] = {}
        self._ready: list[Callable[[], None]] = []
        self._heard = 0.0
        self.connected = asyncio.Event()
        self.reconnects = 0

    def listen(self, channel: str, receive: Receive, on_ready: Callable[[], None] | None = None) -> None:
        """Before ``run`` only: the set of channels is fixed while it runs."""
        self._receivers.setdefault(channel, []).append(receive)
        if on_ready is not None:
            self._ready.append(on_ready)

    async def run(self) -> None:
        """Listens until cancelled."""
        failures = 0
        while True:
            try:
                await self._listen_once()
            except (RedisError, OSError, TimeoutError) as error:
                failures = 0 if self.connected.is_set() else failures + 1
                log.warning(
                    "the Redis subscription was lost (%s): connecting again", error or type(error).__name__
                )
            self.connected.clear()
            self.reconnects += 1
            await asyncio.sleep(min(LONGEST_PAUSE, 0.05 * 2 ** min(failures, 10)) * random.uniform(0.5, 1.0))

    async def _listen_once(self) -> None:
        async with asyncio.timeout(self._timeout):
            client = await self._connector.plain()
        pubsub = client.pubsub()
        watchdog: asyncio.Task[None] | None = None
        try:
            async with asyncio.timeout(self._timeout):
                await pubsub.subscribe(*self._receivers)
            confirmed = 0
            watchdog = asyncio.create_task(self._watch(pubsub), name="redis-subscription-watchdog")
            self._heard = asyncio.get_running_loop().time()
            async for message in pubsub.listen():
                self._heard = asyncio.get_running_loop().time()
                kind = message["type"]
                if kind == "message":
                    self._deliver(_text(message["channel"]), message["data"])
                elif kind == "subscribe":
                    confirmed += 1
                    if confirmed == len(self._receivers):
                        self._on_subscribed()
        except asyncio.CancelledError:
            # The watchdog cancels nothing: it closes the connection, and the reader fails with a typed error.
            raise
        finally:
            if watchdog is not None:
                watchdog.cancel()
            await _close_quietly(pubsub, self._timeout)
            await _close_quietly(client, self._timeout)

    async def _watch(self, pubsub: PubSub) -> None:
        """Pings when it is quiet, and closes a connection that stays quiet after that."""
        loop = asyncio.get_running_loop()
        period = self._timeout / 2
        while True:
            await asyncio.sleep(period)
            silence = loop.time() - self._heard
            if silence > self._timeout + period:
                log.warning("the Redis subscription has been silent for %.1f s: closing it", silence)
                connection: Any = pubsub.connection  # its annotation says None
                if connection is not None:
                    await connection.disconnect(nowait=True)
                return
            try:
                async with asyncio.timeout(period):
                    await pubsub.ping()
            except (RedisError, OSError, TimeoutError):
                continue  # the reader fails by itself, or the silence above ends it

    def _on_subscribed(self) -> None:
        self.connected.set()
        for ready in self._ready:
            ready()

    def _deliver(self, channel: str, message: bytes) -> None:
        for receive in self._receivers.get(channel, ()):
            try:
                receive(message)
            except Exception:
                log.exception("a message on the channel %s could not be handled", channel)


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


async def _close_quietly(closable: object, timeout: float) -> None:
    try:
        async with asyncio.timeout(timeout):
            await closable.aclose()  # type: ignore[attr-defined]
    except (RedisError, OSError, TimeoutError):
        pass
