"""What an instance hears: one pub/sub connection that comes back by itself and notices when it has gone deaf."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable

from redis import exceptions
from redis.asyncio.connection import AbstractConnection

from .closing import close_quietly, described
from .connect import Connector
from .subscriptions import Subscriptions
from .words import PLAIN, Words

log = logging.getLogger(__name__)

Receive = Callable[[bytes], None]
FIRST_PAUSE = 0.05
LONGEST_PAUSE = 1.0
SILENT_PERIODS = 2


class Subscriber:
    """Channels and who receives their messages: some for good (``listen``), and ``rooms``, which come and go.

    After every (re)connect all are heard again, then all ``on_ready`` callbacks run: what was published in between is
    lost, and they are where the loss is made good.

    redis-py's ``PubSub`` is not used: it reconnects by itself in the middle of an error, from whichever task asks, and
    nobody learns of it.

    ``on_refusal`` is told of what Redis refuses; unless it returns that it is dealt with the connection ends.
    """

    def __init__(
        self,
        connector: Connector,
        *,
        timeout: float,
        words: Words = PLAIN,
        on_lost: Callable[[], None] = lambda: None,
        on_refusal: Callable[[exceptions.ResponseError], bool] = lambda _refusal: False,
    ) -> None:
        self._connector = connector
        self._words = words
        self._on_lost = on_lost
        self._on_refusal = on_refusal
        self._timeout = timeout
        self._receivers: dict[bytes, list[Receive]] = {}
        self._ready: list[Callable[[], None]] = []
        self._stale = False
        self.rooms = Subscriptions(words)
        self.receive_rooms: Receive = lambda _message: None
        self.connected = asyncio.Event()
        self.reconnects = 0
        self.failure = ""
        """Why it is not connected, as far as that is known."""

    def listen(self, channel: str, receive: Receive, on_ready: Callable[[], None] | None = None) -> None:
        """Before ``run`` only: these are heard as long as it runs."""
        self._receivers.setdefault(channel.encode(), []).append(receive)
        if on_ready is not None:
            self._ready.append(on_ready)

    def reconnect(self) -> None:
        """Connects anew soon: the server may have become another one's replica."""
        self._stale = True

    async def run(self) -> None:
        """Listens until cancelled."""
        loop = asyncio.get_running_loop()
        pause = FIRST_PAUSE
        while True:
            began = loop.time()
            try:
                await self._listen()
            except Exception as error:
                level = logging.WARNING if self.connected.is_set() or not self.failure else logging.DEBUG
                self.failure = described(error)
                log.log(level, "the Redis subscription was lost, connecting again: %s", self.failure)
            finally:
                if self.connected.is_set():
                    self.connected.clear()
                    self.rooms.lost()
                    self._on_lost()
            self.reconnects += 1
            # A server that takes the subscription and drops it at once must not be asked in a busy loop either.
            pause = FIRST_PAUSE if loop.time() - began > 2 * self._timeout else min(LONGEST_PAUSE, 2 * pause)
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))

    async def _listen(self) -> None:
        self._stale = False
        async with asyncio.timeout(self._timeout):
            client = await self._connector.plain()
        try:
            async with asyncio.timeout(self._timeout):
                connection = await client.connection_pool.get_connection()  # type: ignore[no-untyped-call]
                channels = [*self._receivers, *self.rooms.begin()]
                commands = self._words.commands(self._words.subscribe, channels)
                await connection.send_packed_command(connection.pack_commands(commands))
            sending = asyncio.create_task(self._send(connection))
            try:
                await self._read(connection)
            finally:
                sending.cancel()
                await asyncio.wait([sending])
        finally:
            await close_quietly(client, self._timeout)

    async def _send(self, connection: AbstractConnection) -> None:
        """Tells Redis which rooms' channels come and go: all that was asked for in one turn of the loop together, or
        while the last command was not answered. One that is not answered in time ends the connection: nothing else
        would ever make up for it.
        """
        try:
            while True:
                await self._answer()
                await self.rooms.changed.wait()
                commands = self.rooms.take()
                if commands:
                    async with asyncio.timeout(self._timeout):
                        await connection.send_packed_command(connection.pack_commands(commands))
        except Exception as error:
            log.warning("rooms cannot be subscribed to, connecting again: %s", described(error))
            self._stale = True
            await connection.disconnect()  # which the reader notices

    async def _answer(self) -> None:
        for _ in range(SILENT_PERIODS):  # each with its own clock, as in _read
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._timeout / SILENT_PERIODS):
                    await self.rooms.answered.wait()
                    return
        raise exceptions.ConnectionError(f"no answer within {self._timeout:g} s")

    async def _read(self, connection: AbstractConnection) -> None:
        """Asks for a sign of life when it is quiet, and gives up a connection that gives none.

        Counted in reads rather than by the clock, so that a stall of this process is not taken for Redis' silence.
        """
        period = self._timeout / 2
        silent = 0
        while not self._stale:
            try:
                reply = await connection.read_response(timeout=period)
            except exceptions.ResponseError as refusal:
                if not self._on_refusal(refusal):
                    raise
                silent = 0
                continue
            if reply is None:
                silent += 1
                if silent > SILENT_PERIODS:
                    raise exceptions.ConnectionError(f"nothing was heard for {silent * period:g} s")
                async with asyncio.timeout(period):
                    await connection.send_command("PING")
                continue
            silent = 0
            match reply:
                case [self._words.message, channel, message]:
                    self._deliver(channel, message)
                case [self._words.subscribed, channel, _]:
                    self.rooms.replied(channel)
                    if not self.connected.is_set():
                        self._subscribed()  # to all channels, of plain ones: it was one command
                case [self._words.unsubscribed, channel, _]:
                    self.rooms.unsubscribed(channel)
        raise exceptions.ConnectionError("another server is the primary now")

    def _subscribed(self) -> None:
        self.connected.set()
        if self.failure:
            log.info("the Redis subscription stands again")
            self.failure = ""
        for ready in self._ready:
            try:
                ready()
            except Exception:
                log.exception("what was missed on the Redis subscription could not be asked for")

    def _deliver(self, channel: bytes, message: bytes) -> None:
        receivers = self._receivers.get(channel)
        if receivers is None:
            # In a cluster a room that was given up here may be heard at its new owner by now; where this node has
            # become the owner's replica, both say the same.
            if not self.rooms.is_wanted(channel):
                return
            receivers = [self.receive_rooms]
        for receive in receivers:
            try:
                receive(message)
            except Exception:
                log.exception("a message on the channel %s could not be handled", channel.decode())
