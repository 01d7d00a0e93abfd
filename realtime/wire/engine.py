"""Engine.IO's server as the layer needs it: which requests it takes, and which sessions it has."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from typing import Any

import engineio  # type: ignore[import-untyped]  # no stubs exist
from engineio import exceptions, packet
from engineio.async_drivers import asgi  # type: ignore[import-untyped]

from realtime.errors import Close
from realtime.tags import new_sid, tag_in

from .heartbeat import Heartbeat
from .limits import Limits
from .line import Flush
from .outgoing import Outgoing
from .packets import SharedPacket
from .requests import ClientLeftError, Flaw, RefusedError, find_flaw, refusal, session_asked_for
from .session import TAKEN, WireSocket
from .websocket import WireWebSocket


class WireEngine(engineio.AsyncServer):  # type: ignore[misc]  # no stubs exist
    """An Engine.IO server made of `WireSocket`s, whose session ids begin with `tag`. `gone` is called at once with
    every session that ends and why, `refuse` with one that is beyond its limits, to close it, `message` with what a
    client sent, `strayed` with the tag of another instance whose session was asked for here; `about` gives the fields
    of a log line about a session. With `direct` sessions read and write their websockets themselves, where the web
    server offers it.
    """

    sockets: dict[str, WireSocket]
    _async: dict[str, Any]

    def __init__(
        self,
        *,
        tag: str,
        gone: Callable[[str, str], None],
        refuse: Callable[[str, Close], None],
        message: Callable[[str, Any], None],
        strayed: Callable[[str], None],
        about: Callable[[str], dict[str, str]],
        limits: Limits,
        direct: bool,
        logger: logging.Logger,
        **options: Any,
    ) -> None:
        # The heartbeat finds who does not answer, where stock has a task that goes through all sessions.
        super().__init__(async_mode="asgi", logger=logger, **{**options, "monitor_clients": False})
        self.gone = gone
        self.refuse = refuse
        self.message = message
        self.tag = tag
        self.strayed = strayed
        self.about = about
        self.limits = limits
        self.direct = direct
        self.flush = Flush()
        self.flaws: Counter[Flaw] = Counter()
        """Requests that were refused."""
        self.heartbeat = Heartbeat[WireSocket](
            self.ping_interval, self.ping_timeout, ping=WireSocket.ping, lost=WireSocket.unheard
        )
        self._async = {
            **self._async,
            "websocket": WireWebSocket,
            "translate_request": self._translate_request,
        }

    async def handle_request(self, *args: Any, **kwargs: Any) -> Any:
        """Adds to AsyncServer.handle_request: a client that leaves before it has sent its request is nothing
        to answer, where stock raises KeyError; a request with a flaw is refused with its code, where stock
        answers some of them as if they were polls.
        """
        try:
            return await super().handle_request(*args, **kwargs)
        except ClientLeftError:
            return None
        except RefusedError as refused:
            self.flaws[refused.flaw] += 1
            self.logger.info("A request was refused: %s", refused)
            return await self._make_response(refusal(refused.flaw), refused.environ)

    def create_queue(self, *args: Any, **kwargs: Any) -> Outgoing:
        """Replaces AsyncServer.create_queue: what waits for a client is counted."""
        return Outgoing()

    async def disconnect(self, sid: str | None = None) -> None:
        """Adds to AsyncServer.disconnect: a session that it takes out has ended altogether."""
        session = self.sockets.get(sid) if sid is not None else None
        await super().disconnect(sid)
        if session is not None:
            session.end()

    async def _translate_request(self, scope: Any, receive: Any, send: Any) -> dict[str, Any]:
        environ: dict[str, Any] = await asgi.translate_request(scope, receive, send)
        if not environ:
            raise ClientLeftError()
        if environ["REQUEST_METHOD"] != "OPTIONS":  # which a browser asks before it may ask anything else
            flaw = find_flaw(environ, self.transports, self._is_open)
            if flaw is Flaw.UNKNOWN_SESSION:
                self._look_where_from(environ)
            if flaw is not None:
                raise RefusedError(flaw, environ)
        if scope["type"] == "websocket":
            # A class of its own for each request, to read a body that does not come.
            del environ["wsgi.input"]
        return environ

    def _is_open(self, sid: str) -> bool:
        session = self.sockets.get(sid)
        return session is not None and not session.closed

    def _look_where_from(self, environ: dict[str, Any]) -> None:
        other = tag_in(session_asked_for(environ) or "")
        if self.tag and other not in (None, self.tag):
            self.strayed(other)

    async def _handle_connect(
        self, environ: dict[str, Any], transport: str, jsonp_index: int | None = None
    ) -> Any:
        """Replaces AsyncServer._handle_connect: stock names its own socket class, its session ids do not say whose
        they are, and its handshake rounds fractions of a second away.
        """
        sid = new_sid(self.tag)
        session = self.sockets[sid] = WireSocket(self, sid)
        handshake = {
            "sid": sid,
            "upgrades": self._upgrades(sid, transport) if "websocket" in self.transports else [],
            "pingTimeout": int(self.ping_timeout * 1000),
            "pingInterval": int((self.ping_interval + self.ping_interval_grace_period) * 1000),
            "maxPayload": self.max_http_buffer_size,
        }
        session.post([SharedPacket(packet.OPEN, handshake)])
        if await self._trigger_event("connect", sid, environ) is False:
            session.end()
            return self._unauthorized()
        session.begin()
        if transport == "websocket":
            try:
                answer = await session.handle_get_request(environ)
            finally:
                if not session.direct:
                    session.shut(self.reason.TRANSPORT_CLOSE)
                    session.end()
            return self._bad_request() if isinstance(answer, list) else answer
        session.connected = True
        headers = [("Set-Cookie", self._generate_sid_cookie(sid, self._cookie()))] if self.cookie else None
        try:
            packets = await session.poll()
            environ[TAKEN] = (session, len(packets))
            return self._ok(packets, headers=headers, jsonp_index=jsonp_index)
        except exceptions.QueueEmpty:
            return self._bad_request()

    async def _make_response(self, response_dict: dict[str, Any], environ: dict[str, Any]) -> Any:
        """Adds to AsyncServer._make_response: until here, what a poll took waits for its client."""
        try:
            return await super()._make_response(response_dict, environ)
        finally:
            session, count = environ.pop(TAKEN, (None, 0))
            if session is not None:
                session.answered(environ, count)

    def _ok(self, packets: Any = None, headers: Any = None, jsonp_index: int | None = None) -> dict[str, Any]:
        """Adds to BaseServer._ok: the answer to a request that sends packets is "ok", not "OK"."""
        answer: dict[str, Any] = super()._ok(packets, headers, jsonp_index)
        return answer if packets is not None else {**answer, "response": b"ok"}

    def _bad_request(self, message: str | None = None) -> dict[str, Any]:
        """Replaces BaseServer._bad_request, which names no code."""
        return refusal(Flaw.BAD_REQUEST, message)

    def _log_error_once(self, message: str, message_key: str) -> None:
        """Replaces BaseServer._log_error_once: a client's mistake, or its last request, is no error of the server."""
        self.logger.info(message)

    def _cookie(self) -> dict[str, Any]:
        if isinstance(self.cookie, dict):
            return self.cookie
        return {"name": self.cookie, "path": "/", "SameSite": "Lax"}
