"""A socket of a simulated host: what asyncio's transports and blocking libraries expect of ``socket.socket``.

Without a time-out set, or with one, a call that has to wait parks its node (or its simulated thread) alone; the world
goes on.
"""

from __future__ import annotations

import io
import socket
import struct
from collections.abc import Iterable
from selectors import EVENT_READ, EVENT_WRITE
from typing import TYPE_CHECKING, Any

from sim.network import Listener
from sim.tcp import Endpoint, nothing

if TYPE_CHECKING:
    from sim.network import Network
    from sim.node import Node

MOST = 256 * 1024


class SimSocket:
    """A TCP socket. Options may be set; all but ``SO_LINGER`` are ignored: no Nagle is here, and no keep-alive."""

    family = socket.AF_INET
    type = socket.SOCK_STREAM
    proto = socket.IPPROTO_TCP

    def __init__(self, node: Node, network: Network, end: Endpoint | None = None) -> None:
        self._node = node
        self._network = network
        self._end: Endpoint | None = None
        self._listener: Listener | None = None
        self._bound: tuple[str, int] = (node.name, 0)
        self._timeout: float | None = None
        self._number = network.next_descriptor()
        self._open = True
        self._resets = False
        """Whether closing it sends a reset."""
        node.files[self._number] = self
        if end is not None:
            self._attach(end)

    def __enter__(self) -> SimSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Readiness

    def ready(self) -> int:
        """Which of ``EVENT_READ`` and ``EVENT_WRITE`` are true now."""
        if self._listener is not None:
            return EVENT_READ if self._listener.backlog else 0
        end = self._end
        if end is None:
            return 0
        return (EVENT_READ if end.readable else 0) | (EVENT_WRITE if end.writable else 0)

    def _attach(self, end: Endpoint) -> None:
        self._end = end
        end.changed = self._changed
        self._changed()

    def _changed(self) -> None:
        self._node.touched(self._number)

    def _wait(self, event: int, what: str) -> None:
        """Returns when the event is there; else raises what a socket with this time-out raises."""
        if self.ready() & event:
            return
        if self._timeout == 0:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        if not self._node.park(lambda: bool(self.ready() & event), self._timeout, what):
            raise TimeoutError("timed out")

    # Descriptor and options

    def fileno(self) -> int:
        return self._number if self._open else -1

    def setblocking(self, flag: bool) -> None:
        self._timeout = None if flag else 0.0

    def settimeout(self, seconds: float | None) -> None:
        self._timeout = seconds

    def gettimeout(self) -> float | None:
        return self._timeout

    def getblocking(self) -> bool:
        return self._timeout != 0

    def setsockopt(self, level: int, option: int, value: Any, *_: Any) -> None:
        if (level, option) == (socket.SOL_SOCKET, socket.SO_LINGER):
            self._resets = struct.unpack("ii", value) == (1, 0)

    def getsockopt(self, level: int, option: int, _size: int = 0) -> int:
        if (level, option) == (socket.SOL_SOCKET, socket.SO_ERROR):
            error = self._connected().error
            return 0 if error is None else int(error.errno or 0)
        return 0

    def getsockname(self) -> tuple[str, int]:
        return self._bound if self._end is None else self._end.address

    def getpeername(self) -> tuple[str, int]:
        return self._connected().peer_address

    # Opening

    def bind(self, address: tuple[str, int]) -> None:
        self._bound = (self._node.name, int(address[1]))

    def listen(self, _backlog: int = 128) -> None:
        if self._listener is None:
            self._listener = self._network.listen(self._node, self._bound[1])
            self._listener.changed = self._changed
            self._bound = (self._node.name, self._listener.port)

    def accept(self) -> tuple[SimSocket, tuple[str, int]]:
        if self._listener is None:
            raise OSError(22, "Invalid argument")
        self._wait(EVENT_READ, f"accept on {self._bound[1]}")
        end = self._listener.backlog.popleft()
        return SimSocket(self._node, self._network, end), end.peer_address

    def connect(self, address: tuple[str, int]) -> None:
        host, port = address[0], int(address[1])
        if self._end is None:
            self._attach(self._network.open(self._node, host, port))
            if self._timeout == 0:
                raise BlockingIOError(115, "Operation now in progress")
        self._wait(EVENT_WRITE, f"connect to {host}:{port}")
        error = self._connected().error
        if error is not None:
            raise type(error)(*error.args)

    def connect_ex(self, address: tuple[str, int]) -> int:
        try:
            self.connect(address)
        except OSError as error:
            return int(error.errno or 110)
        return 0

    # Bytes

    def send(self, data: bytes | bytearray | memoryview, _flags: int = 0) -> int:
        end = self._connected()
        self._wait(EVENT_WRITE, f"send to {_place(end)}")
        return end.put(data)

    def sendall(self, data: bytes | bytearray | memoryview, _flags: int = 0) -> None:
        view = memoryview(data).cast("B")
        while view:
            view = view[self.send(view) :]

    def sendmsg(self, buffers: Iterable[bytes | bytearray | memoryview], *_: Any) -> int:
        return self.send(b"".join(buffers))

    def recv(self, size: int, flags: int = 0) -> bytes:
        end = self._connected()
        self._wait(EVENT_READ, f"an answer of {_place(end)}")
        return end.take(min(size, MOST), keep=bool(flags & socket.MSG_PEEK))

    def recv_into(self, buffer: Any, size: int = 0, flags: int = 0) -> int:
        view = memoryview(buffer).cast("B")
        data = self.recv(min(size or len(view), len(view)), flags)
        view[: len(data)] = data
        return len(data)

    def makefile(self, mode: str = "r", buffering: int | None = None, **_: Any) -> io.BufferedIOBase:
        """Binary files only, as HTTP libraries want them."""
        if "b" not in mode:
            raise NotImplementedError("a simulated socket has binary files only")
        raw = _RawFile(self)
        size = io.DEFAULT_BUFFER_SIZE if buffering in (None, -1) else int(buffering or 1)
        return io.BufferedWriter(raw, size) if "w" in mode else io.BufferedReader(raw, size)

    # Ending

    def shutdown(self, how: int) -> None:
        end = self._connected()
        if how in (socket.SHUT_WR, socket.SHUT_RDWR):
            end.finish()
        if how in (socket.SHUT_RD, socket.SHUT_RDWR):
            end.eof_arrived = True
            self._changed()

    def close(self) -> None:
        if not self._open:
            return
        self._open = False
        self._node.files.pop(self._number, None)
        if self._listener is not None:
            self._listener.changed = nothing
            self._network.stop_listening(self._listener)
        if self._end is not None:
            if self._resets:
                self._end.reset()
            self._end.close()

    def detach(self) -> int:
        raise NotImplementedError("the descriptor of a simulated socket means nothing to the system")

    def _connected(self) -> Endpoint:
        if not self._open:
            raise OSError(9, "Bad file descriptor")
        if self._end is None:
            raise OSError(107, "Transport endpoint is not connected")
        return self._end


class _RawFile(io.RawIOBase):
    def __init__(self, sock: SimSocket) -> None:
        self._sock = sock

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._sock.recv_into(buffer)

    def write(self, data: Any) -> int:
        self._sock.sendall(data)
        return len(data)


def _place(end: Endpoint) -> str:
    return f"{end.peer_host}:{end.peer_address[1]}"
