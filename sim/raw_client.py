"""A small Engine.IO 4 and Socket.IO 5 client that can behave badly: deaf, mute, gone, or talking nonsense.

It runs on asyncio's streams, so on a simulated host and on a real one alike.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from sim.raw_transports import Ended, Polling, RawTransport, WebSocket

PATH = "/ws/socket.io/"
CONNECT_SECONDS = 10.0

Note = Callable[[str, str, Any], None]
"""Takes what happened, its name and its data, as an entry of a history has them."""


class RawClient:
    """One connection, by websocket or by polling. What it does and sees goes to ``note``.

    Well-mannered until told otherwise: it answers pings and calls.
    """

    def __init__(self, note: Note) -> None:
        self.answers_pings = True
        self.answers_calls = True
        self.answer: Callable[[Any], Any] = lambda _data: None
        """Gives the ack of an event call."""
        self.sid: str | None = None
        self.pings = 0
        """How many came."""
        self._note = note
        self._transport: RawTransport | None = None
        self._reading: asyncio.Task[None] | None = None
        self._let_in: asyncio.Future[bool] | None = None

    @property
    def transport(self) -> RawTransport:
        assert self._transport is not None, "connect first"
        return self._transport

    async def connect(
        self,
        host: str,
        port: int,
        auth: dict[str, Any] | None,
        *,
        transport: str = "websocket",
        known_as: str = "",
    ) -> bool:
        """Whether the server let it in; why not is noted. ``known_as``: the server's name in the notes, if not
        ``host``."""
        known_as = known_as or host
        self._note("connect", known_as, {"transport": transport})
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await self.open(host, port, transport=transport)
                await self.join(auth)
                assert self._let_in is not None
                return await asyncio.shield(self._let_in)
        except (Ended, TimeoutError) as error:
            self._note("refused", known_as, str(error) or "no answer")
            return False

    async def open(self, host: str, port: int, *, transport: str = "websocket") -> None:
        """The Engine.IO session alone, without CONNECT; a former one is given up. Raises ``Ended``."""
        self._give_up()
        kind = WebSocket if transport == "websocket" else Polling
        chosen = self._transport = kind(host, port, PATH)
        await chosen.open()
        first, *more = await chosen.receive()
        if isinstance(chosen, Polling):
            chosen.belongs_to(json.loads(first[1:])["sid"])
        self._let_in = asyncio.get_running_loop().create_future()
        self._reading = asyncio.create_task(self._read(chosen, more))

    async def join(self, auth: dict[str, Any] | None) -> None:
        """Sends CONNECT. Raises ``Ended``."""
        await self.transport.send("40" + ("" if auth is None else json.dumps(auth)))

    async def emit(self, event: str, data: Any) -> None:
        """Raises ``Ended``."""
        self._note("emit", event, data)
        await self.transport.send("42" + json.dumps([event, data]))

    async def close(self) -> None:
        """Engine.IO's CLOSE, as a tab does that is closed; raises ``Ended`` if it was closed already."""
        self._note("close", "", None)
        await self.transport.send("1")

    # What it should not do

    async def stop_reading(self) -> None:
        """From now on nothing is taken from the connection, and so no ping is answered."""
        self._note("note", "stops reading", None)
        self.transport.stop_reading()

    async def go_on_reading(self) -> None:
        self._note("note", "reads again", None)
        self.transport.go_on_reading()

    async def vanish(self) -> None:
        """Resets its connections. (Vanishing in silence is done to its host, not by it.)"""
        self._note("note", "vanishes", None)
        self._give_up()

    async def send_packet(self, packet: str) -> None:
        """Any Engine.IO packet. Raises ``Ended``."""
        self._note("note", "sends", packet)
        await self.transport.send(packet)

    async def send_half(self, packet: str) -> None:
        """The beginning of a frame or of a request, and never its end. Raises ``Ended``."""
        self._note("note", "sends half of", packet)
        await self.transport.send_half(packet)

    async def send_garbage(self, data: bytes) -> None:
        """Bytes of no protocol on the connection (by polling: on one more). Raises ``Ended``."""
        self._note("note", "sends garbage", data.hex())
        await self.transport.send_bytes(data)

    def _give_up(self) -> None:
        self.sid = None
        if self._reading is not None:
            self._reading.cancel()
            self.transport.reset()
            self._reading = None

    # What it sees

    async def _read(self, transport: RawTransport, packets: list[str]) -> None:
        try:
            while True:
                for packet in packets:
                    await self._packet(packet)
                packets = await transport.receive()
        except Ended as ended:
            self._over(str(ended))

    async def _packet(self, packet: str) -> None:
        if packet == "2":
            self.pings += 1
            if self.answers_pings:
                await self.transport.send("3")
        elif packet == "1":
            raise Ended("closed by the server")
        elif packet.startswith("40"):
            self.sid = json.loads(packet[2:])["sid"]
            self._note("connected", "", None)
            self._settle(True)
        elif packet.startswith("44"):
            self._note("refused", "", json.loads(packet[2:]))
            self._settle(False)
        elif packet.startswith("41"):
            raise Ended("disconnected by the server")
        elif packet.startswith("42"):
            await self._event(packet[2:])

    async def _event(self, text: str) -> None:
        bracket = text.index("[")
        name, *args = json.loads(text[bracket:])
        data = args[0] if args else None
        self._note("event", name, data)
        if bracket and self.answers_calls:
            await self.transport.send(f"43{text[:bracket]}{json.dumps([self.answer(data)])}")

    def _over(self, how: str) -> None:
        self.sid = None
        if self._let_in is not None and self._let_in.done():
            self._note("disconnected", how, None)
        else:
            self._note("refused", "", how)
        self._settle(False)

    def _settle(self, let_in: bool) -> None:
        if self._let_in is not None and not self._let_in.done():
            self._let_in.set_result(let_in)
