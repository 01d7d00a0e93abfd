"""The least of an HTTP/1.1 client over a gevent socket: one connection, kept alive, one request at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from gevent import socket, ssl

from loadtests._errors import CannotConnect, Disconnected, LoadError, ProtocolBroken

CHUNK = 65536
MAX_HEAD_BYTES = 65536


@dataclass(frozen=True, slots=True)
class Target:
    """Where an instance is reached: `http://HOST:PORT` taken apart."""

    url: str
    host: str
    port: int
    secure: bool

    @property
    def authority(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_target(url: str) -> Target:
    """Raises `CannotConnect` for what is no http or https address."""
    parts = urlsplit(url.rstrip("/"))
    try:
        port = parts.port
    except ValueError:
        port = -1
    if parts.scheme not in ("http", "https") or not parts.hostname or port == -1:
        raise CannotConnect(f"{url!r} is no address: give --host http://HOST:PORT")
    secure = parts.scheme == "https"
    return Target(url.rstrip("/"), parts.hostname, port or (443 if secure else 80), secure)


def open_socket(target: Target, timeout: float) -> Any:
    """A connected socket, TLS included. Raises `CannotConnect`."""
    sock = None
    try:
        sock = socket.create_connection((target.host, target.port), timeout=timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if target.secure:
            sock = ssl.create_default_context().wrap_socket(sock, server_hostname=target.host)
    except socket.gaierror:
        raise CannotConnect(f"{target.url}: there is no such host: check --host") from None
    except ConnectionRefusedError:
        raise CannotConnect(f"{target.url}: nobody listens there: start the server or check --host") from None
    except OSError as error:
        if sock is not None:
            sock.close()
        raise CannotConnect(f"{target.url}: no connection ({error or type(error).__name__})") from None
    return sock


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    headers: dict[str, str]
    body: bytes


class Connection:
    """One kept-alive connection; `send` a request, then `read` its response."""

    def __init__(self, target: Target, timeout: float) -> None:
        self.target = target
        self._timeout = timeout
        self.sock = open_socket(target, timeout)
        self._buffer = b""

    def send(self, request: bytes) -> None:
        """Raises `Disconnected`."""
        try:
            self.sock.settimeout(self._timeout)
            self.sock.sendall(request)
        except OSError as error:
            raise self._lost(error) from None

    def wait(self, timeout: float) -> bool:
        """Whether a response begins to arrive within `timeout` seconds. Raises `Disconnected`."""
        if self._buffer:
            return True
        try:
            self.sock.settimeout(max(timeout, 0.0001))
            self._buffer = self.sock.recv(CHUNK)
        except TimeoutError:
            return False
        except OSError as error:
            raise self._lost(error) from None
        if not self._buffer:
            raise self._lost(None)
        return True

    def read(self) -> Response:
        """The response, whole. Raises `Disconnected`, `ProtocolBroken`."""
        self.sock.settimeout(self._timeout)
        end = self._buffer.find(b"\r\n\r\n")
        while end < 0:
            if len(self._buffer) > MAX_HEAD_BYTES:
                raise ProtocolBroken(f"{self.target.url}: no end of the HTTP head")
            self._more()
            end = self._buffer.find(b"\r\n\r\n")
        status, headers = parse_head(self._buffer[:end], self.target.url)
        self._buffer = self._buffer[end + 4 :]
        if status == 101:
            return Response(status, headers, b"")
        try:
            body = (
                self._chunks()
                if "chunked" in headers.get("transfer-encoding", "")
                else self._exactly(int(headers.get("content-length", "0")))
            )
        except ValueError:
            raise ProtocolBroken(f"{self.target.url}: an HTTP length that is no number") from None
        if headers.get("connection", "").lower() == "close":
            self.close()
        return Response(status, headers, body)

    def rest(self) -> bytes:
        """What came after the response: the first frames after an upgrade."""
        rest, self._buffer = self._buffer, b""
        return rest

    @property
    def closed(self) -> bool:
        return bool(self.sock.closed)

    def close(self) -> None:
        self.sock.close()

    def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._more()
        body, self._buffer = self._buffer[:size], self._buffer[size:]
        return body

    def _chunks(self) -> bytes:
        parts: list[bytes] = []
        while True:
            while (end := self._buffer.find(b"\r\n")) < 0:
                self._more()
            size = int(self._buffer[:end].partition(b";")[0], 16)
            self._buffer = self._buffer[end + 2 :]
            part = self._exactly(size + 2)[:-2]
            if not size:
                return b"".join(parts)
            parts.append(part)

    def _more(self) -> None:
        try:
            data = self.sock.recv(CHUNK)
        except OSError as error:
            raise self._lost(error) from None
        if not data:
            raise self._lost(None)
        self._buffer += data

    def _lost(self, error: OSError | None) -> LoadError:
        return lost(self.target, error)


def lost(target: Target, error: OSError | None) -> Disconnected:
    """The line for a connection that ended: the same for every user, so that it is said once."""
    if isinstance(error, TimeoutError):
        return Disconnected(f"{target.url}: the server did not answer in time")
    return Disconnected(f"{target.url}: the server closed the connection without a word: was it killed?")


def parse_head(head: bytes, url: str) -> tuple[int, dict[str, str]]:
    lines = head.decode("latin-1").split("\r\n")
    version, _, rest = lines[0].partition(" ")
    if not version.startswith("HTTP/1.") or not rest[:3].isdigit():
        raise CannotConnect(f"{url}: what answers there does not speak HTTP: check --host")
    headers = {}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    return int(rest[:3]), headers
