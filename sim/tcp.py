"""The kernel's side of a connection: buffers, a window, retransmission, half-close and reset.

A process sees an ``Endpoint`` through its socket. Nothing here runs inside a node: bytes arrive and are sent on while
the node's process stands still, as a kernel does it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sim.network import Network
    from sim.node import Node
    from sim.schedule import Message

SEND_BUFFER = 64 * 1024
"""Bytes that a process may write before the kernel takes no more; they wait here while the window is full."""

WINDOW = 128 * 1024
"""Bytes that may be on the way, or unread at the receiver."""

RETRY_SECONDS = 0.2
OPEN_RETRY_SECONDS = 1.0
LONGEST_RETRY_SECONDS = 120.0
RETRIES = 15
OPEN_RETRIES = 6
"""What is lost is sent again after growing pauses, as on Linux: openings are given up after 127 s, bytes after 925."""


def nothing() -> None:
    """The listener of an endpoint that no process looks at."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """A message on its way, and what it does when it gets there, outside of all nodes."""

    message: Message
    arrive: Callable[[bytes], None]


class Endpoint:
    """One end of a connection. ``changed`` is called when what its process can do with it may have changed."""

    def __init__(
        self, network: Network, node: Node | None, address: tuple[str, int], peer_address: tuple[str, int]
    ) -> None:
        self.number = network.next_number()
        self.node = node
        self.host = address[0]
        self.peer_host = peer_address[0]
        self.address = address
        self.peer_address = peer_address
        self.peer: Endpoint | None = None
        self.changed: Callable[[], None] = nothing
        self.incoming = bytearray()
        self.eof_arrived = False
        self.closed = False
        """By its process; what was written before still goes out."""
        self.error: OSError | None = None
        self.last_arrival = 0.0
        self.lost: deque[Parcel] = deque()
        """What did not get through and will be sent again."""
        self._network = network
        self._outgoing = bytearray()
        self._room = WINDOW
        self._owed = 0
        self._eof_wanted = False
        self._eof_sent = False
        self._reset_sent = False
        self._attempts = 0

    @property
    def connected(self) -> bool:
        return self.peer is not None

    @property
    def readable(self) -> bool:
        return bool(self.incoming) or self.eof_arrived or self.error is not None

    @property
    def writable(self) -> bool:
        return self.error is not None or (self.connected and len(self._outgoing) < SEND_BUFFER)

    @property
    def finished(self) -> bool:
        """Whether nothing will be sent any more, and nobody is there to read."""
        return self.closed and (self._eof_sent or self._reset_sent or self.error is not None)

    # Asked by the process' socket

    def put(self, data: bytes | bytearray | memoryview) -> int:
        """Takes bytes to send; how many, 0 when the buffer is full. Raises ``OSError`` as ``send`` does."""
        if self.error is not None:
            raise _again(self.error)
        if self._eof_wanted:
            raise BrokenPipeError(32, "Broken pipe")
        taken = bytes(data[: SEND_BUFFER - len(self._outgoing)])
        if taken:
            self._outgoing += taken
            self._wrote()
        return len(taken)

    def take(self, most: int, *, keep: bool = False) -> bytes:
        """What arrived, b"" at the end. Raises ``OSError`` after a reset. Only when ``readable``."""
        if self.incoming:
            data = bytes(self.incoming[:most])
            if not keep:
                del self.incoming[:most]
                self._owed += len(data)
                if self._owed >= WINDOW // 4:
                    self._open_window()
            return data
        if self.error is not None:
            raise _again(self.error)
        return b""

    def finish(self) -> None:
        """Half-close: everything written still goes out, then the end."""
        if self.connected and not self._eof_wanted and self.error is None:
            self._eof_wanted = True
            self._wrote()

    def close(self) -> None:
        """The process is done with it: what it wrote still goes out, unless there were bytes it did not read."""
        if self.closed:
            return
        self.closed = True
        self.changed = nothing
        if self.incoming and not self.eof_arrived:
            self.reset()
        else:
            self.finish()
        if self.finished or not self.connected:
            self._network.forget(self)

    def reset(self) -> None:
        """Tells the other end, once, that this connection is no more."""
        self._outgoing.clear()
        self.lost.clear()
        if not self._reset_sent and self.peer is not None and self.error is None:
            self._reset_sent = True
            peer = self.peer
            self._network.send(self, "reset", b"", lambda _data: peer.reset_arrived())
        self._network.forget(self)

    def reset_lost(self) -> None:
        """A reset is not sent again by itself, but whatever arrives here later is answered by another."""
        self._reset_sent = False

    def flush(self) -> None:
        """Sends what the window takes. At the end of a turn of the node: what it wrote in one turn is one message."""
        peer = self.peer
        if peer is None or self._reset_sent:
            return
        while self._outgoing and self._room:
            data = bytes(self._outgoing[: self._room])
            full = len(self._outgoing) >= SEND_BUFFER
            del self._outgoing[: len(data)]
            self._room -= len(data)
            self._network.send(self, "data", data, peer.data_arrived)
            if full:
                self.changed()
        if self._eof_wanted and not self._eof_sent and not self._outgoing:
            self._eof_sent = True
            self._network.send(self, "eof", b"", lambda _data: peer.eof_arrived_here())
            if self.finished:
                self._network.forget(self)

    def _wrote(self) -> None:
        if self.node is not None:
            self.node.wrote(self)

    # What arrives

    def opened(self, peer: Endpoint) -> None:
        self.peer = peer
        if self._gone:
            self.reset()
        else:
            self.changed()

    def data_arrived(self, data: bytes) -> None:
        if self._gone:
            self.reset()
        else:
            self.incoming += data
            self.changed()

    def eof_arrived_here(self) -> None:
        if self.closed and self.error is None:
            return
        self.eof_arrived = True
        self.changed()

    def reset_arrived(self) -> None:
        self.fail(ConnectionResetError(104, "Connection reset by peer"))

    def fail(self, error: OSError) -> None:
        """The connection is over for this end, and its process will be told ``error``."""
        if self.error is None:
            self.error = error
            self._outgoing.clear()
            self.lost.clear()
            self._network.forget(self)
            self.changed()

    @property
    def _gone(self) -> bool:
        return self.closed or self.error is not None or (self.node is not None and not self.node.alive)

    def _open_window(self) -> None:
        peer, owed = self.peer, self._owed
        self._owed = 0
        if peer is not None:
            self._network.tell_window(self, lambda: peer._grow(owed))

    def _grow(self, size: int) -> None:
        self._room += size
        self.flush()

    # What is lost

    def keep(self, parcel: Parcel) -> None:
        """The parcel did not get through, or one before it did not: it follows when that one has."""
        self.lost.append(parcel)
        if len(self.lost) == 1:
            self._attempts = 0
            self._plan_retry()

    def _plan_retry(self) -> None:
        first = RETRY_SECONDS if self.connected else OPEN_RETRY_SECONDS
        pause = min(first * 2**self._attempts, LONGEST_RETRY_SECONDS)
        self._network.world.later(pause, self._retry)

    def _retry(self) -> None:
        if not self.lost:
            return
        if self.node is not None and self.node.silent:
            self.lost.clear()
            return
        if self._network.reachable(self):
            parcels = list(self.lost)
            self.lost.clear()
            for parcel in parcels:
                self._network.arrive(self, parcel)
            return
        self._attempts += 1
        if self._attempts > (RETRIES if self.connected else OPEN_RETRIES):
            self.fail(TimeoutError(110, "Connection timed out"))
        else:
            self._plan_retry()


def _again(error: OSError) -> OSError:
    """A fresh one: raising the same exception twice would join their tracebacks."""
    return type(error)(*error.args)
