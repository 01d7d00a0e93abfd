"""Engine.IO 4 by websocket, by long-polling, and by polling that changes to websocket, each in one greenlet."""

from __future__ import annotations

import base64
import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from loadtests import _clock
from loadtests._errors import CannotConnect, Disconnected, LoadError, ProtocolBroken
from loadtests._frames import BINARY, CLOSE, PING, PONG, TEXT, FrameReader, encode_frame
from loadtests._http import CHUNK, Connection, Response, Target, lost
from loadtests._packets import Packet, join_payload, loads, split_payload

PATH = "/ws/socket.io/"
POST_IDLE_SECONDS = 2.0
"""A connection for POSTs that rested longer is made anew: servers close idle ones, often after 5 s."""
_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


@dataclass(frozen=True, slots=True)
class Handshake:
    """What the server says first. Times in seconds."""

    sid: str
    ping_interval: float
    ping_timeout: float
    upgrades: tuple[str, ...]


@dataclass(slots=True)
class Steps:
    """When the steps of opening were done, in Unix seconds."""

    began: float = 0.0
    http: float = 0.0
    opened: float = 0.0


class Transport(ABC):
    """One way to carry packets. Not for two greenlets at once."""

    name: str

    def __init__(self, target: Target, timeout: float) -> None:
        self.target = target
        self.timeout = timeout
        self.steps = Steps()

    @abstractmethod
    def open(self) -> Handshake:
        """Connects. Raises `CannotConnect`, `Disconnected`."""

    @abstractmethod
    def send(self, packets: Sequence[Packet]) -> None:
        """Raises `Disconnected`."""

    @abstractmethod
    def receive(self, timeout: float) -> list[Packet]:
        """What has come, or comes within `timeout` seconds; maybe nothing. Raises `Disconnected`."""

    @abstractmethod
    def close(self) -> None:
        """Ends the connection at once; harmless when repeated."""


class WebsocketTransport(Transport):
    """Packets as websocket messages."""

    name = "websocket"

    def __init__(self, target: Target, timeout: float) -> None:
        super().__init__(target, timeout)
        self._sock: Any = None
        self._frames = FrameReader()
        self._early: list[Packet] = []

    def open(self) -> Handshake:
        self.steps.began = _clock.now()
        self.connect()
        self.steps.http = _clock.now()
        deadline = self.steps.http + self.timeout
        while not (packets := self.receive(deadline - _clock.now())):
            if _clock.now() > deadline:
                raise CannotConnect(f"{self.target.url}: no Engine.IO open packet in time")
        self.steps.opened = _clock.now()
        self._early = packets[1:]
        return read_handshake(packets[0], self.target)

    def connect(self, sid: str = "") -> None:
        """The HTTP upgrade; with `sid` for a session that polls so far."""
        connection = Connection(self.target, self.timeout)
        key = base64.b64encode(os.urandom(16)).decode()
        query = "EIO=4&transport=websocket" + (f"&sid={sid}" if sid else "")
        try:
            connection.send(
                f"GET {PATH}?{query} HTTP/1.1\r\nHost: {self.target.authority}\r\nUpgrade: websocket\r\n"
                f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
            )
            response = connection.read()
            accept = base64.b64encode(hashlib.sha1((key + _GUID).encode()).digest()).decode()
            if response.status != 101 or response.headers.get("sec-websocket-accept") != accept:
                raise unexpected(self.target, response)
        except BaseException:
            connection.close()
            raise
        self._sock = connection.sock
        self._early = self._packets(connection.rest())

    def send(self, packets: Sequence[Packet]) -> None:
        self._write(
            b"".join(
                [
                    encode_frame(TEXT, packet.encode())
                    if isinstance(packet, str)
                    else encode_frame(BINARY, packet)
                    for packet in packets
                ]
            )
        )

    def receive(self, timeout: float) -> list[Packet]:
        if self._early:
            early, self._early = self._early, []
            return early
        sock = self._sock
        if sock is None:
            raise lost(self.target, None)
        try:
            sock.settimeout(timeout if timeout > 0.0001 else 0.0001)
            data = sock.recv(CHUNK)
        except TimeoutError:
            return []
        except OSError as error:
            raise lost(self.target, error) from None
        if not data:
            raise lost(self.target, None)
        return self._packets(data)

    def close(self) -> None:
        sock, self._sock = self._sock, None
        if sock is None:
            return
        try:
            sock.settimeout(self.timeout)
            sock.sendall(encode_frame(CLOSE, b"\x03\xe8"))
        except OSError:
            pass
        sock.close()

    def _packets(self, data: bytes) -> list[Packet]:
        packets: list[Packet] = []
        for opcode, payload in self._frames.feed(data):
            if opcode == TEXT:
                packets.append(payload.decode())
            elif opcode == BINARY:
                packets.append(payload)
            elif opcode == PING:
                self._write(encode_frame(PONG, payload))
            elif opcode == CLOSE:
                # What came before the close is delivered first; a packet of type close says the rest.
                packets.append("1")
        return packets

    def _write(self, data: bytes) -> None:
        if self._sock is None:
            raise lost(self.target, None)
        try:
            self._sock.settimeout(self.timeout)
            self._sock.sendall(data)
        except OSError as error:
            raise lost(self.target, error) from None


