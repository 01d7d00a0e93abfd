"""What is sent to websockets that sessions have taken over: gathered in a turn of the loop, written at its end."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from .direct import DirectProtocol

CHUNK = 65_536
"""Bytes that wait for the end of a turn; with more, what is there is written at once."""
_write = os.write

logger = logging.getLogger("realtime.websocket")


class Session(Protocol):
    """Who takes a websocket over."""

    def came(self, data: str | bytes) -> None:
        """A message. Never raises."""

    def counted(self) -> None:
        """Something came that is no message: a ping or pong of the websocket's own, or a fragment."""

    def lost(self) -> None:
        """The connection is closed or about to be; nothing more is read or written."""

    def overflowed(self) -> None:
        """More waits for the client than may."""

    def about(self) -> dict[str, str]:
        """Fields of a log line about it."""


class Flush:
    """Writes at the end of a turn of the loop what was sent in it, in order: several messages to a client leave in one
    write, and one message to many clients in as little as a loop of system calls.
    """

    __slots__ = ("_sent", "_size")

    def __init__(self) -> None:
        self._sent: list[tuple[bytes, Collection[Line]]] = []
        self._size = 0

    def send(self, framed: bytes, lines: Collection[Line]) -> None:
        """The same frames to all of these."""
        if not self._sent:
            asyncio.get_running_loop().call_soon(self.write)
        self._sent.append((framed, lines))
        self._size += len(framed)
        if self._size > CHUNK:
            self.write()

    def write(self) -> None:
        """Write all that was sent so far."""
        sent, self._sent, self._size = self._sent, [], 0
        if len(sent) == 1:
            framed, lines = sent[0]
            slow = [line for line in lines if not line.write(framed)]
        else:
            gathered: dict[Line, list[bytes]] = {}
            for framed, lines in sent:
                for line in lines:
                    gathered.setdefault(line, []).append(framed)
            slow = [line for line, frames in gathered.items() if not line.write(b"".join(frames))]
        # Only now, for whoever is told may send to others.
        for line in slow:
            line.overflowed()


class Line:
    """A websocket that a session has taken over.

    It is written through its descriptor while the transport has nothing to write; what the kernel does not take goes
    to the transport, and from then on it waits here, where it can still be forgotten, until the transport is done.
    """

    __slots__ = (
        "_closed",
        "_descriptor",
        "_flush",
        "_frames",
        "_most",
        "_open",
        "_protocol",
        "_session",
        "_size",
        "_transport",
        "sent",
    )

    def __init__(self, protocol: DirectProtocol, session: Session, flush: Flush, *, most: int) -> None:
        """`most`: bytes that may wait."""
        self._protocol = protocol
        self._transport = protocol.transport
        # `pause` is to be called as soon as something waits there. A plain transport calls it above the limit, one for
        # TLS at the limit: with 0 it would pause for good when nothing waits.
        self._transport.set_write_buffer_limits(high=1 if _is_tls(self._transport) else 0)
        self._descriptor = _descriptor(self._transport)
        self._session = session
        self._flush = flush
        self._most = most
        self._frames: list[bytes] = []
        self._size = 0
        self.sent = 0
        """Bytes that the kernel did not take at once and that were ever kept here or handed to the transport."""
        self._closed = False
        self._open = protocol.writable.is_set()

    # --- out

    def send(self, framed: bytes) -> None:
        """Send frames at the end of this turn, after all that were sent before; on a closed line they go nowhere."""
        self._flush.send(framed, (self,))

    def write(self, framed: bytes) -> bool:
        """Write frames, or keep them; False if too much waits."""
        if self._open:
            # Here is the time that a delivery takes: nothing is looked up or counted but for what is left over. The
            # transport closes its descriptor only after `connection_lost`, which has closed this line.
            try:
                done = 0 if self._descriptor is None else _write(self._descriptor, framed)
            except OSError:
                done = 0  # the transport meets the same, and knows what to do
            if done < len(framed):
                self.sent += len(framed) - done
                self._hand_over(framed[done:])
        elif not self._closed:
            self.sent += len(framed)
            self._size += len(framed)
            self._frames.append(framed)
            return self.buffered() <= self._most
        return True

    def _hand_over(self, framed: bytes) -> None:
        try:
            self._transport.write(framed)
        except Exception as error:
            # Whoever sends goes on: what others are to get must not be lost with it.
            logger.error("A websocket could not be written: %r", error, exc_info=error, extra=self.about())
            self.abort()

    def overflowed(self) -> None:
        self._session.overflowed()

    def pause(self) -> None:
        """The connection takes no more for now."""
        self._open = False

    def resume(self) -> None:
        if not self._closed:
            self._open = True
            self._write_kept()

    def _write_kept(self) -> None:
        if self._frames:
            framed = b"".join(self._frames)
            self.drop()
            self._hand_over(framed)

    def buffered(self) -> int:
        """Bytes that the kernel did not take yet."""
        return self._size + self._transport.get_write_buffer_size()

    def drop(self) -> None:
        """Forget what was not handed to the transport."""
        self._frames.clear()
        self._size = 0

    def close(self, code: int, reason: str) -> None:
        """Send a close frame after all that waits; the connection ends when the client has answered it."""
        if not self._closed:
            self._flush.write()
            self._write_kept()
            if frame := self._protocol.begin_close(code, reason):
                self._hand_over(frame)
            self._end()

    def give_up(self) -> None:
        """End the connection at once if something is unwritten."""
        if self.buffered():
            self.abort()

    def abort(self) -> None:
        self._transport.abort()

    # --- in: what uvicorn's protocol takes for its queue of ASGI events

    def put_nowait(self, event: Mapping[str, Any]) -> None:
        if event["type"] == "websocket.receive":
            text = event.get("text")
            self._session.came(event["bytes"] if text is None else text)
        elif event["type"] == "websocket.disconnect":
            self._end()
            self.drop()
            self._session.lost()

    def counted(self) -> None:
        self._session.counted()

    def about(self) -> dict[str, str]:
        return self._session.about()

    def _end(self) -> None:
        self._closed = True
        self._open = False


def _is_tls(transport: Any) -> bool:
    return transport.get_extra_info("sslcontext") is not None


def _descriptor(transport: Any) -> int | None:
    """What may be written to instead of the transport, if what is written there leaves as it is."""
    if _is_tls(transport):
        return None
    connection = transport.get_extra_info("socket")
    return None if connection is None else int(connection.fileno())
