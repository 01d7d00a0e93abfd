"""Raw clients over asyncio's streams: one HTTP request, one websocket, and a session by either transport."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlencode

from sim import http
from sim.raw_transports import CLOSE, PING, PONG, TEXT, frame
from tests.wire.lab import BOUND, Instance

CONTINUATION, BINARY = 0x0, 0x2
SEPARATOR = "\x1e"
Packet = str | bytes


@dataclass(frozen=True)
class Kind:
    """A transport, and whether the client answers pings."""

    transport: str
    answers_pings: bool = True

    def __str__(self) -> str:
        return self.transport if self.answers_pings else f"{self.transport}, deaf to pings"


WEBSOCKET, POLLING = Kind("websocket"), Kind("polling")
KINDS = [WEBSOCKET, POLLING, Kind("websocket", False), Kind("polling", False)]


class EndedError(Exception):
    """The server ended the session: by a close frame's `code` and `reason`, or by a response's status."""

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


def path(transport: str | None = "polling", sid: str | None = None, **query: str | None) -> str:
    given = {"EIO": "4", "transport": transport, "sid": sid, **query}
    return "/socket.io/?" + urlencode({name: value for name, value in given.items() if value is not None})


async def ask(
    instance: Instance, method: str, target: str, body: bytes = b"", headers: dict[str, str] | None = None
) -> http.Response:
    """One request on a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", instance.port)
    try:
        writer.write(http.request(method, "127.0.0.1", target, body, headers))
        return await asyncio.wait_for(http.response(reader), BOUND)
    finally:
        writer.close()


class WebSocket:
    """Frames by hand. `accepted` answers whether the handshake was, else `refusal` has the response."""

    refusal: http.Response | None = None

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    @asynccontextmanager
    async def open(cls, instance: Instance, target: str) -> AsyncIterator[WebSocket]:
        reader, writer = await asyncio.open_connection("127.0.0.1", instance.port)
        it = cls(reader, writer)
        key = base64.b64encode(os.urandom(16)).decode()
        headers = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
        writer.write(http.request("GET", "127.0.0.1", target, headers=headers | {"Sec-WebSocket-Key": key}))
        try:
            status, answered = await asyncio.wait_for(http.head(reader), BOUND)
            if status != 101:
                body = await asyncio.wait_for(reader.read(), BOUND)
                it.refusal = http.Response(status, answered, body)
            yield it
        finally:
            writer.close()

    def send(self, packet: Packet) -> None:
        if isinstance(packet, str):
            self.writer.write(frame(TEXT, packet.encode()))
        else:
            self.writer.write(frame(BINARY, packet))

    def send_in_pieces(self, packet: bytes, opcode: int = TEXT) -> None:
        """As two frames of one message."""
        half = len(packet) // 2
        first = bytearray(frame(opcode, packet[:half]))
        first[0] &= 0x7F
        self.writer.write(bytes(first) + frame(CONTINUATION, packet[half:]))

    async def receive(self) -> Packet:
        """Raises `EndedError`."""
        try:
            return await asyncio.wait_for(self._message(), BOUND)
        except (asyncio.IncompleteReadError, ConnectionError):
            raise EndedError(1006) from None

    async def _message(self) -> Packet:
        while True:
            opcode, payload = await self._frame()
            if opcode == TEXT:
                return payload.decode()
            if opcode == BINARY:
                return payload
            if opcode == PING:
                self.writer.write(frame(PONG, payload))
            if opcode == CLOSE:
                self.writer.write(frame(CLOSE, payload[:2]))
                code = struct.unpack("!H", payload[:2])[0] if payload else 1005
                raise EndedError(code, payload[2:].decode())

    async def _frame(self) -> tuple[int, bytes]:
        first, second = await self.reader.readexactly(2)
        assert first & 0x80, "the server sends whole messages"
        assert not second & 0x80, "a server never masks"
        size = second
        if size >= 126:
            width = 2 if size == 126 else 8
            size = int.from_bytes(await self.reader.readexactly(width), "big")
        return first & 0x0F, await self.reader.readexactly(size)