class PollingTransport(Transport):
    """A GET that always waits, and POSTs on a second connection whose answers are read when they are there."""

    name = "polling"

    def __init__(self, target: Target, timeout: float) -> None:
        super().__init__(target, timeout)
        self._get: Connection | None = None
        self._post: Connection | None = None
        self._polling = False
        self._posting = False
        self._posted_at = 0.0
        self._sid = ""
        self._get_head = self._post_head = b""

    def open(self) -> Handshake:
        self.steps.began = _clock.now()
        self._get = Connection(self.target, self.timeout)
        self.steps.http = _clock.now()
        host = f"Host: {self.target.authority}\r\n"
        self._get.send(f"GET {PATH}?EIO=4&transport=polling HTTP/1.1\r\n{host}\r\n".encode())
        packets = self._read(self._get)
        self.steps.opened = _clock.now()
        if not packets:
            raise CannotConnect(f"{self.target.url}: no Engine.IO open packet")
        handshake = read_handshake(packets[0], self.target)
        self._sid = handshake.sid
        query = f"{PATH}?EIO=4&transport=polling&sid={handshake.sid}"
        self._get_head = f"GET {query} HTTP/1.1\r\n{host}\r\n".encode()
        kind = "Content-Type: text/plain;charset=UTF-8"
        self._post_head = f"POST {query} HTTP/1.1\r\n{host}{kind}\r\nContent-Length: ".encode()
        return handshake

    def send(self, packets: Sequence[Packet]) -> None:
        self._finish_post()
        post = self._post
        if post is None or post.closed or _clock.now() - self._posted_at > POST_IDLE_SECONDS:
            if post is not None:
                post.close()
            try:
                post = self._post = Connection(self.target, self.timeout)
            except CannotConnect as error:
                raise Disconnected(str(error)) from None
        body = join_payload(packets).encode()
        post.send(b"%s%d\r\n\r\n%s" % (self._post_head, len(body), body))
        self._posting, self._posted_at = True, _clock.now()

    def receive(self, timeout: float) -> list[Packet]:
        get = self._get
        if get is None:
            raise lost(self.target, None)
        if not self._polling:
            self.poll()
        if not get.wait(timeout):
            return []
        self._polling = False
        return self._read(get)

    def poll(self) -> None:
        """Sends the GET that waits, unless it does already."""
        if self._get is None:
            raise lost(self.target, None)
        if not self._polling:
            if self._get.closed:
                self._get = Connection(self.target, self.timeout)
            self._get.send(self._get_head)
            self._polling = True

    def flush(self) -> list[Packet]:
        """The answer of the waiting GET: the last one before the change to websocket."""
        self._finish_post()
        packets = self.receive(self.timeout)
        if not packets:
            raise Disconnected(f"{self.target.url}: the poll did not end for the upgrade")
        return packets

    def close(self) -> None:
        get, post = self._get, self._post
        self._get = self._post = None
        for connection in (get, post):
            if connection is not None:
                connection.close()

    def _finish_post(self) -> None:
        if not self._posting or self._post is None:
            return
        self._posting = False
        response = self._post.read()
        if response.status != 200:
            raise unexpected(self.target, response)

    def _read(self, connection: Connection) -> list[Packet]:
        response = connection.read()
        if response.status != 200:
            raise unexpected(self.target, response)
        try:
            return split_payload(response.body.decode())
        except UnicodeDecodeError:
            raise ProtocolBroken(f"{self.target.url}: a payload that is not UTF-8") from None


