"""The fast path of a websocket: under our own uvicorn protocol class a session writes frames and reads messages itself.

`DirectProtocol` offers itself through the ASGI scope's extensions. A session that takes it over (`line.py`) is read
and written without a task, a queue or an ASGI message in between, and the ASGI call returns, so that its scope, its
request and the frames of every middleware are let go while the connection stays.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidState
from websockets.frames import Frame

from .line import Flush, Line, Session

EXTENSION = "realtime.direct"
"""Where the scope's extensions hold the protocol object."""
_INVALID_TEXT = 1007

logger = logging.getLogger("realtime.websocket")


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
            self.logger.info(
                "Closing a websocket that sent text which is not UTF-8.",
                extra=self.line.about() if self.line is not None else None,
            )
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


def offered(environ: Mapping[str, Any]) -> DirectProtocol | None:
    """The protocol object, if this request came by it and nothing in between wants to see what the client sends."""
    found = (environ["asgi.scope"].get("extensions") or {}).get(EXTENSION)
    return found if getattr(environ["asgi.receive"], "__self__", None) is found else None
