"""One end of a simulated connection, as asyncio's transports behave; and the server object of ``create_server``."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sim.network import Network
    from sim.node import Node

WINDOW = 128 * 1024
"""Bytes that may be on the way or unread at the receiver before the sender's own buffer fills."""

HIGH_WATER = 64 * 1024
_numbers = itertools.count(1)


class End(asyncio.Transport):
    """``write`` collects what one turn writes; at the turn's end it travels as one message."""

    def __init__(
        self,
        network: Network,
        node: Node,
        peer_name: str,
        address: tuple[str, int],
        peer_address: tuple[str, int],
    ) -> None:
        super().__init__(
            {
                "peername": peer_address,
                "sockname": address,
                "socket": None,
                "sslcontext": None,
                "ssl_object": None,
            }
        )
        self.number = next(_numbers)
        self.node = node
        self.peer_name = peer_name
        self.address = address
        self.peer_address = peer_address
        self.peer: End | None = None
        self.last_arrival = 0.0
        self._network = network
        self._protocol: asyncio.Protocol | None = None
        self._outgoing = bytearray()
        self._unread: deque[bytes] = deque()
        self._credit = WINDOW
        self._flush_planned = False
        self._reading = True
        self._writing_paused = False
        self._high, self._low = HIGH_WATER, HIGH_WATER // 4
        self._closing = False
        self._eof_wanted = False
        self._eof_sent = False
        self._eof_arrived = False
        self._eof_told = False
        self._lost = False

    def __hash__(self) -> int:
        return self.number

    # Opening

    def begin(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)
        self._protocol = protocol
        self._network.add(self)
        protocol.connection_made(self)
        self._pump()

    # asyncio's interface

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        assert self._protocol is not None
        return self._protocol

    def is_closing(self) -> bool:
        return self._closing

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        if self._eof_wanted:
            raise RuntimeError("Cannot call write() after write_eof()")
        if not data or self._lost or self._closing:
            return
        self._outgoing += data
        self._plan_flush()
        if len(self._outgoing) > self._high and not self._writing_paused:
            self._writing_paused = True
            self._call("pause_writing")

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview[Any]]) -> None:
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if not self._eof_wanted and not self._closing:
            self._eof_wanted = True
            self._plan_flush()

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        if not self._reading:
            self._reading = True
            self.node.loop.call_soon(self._pump)

    def is_reading(self) -> bool:
        return self._reading and not self._closing

    def get_write_buffer_size(self) -> int:
        return len(self._outgoing)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = HIGH_WATER if high is None else high
        self._low = self._high // 4 if low is None else low

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._plan_flush()

    def abort(self) -> None:
        if not self._lost:
            self._closing = True
            self._outgoing.clear()
            if self.peer is not None:
                self._network.send(self, "reset", b"", self.peer.reset_arrived)
            self.node.loop.call_soon(self._lose, None)

    # Sending

    def _plan_flush(self) -> None:
        if not self._flush_planned:
            self._flush_planned = True
            self.node.loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_planned = False
        if self._lost or self.peer is None:
            return
        size = min(len(self._outgoing), self._credit)
        if size:
            data = bytes(self._outgoing[:size])
            del self._outgoing[:size]
            self._credit -= size
            peer = self.peer
            self._network.send(self, "data", data, lambda: peer.data_arrived(data))
        if self._writing_paused and len(self._outgoing) <= self._low:
            self._writing_paused = False
            self._call("resume_writing")
        if self._outgoing:
            return
        if (self._eof_wanted or self._closing) and not self._eof_sent:
            self._eof_sent = True
            self._network.send(self, "eof", b"", self.peer.eof_arrived)
        if self._closing:
            self.node.loop.call_soon(self._lose, None)

    def _credited(self, size: int) -> None:
        self._credit += size
        self._flush()

    # What arrives, called outside of all nodes

    def data_arrived(self, data: bytes) -> None:
        if self._lost:
            # As a kernel does for a socket that is gone.
            if self.peer is not None and self.node.alive:
                self._network.send(self, "reset", b"", self.peer.reset_arrived)
            return
        self._unread.append(data)
        self.node.deliver(self._pump)

    def eof_arrived(self) -> None:
        self._eof_arrived = True
        self.node.deliver(self._pump)

    def reset_arrived(self) -> None:
        self.node.deliver(self._lose, ConnectionResetError(104, "Connection reset by peer"))

    # Inside the node

    def _pump(self) -> None:
        """Hands over what arrived, one piece a turn like a socket, as long as the protocol reads."""
        if self._protocol is None or self._lost or self._closing or not self._reading:
            return
        if self._unread:
            data = self._unread.popleft()
            peer = self.peer
            if peer is not None:
                self._network.world.later(0.0, lambda: peer.node.deliver(peer._credited, len(data)))
            self._protocol.data_received(data)
            if self._unread or self._eof_arrived:
                self.node.loop.call_soon(self._pump)
        elif self._eof_arrived and not self._eof_told:
            self._eof_told = True
            if not self._protocol.eof_received():
                self.close()

    def _lose(self, error: Exception | None) -> None:
        if self._lost:
            return
        self._lost = self._closing = True
        self._network.remove(self)
        if self._protocol is not None:
            self._protocol.connection_lost(error)

    def _call(self, name: str) -> None:
        if self._protocol is not None:
            try:
                getattr(self._protocol, name)()
            except Exception as error:
                context = {"message": f"protocol.{name}() failed", "exception": error, "transport": self}
                self.node.loop.call_exception_handler(context)


class SimServer:
    """What ``create_server`` returns; ``sockets`` name the address as uvicorn and others like to show it."""

    def __init__(self, host: str, port: int, stop: Callable[[], object]) -> None:
        self.sockets = (_Address(host, port),)
        self._stop: Callable[[], object] | None = stop

    def close(self) -> None:
        if self._stop is not None:
            self._stop()
            self._stop = None

    def is_serving(self) -> bool:
        return self._stop is not None

    async def start_serving(self) -> None:
        return None

    async def wait_closed(self) -> None:
        return None


class _Address:
    def __init__(self, host: str, port: int) -> None:
        self._name = (host, port)

    def getsockname(self) -> tuple[str, int]:
        return self._name
