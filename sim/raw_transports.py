"""Engine.IO's two transports over asyncio's streams, own code: for clients that break rules, so none is kept here.

A simulated host and a real one run it alike: it knows streams only.
"""

from __future__ import annotations

import asyncio
import base64
import os
import socket
import struct
from typing import Protocol

from sim import http

RECORD_SEPARATOR = "\x1e"
TEXT, CLOSE, PING, PONG = 0x1, 0x8, 0x9, 0xA


class Ended(Exception):
    """The transport is over; the text says how: ``closed 4014 …``, ``reset``, ``end of stream``, ``status 400``."""


class RawTransport(Protocol):
    """What both are to a client."""

    async def open(self) -> None:
        """Raises ``Ended`` when it is refused."""

    async def receive(self) -> list[str]:
        """The next packets, at least one. Raises ``Ended``."""

    async def send(self, packet: str) -> None:
        """Raises ``Ended``."""

    async def send_half(self, packet: str) -> None:
        """Announces the whole packet and sends half of it, and nothing after that."""

    async def send_bytes(self, data: bytes) -> None:
        """As they are, whatever the protocol says."""

    def stop_reading(self) -> None:
        """Leaves everything in the system's buffers, until the other side may send no more."""

    def go_on_reading(self) -> None: ...

    def reset(self) -> None:
        """Ends the connections at once, without a word of the protocol."""


class WebSocket:
    """Frames are uncompressed; pings of the websocket itself are answered, as a browser does without being asked."""

    def __init__(self, host: str, port: int, path: str) -> None:
        self._host = host
        self._port = port
        self._path = f"{path}?EIO=4&transport=websocket"

    async def open(self) -> None:
        self._reader, self._writer = await _connect(self._host, self._port)
        key = base64.b64encode(os.urandom(16)).decode()
        headers = {
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": key,
        }
        self._writer.write(http.request("GET", self._host, self._path, headers=headers))
        try:
            status, _headers = await http.head(self._reader)
        except OSError as error:
            raise Ended(_how(error)) from error
        if status != 101:
            raise Ended(f"status {status}")

    async def receive(self) -> list[str]:
        while True:
            try:
                opcode, payload = await self._frame()
            except asyncio.IncompleteReadError as error:
                raise Ended("end of stream") from error
            except OSError as error:
                raise Ended(_how(error)) from error
            if opcode == TEXT:
                return [payload.decode()]
            if opcode == CLOSE:
                code = struct.unpack("!H", payload[:2])[0] if payload else 1005
                raise Ended(f"closed {code} {payload[2:].decode()}".rstrip())
            if opcode == PING:
                await self.send_bytes(frame(PONG, payload))

    async def send(self, packet: str) -> None:
        await self.send_bytes(frame(TEXT, packet.encode()))

    async def send_half(self, packet: str) -> None:
        whole = frame(TEXT, packet.encode())
        await self.send_bytes(whole[: len(whole) - (len(packet) + 1) // 2])

    async def send_bytes(self, data: bytes) -> None:
        await _write(self._writer, data)

    def stop_reading(self) -> None:
        self._writer.transport.pause_reading()  # type: ignore[attr-defined]  # a stream's is always a full Transport

    def go_on_reading(self) -> None:
        self._writer.transport.resume_reading()  # type: ignore[attr-defined]

    def reset(self) -> None:
        _reset(self._writer)

    async def _frame(self) -> tuple[int, bytes]:
        first, second = await self._reader.readexactly(2)
        size = second & 0x7F
        if size == 126:
            size = struct.unpack("!H", await self._reader.readexactly(2))[0]
        elif size == 127:
            size = struct.unpack("!Q", await self._reader.readexactly(8))[0]
        return first & 0x0F, await self._reader.readexactly(size)


def frame(opcode: int, payload: bytes) -> bytes:
    """A whole frame as clients send it, masked (RFC 6455, section 5.2)."""
    size = len(payload)
    if size < 126:
        length = bytes([0x80 | size])
    elif size < 1 << 16:
        length = bytes([0x80 | 126]) + struct.pack("!H", size)
    else:
        length = bytes([0x80 | 127]) + struct.pack("!Q", size)
    mask = os.urandom(4)
    masked = bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))
    return bytes([0x80 | opcode]) + length + mask + masked


class Polling:
    """A connection for each request. The first poll opens the session, whose sid all others carry."""

    def __init__(self, host: str, port: int, path: str) -> None:
        self._host = host
        self._port = port
        self._path = f"{path}?EIO=4&transport=polling"
        self._polling: asyncio.StreamWriter | None = None
        self._reading = True
        self._others: list[asyncio.StreamWriter] = []

    async def open(self) -> None:
        return None

    def belongs_to(self, sid: str) -> None:
        self._path += f"&sid={sid}"

    async def receive(self) -> list[str]:
        reader, writer = await _connect(self._host, self._port)
        self._polling = writer
        if not self._reading:
            self.stop_reading()
        try:
            writer.write(http.request("GET", self._host, self._path))
            body = await self._answer(reader)
        finally:
            writer.close()
            self._polling = None
        return body.split(RECORD_SEPARATOR)

    async def send(self, packet: str) -> None:
        reader, writer = await _connect(self._host, self._port)
        try:
            writer.write(http.request("POST", self._host, self._path, packet.encode()))
            await self._answer(reader)
        finally:
            writer.close()

    async def send_half(self, packet: str) -> None:
        whole = http.request("POST", self._host, self._path, packet.encode())
        await self.send_bytes(whole[: len(whole) - (len(packet) + 1) // 2])

    async def send_bytes(self, data: bytes) -> None:
        _reader, writer = await _connect(self._host, self._port)
        self._others.append(writer)
        await _write(writer, data)

    def stop_reading(self) -> None:
        self._reading = False
        if self._polling is not None:
            self._polling.transport.pause_reading()  # type: ignore[attr-defined]

    def go_on_reading(self) -> None:
        self._reading = True
        if self._polling is not None:
            self._polling.transport.resume_reading()  # type: ignore[attr-defined]

    def reset(self) -> None:
        for writer in [*self._others, *([self._polling] if self._polling else [])]:
            _reset(writer)

    async def _answer(self, reader: asyncio.StreamReader) -> str:
        try:
            answer = await http.response(reader)
        except OSError as error:
            raise Ended(_how(error)) from error
        if answer.status != 200:
            raise Ended(f"status {answer.status}")
        return answer.body.decode()


async def _connect(host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        return await asyncio.open_connection(host, port)
    except OSError as error:
        raise Ended(_how(error)) from error


async def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    try:
        await writer.drain()
    except OSError as error:
        raise Ended(_how(error)) from error


def _reset(writer: asyncio.StreamWriter) -> None:
    """Without lingering, closing sends a reset instead of an end (socket(7), ``SO_LINGER``)."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def _how(error: OSError) -> str:
    return "refused" if isinstance(error, ConnectionRefusedError) else "reset"
