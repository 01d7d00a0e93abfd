"""One raw websocket of the load: bytes in, Engine.IO packets out."""

from __future__ import annotations

import base64
import os
import socket
import zlib
from collections.abc import Iterator

from sim.processes.process import LOOPBACK

_OFFER = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
_TAIL = b"\x00\x00\xff\xff"
_CLOSE, _PING = 8, 9
_READ = 1 << 16


class LoadError(Exception):
    """A server refused, closed, or sent what it should not have."""


class Connection:
    """``deflate``: offer permessage-deflate, as every browser does. ``auth``: what CONNECT carries, as JSON."""

    __slots__ = (
        "_buffer",
        "_fresh",
        "_inflater",
        "_open",
        "at",
        "auth",
        "connected",
        "extra",
        "listed",
        "socket",
    )

    def __init__(self, port: int, *, deflate: bool, auth: bytes) -> None:
        self.auth = auth
        self.connected = False
        self.at = 0
        """How much of what is awaited has come; the swarm's."""
        self.extra = 0
        """Bytes of packets that were no answers to the load."""
        self.listed = 0
        """How many users the last list named that it was told."""
        self._buffer = b""
        self._open = False
        self._fresh = False
        self._inflater: zlib._Decompress | None = None
        self.socket = socket.socket()
        try:
            self.socket.connect((LOOPBACK, port))
            self.socket.setblocking(False)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.socket.send(_request(port, deflate))
        except BaseException:
            self.socket.close()
            raise

    def read(self) -> bytes:
        """What has come; raises ``LoadError`` if the server closed."""
        try:
            data = self.socket.recv(_READ)
        except ConnectionResetError:
            data = b""
        if not data:
            raise LoadError("the server closed a connection")
        return data

    def send(self, packet: bytes) -> None:
        """One packet, as a masked text frame (the mask is zero: it costs the server what any mask costs)."""
        self._send(0x81, packet)

    @property
    def whole(self) -> bool:
        """Whether no part of a frame is waiting for the rest of it."""
        return not self._buffer

    def push_back(self, data: bytes) -> None:
        """Puts the beginning of a frame, taken before, in front of what comes next."""
        self._buffer = data

    def rest(self) -> bytes:
        """The beginning of a frame that ``packets`` is left with."""
        return self._buffer

    def packets(self, data: bytes) -> Iterator[bytes]:
        """The packets that are complete with ``data``. Answers the pings of the websocket and of Engine.IO."""
        self._buffer += data
        if not self._open and not self._opened():
            return
        while (found := self._frame()) is not None:
            first, payload = found
            opcode = first & 0x0F
            if first & 0x40:
                payload = self._inflated(payload)
            if opcode == _CLOSE:
                raise LoadError(f"the server closed a connection: {payload!r}")
            if opcode == _PING:
                self._send(0x8A, payload)
            elif payload == b"2":
                self.send(b"3")
            else:
                yield payload

    def close(self) -> None:
        self.socket.close()

    def _opened(self) -> bool:
        head, end, rest = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return False
        if not head.startswith(b"HTTP/1.1 101"):
            raise LoadError(f"the server refused a websocket: {head[:200]!r}")
        extensions = head.lower()
        if b"permessage-deflate" in extensions:
            self._inflater = zlib.decompressobj(-15)
            self._fresh = b"server_no_context_takeover" in extensions
        self._open, self._buffer = True, rest
        return True

    def _frame(self) -> tuple[int, bytes] | None:
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        length, body = buffer[1], 2
        if length >= 126:
            body = 4 if length == 126 else 10
            if len(buffer) < body:
                return None
            length = int.from_bytes(buffer[2:body], "big")
        if len(buffer) < body + length:
            return None
        self._buffer = buffer[body + length :]
        return buffer[0], buffer[body : body + length]

    def _inflated(self, payload: bytes) -> bytes:
        if self._fresh or self._inflater is None:
            self._inflater = zlib.decompressobj(-15)
        return self._inflater.decompress(payload + _TAIL)

    def _send(self, first: int, payload: bytes) -> None:
        length = len(payload)
        size = bytes((0x80 | length,)) if length < 126 else b"\xfe" + length.to_bytes(2, "big")
        try:
            self.socket.send(bytes((first,)) + size + b"\0\0\0\0" + payload)
        except ConnectionError as error:
            raise LoadError("the server closed a connection") from error


def _request(port: int, deflate: bool) -> bytes:
    key = base64.b64encode(os.urandom(16)).decode()
    return (
        "GET /ws/socket.io/?EIO=4&transport=websocket HTTP/1.1\r\n"
        f"Host: {LOOPBACK}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n{_OFFER if deflate else ''}\r\n"
    ).encode()