class UpgradeTransport(Transport):
    """Polling first; `upgrade` changes to websocket as browsers do."""

    name = "upgrade"

    def __init__(self, target: Target, timeout: float) -> None:
        super().__init__(target, timeout)
        self._polling = PollingTransport(target, timeout)
        self._current: Transport = self._polling
        self._early: list[Packet] = []
        self._sid = ""

    def open(self) -> Handshake:
        handshake = self._polling.open()
        self.steps = self._polling.steps
        self._sid = handshake.sid
        if "websocket" not in handshake.upgrades:
            raise CannotConnect(f"{self.target.url}: the server offers no upgrade to websocket")
        return handshake

    def upgrade(self) -> None:
        """Probe by websocket while a poll waits, let the poll end, change over. Raises `LoadError`s."""
        self._polling.poll()
        websocket = WebsocketTransport(self.target, self.timeout)
        try:
            websocket.connect(self._sid)
            websocket.send(["2probe"])
            deadline = _clock.now() + self.timeout
            answer: list[Packet] = []
            while not answer and _clock.now() < deadline:
                answer = websocket.receive(deadline - _clock.now())
            if answer != ["3probe"]:
                raise CannotConnect(f"{self.target.url}: the probe by websocket was not answered")
            self._early = [packet for packet in self._polling.flush() if packet != "6"]
            websocket.send(["5"])
        except BaseException:
            websocket.close()
            raise
        self._polling.close()
        self._current = websocket

    def send(self, packets: Sequence[Packet]) -> None:
        self._current.send(packets)

    def receive(self, timeout: float) -> list[Packet]:
        if self._early:
            early, self._early = self._early, []
            return early
        return self._current.receive(timeout)

    def close(self) -> None:
        self._current.close()
        self._polling.close()


TRANSPORTS: dict[str, type[Transport]] = {
    each.name: each for each in (WebsocketTransport, PollingTransport, UpgradeTransport)
}


def read_handshake(packet: Packet, target: Target) -> Handshake:
    """Raises `CannotConnect` when that is no open packet."""
    if not isinstance(packet, str) or packet[:1] != "0":
        raise CannotConnect(f"{target.url}: what answers there is no Engine.IO server")
    fields = loads(packet[1:])
    try:
        return Handshake(
            sid=fields["sid"],
            ping_interval=fields["pingInterval"] / 1000,
            ping_timeout=fields["pingTimeout"] / 1000,
            upgrades=tuple(fields["upgrades"]),
        )
    except (KeyError, TypeError):
        raise CannotConnect(f"{target.url}: an Engine.IO open packet without its fields") from None


def unexpected(target: Target, response: Response) -> LoadError:
    """The line for an HTTP status that is not the protocol's."""
    said = " ".join(response.body.decode(errors="replace").split())[:120]
    if response.status == 404:
        return CannotConnect(f"{target.url}{PATH}: not found: is this the right server? check --host")
    return Disconnected(f"{target.url}: HTTP {response.status} {said}".rstrip())