class Session(Protocol):
    """A session by either transport. What a receive returns are packets, binary ones as bytes."""

    handshake: dict[str, Any]
    pings: int

    @property
    def sid(self) -> str: ...

    async def send(self, *packets: Packet) -> None:
        """Raises `EndedError`."""

    async def receive(self) -> Packet:
        """The next packet but pings. Raises `EndedError`."""


class _Session:
    def __init__(self, instance: Instance, kind: Kind) -> None:
        self.instance = instance
        self.kind = kind
        self.handshake: dict[str, Any] = {}
        self.pings = 0

    @property
    def sid(self) -> str:
        return str(self.handshake["sid"])

    async def send(self, *packets: Packet) -> None:
        raise NotImplementedError

    async def next(self) -> Packet:
        raise NotImplementedError

    async def receive(self) -> Packet:
        async with asyncio.timeout(BOUND):
            while (packet := await self.next()) == "2":
                self.pings += 1
                if self.kind.answers_pings:
                    await self.send("3")
        return packet


class ByWebSocket(_Session):
    def __init__(self, instance: Instance, kind: Kind, websocket: WebSocket) -> None:
        super().__init__(instance, kind)
        self.websocket = websocket

    async def send(self, *packets: Packet) -> None:
        for packet in packets:
            self.websocket.send(packet)

    async def next(self) -> Packet:
        return await self.websocket.receive()


class ByPolling(_Session):
    def __init__(self, instance: Instance, kind: Kind) -> None:
        super().__init__(instance, kind)
        self._waiting: list[str] = []

    async def get(self) -> http.Response:
        return await ask(self.instance, "GET", path(sid=self.sid))

    async def post(self, body: bytes) -> http.Response:
        return await ask(self.instance, "POST", path(sid=self.sid), body)

    async def send(self, *packets: Packet) -> None:
        texts = [p if isinstance(p, str) else "b" + base64.b64encode(p).decode() for p in packets]
        response = await self.post(SEPARATOR.join(texts).encode())
        if response.status != 200:
            raise EndedError(response.status, response.body.decode())

    async def next(self) -> Packet:
        while not self._waiting:
            response = await self.get()
            if response.status != 200:
                raise EndedError(response.status, response.body.decode())
            self._waiting = [each for each in response.body.decode().split(SEPARATOR) if each != "6"]
        packet = self._waiting.pop(0)
        return base64.b64decode(packet[1:]) if packet.startswith("b") else packet


@asynccontextmanager
async def polling(instance: Instance, kind: Kind = POLLING) -> AsyncIterator[ByPolling]:
    """A session of Engine.IO alone."""
    session = ByPolling(instance, kind)
    opened = await ask(instance, "GET", path())
    assert opened.status == 200
    session.handshake = json.loads(opened.body[1:])
    yield session


@asynccontextmanager
async def websocket(instance: Instance, kind: Kind = WEBSOCKET) -> AsyncIterator[ByWebSocket]:
    """A session of Engine.IO alone."""
    async with WebSocket.open(instance, path("websocket")) as connection:
        session = ByWebSocket(instance, kind, connection)
        first = await connection.receive()
        assert isinstance(first, str)
        session.handshake = json.loads(first[1:])
        yield session


@asynccontextmanager
async def engine(instance: Instance, kind: Kind) -> AsyncIterator[Session]:
    """A session of Engine.IO alone, by any kind of client."""
    async with (websocket if kind.transport == "websocket" else polling)(instance, kind) as session:
        yield session


@asynccontextmanager
async def client(instance: Instance, kind: Kind, namespace: str = "") -> AsyncIterator[Session]:
    """A session with the main namespace, or the one of a prefix such as ``/admin,``, connected."""
    async with engine(instance, kind) as session:
        await session.send("40" + namespace)
        answer = await session.receive()
        assert isinstance(answer, str)
        assert answer.startswith(f"40{namespace}" + "{")
        yield session


async def end_of(session: Session) -> tuple[EndedError, list[Packet]]:
    """How the server ended it, and the packets that came before."""
    packets: list[Packet] = []
    try:
        while True:
            packets.append(await session.receive())
    except EndedError as ended:
        return ended, packets
