"""The fast path of a websocket: under our own uvicorn protocol class a session writes frames and reads messages itself.

`DirectProtocol` offers itself through the ASGI scope's extensions. A session that takes it over (`Line`) is read
and written without a task, a queue or an ASGI message in between, and the ASGI call returns, so that its scope, its
request and the frames of every middleware are let go while the connection stays.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Collection, Mapping
from typing import Any, Protocol

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidState
from websockets.frames import Frame

EXTENSION = "realtime.direct"
"""Where the scope's extensions hold the protocol object."""
CHUNK = 65_536
"""Bytes that wait for the end of a turn; with more, what is there is written at once."""
_INVALID_TEXT = 1007
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
            logger.error("A websocket could not be written: %r", error, exc_info=error)
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

    def _end(self) -> None:
        self._closed = True
        self._open = False


class DirectProtocol(WebSocketsSansIOProtocol):
    """uvicorn's websocket protocol, whose connection an application may take over.

    Its log is `realtime.websocket`: three lines for every client are an access log, which is off here.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.logger = self.conn.logger = logger
        self.line: Line | None = None

    async def run_asgi(self) -> None:
        """Replaces WebSocketsSansIOProtocol.run_asgi, which closes the connection when the application returns: not
        one that was taken over.
        """
        extensions: dict[str, Any] = self.scope["extensions"]
        extensions[EXTENSION] = self
        try:
            await self.app(self.scope, self.receive, self.send)
        except ClientDisconnected:
            pass
        except BaseException:
            self.logger.exception("Exception in ASGI application\n")
            self.send_500_response()
        else:
            if not self.handshake_complete:
                self.logger.error("ASGI callable returned without completing handshake.")
                self.send_500_response()
        if self.line is not None:
            self._let_go()
        elif self.close_timer is None:
            self.transport.close()

    async def send(self, message: Any) -> None:
        """Adds to WebSocketsSansIOProtocol.send: a refusal is an answer to the handshake, where stock logs an error."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and self.close_sent:
            self.handshake_complete = True

    def take_over(self, session: Session, flush: Flush, *, most: int) -> Line:
        """From now on messages go to the session and frames come from the line; what came already goes to it first.

        To be called after the handshake, and by the application itself, which then returns.
        """
        came, line = self.queue, Line(self, session, flush, most=most)
        self.line = line
        self.queue = line  # type: ignore[assignment]
        while not came.empty():
            line.put_nowait(came.get_nowait())
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        return line

    def begin_close(self, code: int, reason: str) -> bytes:
        """The frame that closes the connection, which ends when the client answers it, or after `close_timeout`."""
        try:
            self.conn.send_close(code, reason)
        except InvalidState:
            return b""
        self.close_sent = True
        self.close_timer = self.loop.call_later(self.close_timeout, self.transport.close)
        return b"".join(self.conn.data_to_send())

    def send_receive_event_to_app(self) -> None:
        """Replaces WebSocketsSansIOProtocol.send_receive_event_to_app, which logs a traceback for text that is not
        UTF-8, fails where a close frame comes with it, and stops reading after each message.
        """
        data = self.frames[0] if len(self.frames) == 1 else b"".join(self.frames)
        self.frames = []
        if self.close_sent:
            return
        kind = self.curr_msg_data_type
        try:
            message = data.decode() if kind == "text" else data
        except UnicodeDecodeError:
            self.logger.info("Closing a websocket that sent text which is not UTF-8.")
            self.conn.fail(_INVALID_TEXT, "invalid UTF-8")
            self.handle_parser_exception()
            return
        if self.line is None:
            self.frames = [data]
            super().send_receive_event_to_app()
        else:
            self.line.put_nowait({"type": "websocket.receive", kind: message})

    def handle_cont(self, event: Frame) -> None:
        """Adds to WebSocketsSansIOProtocol.handle_cont: fragments count as packets do, of which there may be any
        number.
        """
        super().handle_cont(event)
        self._count()

    def handle_ping(self) -> None:
        """Adds to WebSocketsSansIOProtocol.handle_ping: pings count as packets do."""
        super().handle_ping()
        self._count()

    def handle_pong(self, event: Frame) -> None:
        """Adds to WebSocketsSansIOProtocol.handle_pong: so do pongs, which nobody asked for."""
        super().handle_pong(event)
        self._count()

    def _count(self) -> None:
        if self.line is not None:
            self.line.counted()

    def pause_writing(self) -> None:
        """Adds to WebSocketsSansIOProtocol.pause_writing: what is sent from now on waits in the line."""
        super().pause_writing()
        if self.line is not None:
            self.line.pause()

    def resume_writing(self) -> None:
        """Adds to WebSocketsSansIOProtocol.resume_writing: what waited goes on."""
        super().resume_writing()
        if self.line is not None:
            self.line.resume()

    def _let_go(self) -> None:
        # What the handshake needed; the call that used it has returned.
        del self.scope, self.request, self.response


def _is_tls(transport: Any) -> bool:
    return transport.get_extra_info("sslcontext") is not None


def _descriptor(transport: Any) -> int | None:
    """What may be written to instead of the transport, if what is written there leaves as it is."""
    if _is_tls(transport):
        return None
    connection = transport.get_extra_info("socket")
    return None if connection is None else int(connection.fileno())


def offered(environ: Mapping[str, Any]) -> DirectProtocol | None:
    """The protocol object, if this request came by it and nothing in between wants to see what the client sends."""
    found = (environ["asgi.scope"].get("extensions") or {}).get(EXTENSION)
    return found if getattr(environ["asgi.receive"], "__self__", None) is found else None
