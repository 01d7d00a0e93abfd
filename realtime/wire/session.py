"""One Engine.IO session: it takes packets without waiting, answers polls and can be shut at once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from engineio import async_socket, exceptions, packet  # type: ignore[import-untyped]  # no stubs exist

from realtime.errors import Close

from .outgoing import Outgoing, Outlet
from .packets import SharedPacket, Wire, WirePayload, frames
from .websocket import WireWebSocket

if TYPE_CHECKING:
    from .engine import WireEngine
    from .line import Line

NORMAL_CLOSURE = 1000
PROTOCOL_ERROR = 1002
MESSAGE_TOO_BIG = 1009
SERVICE_RESTART = 1012
_ALL = 1 << 62
BATCH_BYTES = 65_536
"""What the writer of a websocket takes at once: what it has taken cannot be forgotten when the client is too slow."""
PAYLOAD_PACKETS = 16
"""What the answer to a poll carries at most: python-engineio's client drops its connection on more."""
TAKEN = "realtime.taken"
"""Where a request's environ names the session, and how many of its packets the answer carries."""
_PING = (SharedPacket(packet.PING),)
_FROM_CLIENTS = (packet.PONG, packet.MESSAGE, packet.CLOSE)


class WireSocket(async_socket.AsyncSocket):  # type: ignore[misc]  # no stubs exist
    """One Engine.IO session."""

    linger = 5.0
    """How long, in seconds, the last packets wait for the client of a session that was shut: for its next poll, or
    until it has read what went before. Then the connection is aborted.
    """

    def __init__(self, server: WireEngine, sid: str) -> None:
        super().__init__(server, sid)
        self.server: WireEngine
        self.queue: Outgoing
        self.packets = server.limits.packets()
        self.connected: bool
        self.closing: bool
        self.closed: bool
        self.upgraded: bool
        self.upgrading: bool
        self.close_code = NORMAL_CLOSURE
        self.close_reason = ""
        self.line: Line | None = None
        """Its websocket, if it reads and writes that itself."""
        self._upgrade: WireWebSocket | None = None
        self._end_at: asyncio.TimerHandle | None = None
        self._probed = False
        self._posting = False
        self._poll_ends: asyncio.Event | None = None

    @property
    def most(self) -> int:
        """Bytes that may wait for the client when one more message is sent."""
        return self.server.limits.max_outgoing_bytes + self.queue.allowance

    def post(self, packets: Wire) -> bool:
        """Queue packets at once and together; False if the session is closing, also because too much waits for it.

        Replaces AsyncSocket.send on the way out: stock is a coroutine that looks at the clock for every
        packet and lets another task's packet in between a packet and its attachments.
        """
        if self.closing or self.closed:
            return False
        if self.line is not None:
            self.line.send(frames(packets))
            return not self.closing
        if self.queue.waiting > self.most and not self.queue.dropped:
            self.server.refuse(self.sid, Close.SLOW_CONSUMER)
            return False
        for each in packets:
            self.queue.put_nowait(each)
        return True

    @property
    def polling(self) -> bool:
        """Whether a poll waits for packets."""
        return self._poll_ends is not None

    def begin(self) -> None:
        """From now on the client is to answer pings."""
        if not self.closing:
            self.server.heartbeat.begin(self)

    def schedule_ping(self) -> None:
        """Replaces AsyncSocket.schedule_ping, which starts a task for each ping: the client answered one."""
        self.server.heartbeat.heard(self)

    def ping(self) -> None:
        self.post(_PING)

    def unheard(self) -> None:
        """The client did not answer a ping. No CLOSE packet says so: python-socketio's would not come back after it."""
        self.shut(self.server.reason.PING_TIMEOUT)
        if not self.upgraded and not self.polling:
            self.end()  # who comes that late is refused, and not given what waited for it

    async def check_ping_timeout(self) -> bool:
        """Replaces AsyncSocket.check_ping_timeout, which reads the clock: after a stall of this process all would seem
        lost. The heartbeat knows better.
        """
        if self.closed:
            raise exceptions.SocketIsClosedError()
        return True

    def shut(self, why: str, *, code: int = NORMAL_CLOSURE, reason: str = "") -> None:
        """End the session now: what is queued still goes out, nothing more is taken, a pending poll returns.

        `why` is the reason that disconnect handlers are told; `code` and `reason` go into a websocket's close
        frame. By polling the next request after the last packets gets a 400, on which every client that may
        do so connects again (python-socketio's client does not on an Engine.IO CLOSE packet).
        """
        if self.closing or self.closed:
            return
        self.closing = True
        self.server.heartbeat.forget(self)
        self.close_code = code
        self.close_reason = reason
        if not self.upgraded and self.queue.empty():
            self.queue.put_nowait(SharedPacket(packet.NOOP))
        self._end_at = asyncio.get_running_loop().call_later(self.linger, self._give_up)
        if self.line is not None:
            self.line.close(code, reason)
            self.closed = True
            if not self.line.buffered():
                self.end()
        else:
            self.queue.put_nowait(None)
            self.closed = self.upgraded
        self.server.gone(self.sid, why)

    def _is_shut(self) -> bool:
        return self.closing

    def end(self) -> None:
        self.closed = True
        if not self.upgraded and not self._is_unread():  # a websocket's packets may still be on their way
            self._stop_waiting()
        if self.server.sockets.get(self.sid) is self:
            del self.server.sockets[self.sid]
        self._abandon_upgrade()

    def _give_up(self) -> None:
        self.end()
        if self.queue.outlet is not None:
            self.queue.outlet.give_up()
        self.queue.drop()

    def _stop_waiting(self) -> None:
        if self._end_at is not None:
            self._end_at.cancel()  # else the loop keeps the session until then
            self._end_at = None

    def _abandon_upgrade(self) -> None:
        if self._upgrade is not None:
            self._upgrade.give_up()

    async def close(self, wait: bool = True, abort: bool = False, reason: str | None = None) -> None:
        """Replaces AsyncSocket.close: stock leaves a pending poll or writer waiting and runs handlers inline."""
        server_reasons = self.server.reason
        why = reason or server_reasons.SERVER_DISCONNECT
        if not abort and why == server_reasons.SERVER_DISCONNECT:
            self.post([SharedPacket(packet.CLOSE)])
        self.shut(why)

    async def receive(self, pkt: Any) -> None:
        """Adds to AsyncSocket.receive: a session that was shut hears nothing more, where stock goes on; a packet
        that is not a client's to send ends it, where stock logs a traceback or nothing; so do too many.
        """
        if self.closing or self.closed:
            raise exceptions.SocketIsClosedError()
        self._hear(pkt.packet_type, pkt.data)
        if pkt.packet_type not in _FROM_CLIENTS:
            raise exceptions.UnknownPacketError()

    def _hear(self, kind: int, data: Any) -> None:
        if not self.packets.take(asyncio.get_running_loop().time()):
            self.server.refuse(self.sid, Close.FLOODING)
        elif kind == packet.MESSAGE:
            self.server.message(self.sid, data)
        elif kind == packet.PONG:
            self.server.heartbeat.heard(self)
        elif kind == packet.CLOSE:
            self.shut(self.server.reason.CLIENT_DISCONNECT)
        else:
            self._malformed()

    def _malformed(self) -> None:
        self.shut(self.server.reason.TRANSPORT_ERROR, code=PROTOCOL_ERROR, reason="malformed packet")

    # --- on a websocket of its own; see `line.Session`

    @property
    def direct(self) -> bool:
        """Whether it reads and writes its websocket itself."""
        return self.line is not None

    def came(self, data: str | bytes) -> None:
        """A message of the websocket."""
        if self.closing or self.too_large(data):
            return
        try:
            came = packet.Packet(encoded_packet=data)
        except Exception as error:  # whatever a decoder makes of hostile input
            self.server.logger.info(
                "%s: a packet that cannot be decoded: %r", self.sid, error, extra=self.about()
            )
            self._malformed()
        else:
            self._hear(came.packet_type, came.data)

    def too_large(self, data: str | bytes) -> bool:
        """Whether a message is, and this the end of the session."""
        limit = self.server.max_http_buffer_size
        if len(data) <= limit and not (isinstance(data, str) and 4 * len(data) > limit < len(data.encode())):
            return False
        self.shut(self.server.reason.TRANSPORT_ERROR, code=MESSAGE_TOO_BIG, reason="too large")
        return True

    def counted(self) -> None:
        """The websocket's own pings and pongs count as packets do, and so do fragments."""
        if not self.closing and not self.packets.take(asyncio.get_running_loop().time()):
            self.server.refuse(self.sid, Close.FLOODING)

    def about(self) -> dict[str, str]:
        """Fields of a log line about it."""
        return self.server.about(str(self.sid))

    def overflowed(self) -> None:
        """More waits for the client than the bound."""
        if not self.closing and not self.queue.dropped and self.queue.waiting > self.most:
            self.server.refuse(self.sid, Close.SLOW_CONSUMER)

    def lost(self) -> None:
        """The websocket is closed."""
        self.shut(self.server.reason.TRANSPORT_CLOSE)
        self._stop_waiting()
        self.queue.drop()
        self.end()

    def _take_over(self, ws: WireWebSocket) -> bool:
        """Whether the session has the websocket to itself from now on, and what was queued goes there."""
        self.line = ws.take_over(self)
        if self.line is None:
            return False
        self.queue.outlet = self.line
        while not self.queue.empty():
            each = self.queue.get_nowait()
            if each is not None:
                self.line.send(each.frame)
            self.queue.handed_over()
        if self.closing:  # since before it was accepted
            self.line.close(self.close_code, self.close_reason)
        return True

    async def poll(self) -> list[Any]:
        """Replaces AsyncSocket.poll: stock takes all that waits, out of sight, to write it when the client reads, and
        gives up by the clock. The heartbeat ends the wait here, by a ping or with the session.
        """
        try:
            return await self.queue.take(BATCH_BYTES if self.upgraded else _ALL, PAYLOAD_PACKETS)
        except asyncio.CancelledError:
            raise exceptions.QueueEmpty() from None

    async def handle_get_request(self, environ: dict[str, Any]) -> Any:
        """Replaces AsyncSocket.handle_get_request for polls: stock serves two at once, and one that comes after
        a ping timed out; here either ends the session, and so does polling on without having read the last
        answer. Adds to it that an upgrade is refused where websockets are not allowed, while another is under
        way, and at the end.
        """
        if not self.connected:
            return await super().handle_get_request(environ)
        if not _asks_for_websocket(environ):
            return await self._answer_poll(environ)
        if "websocket" not in self.server.transports or self.upgrading or self.closing:
            return self.server._bad_request("Cannot upgrade")
        self.upgrading = True
        try:
            return await super().handle_get_request(environ)
        finally:
            self.upgrading = False  # stock leaves it, and answers every poll with nothing from then on
            self._probed = False

    async def _answer_poll(self, environ: dict[str, Any]) -> list[Any]:
        self._check_last_answer()
        if self.polling:
            self.shut(self.server.reason.TRANSPORT_ERROR)
            raise exceptions.SocketIsClosedError()
        if self.closing:
            # Who still polls is to get the last packets, which stock keeps for the websocket.
            self._abandon_upgrade()
        elif self._probed:
            return [SharedPacket(packet.NOOP)]
        ends = self._poll_ends = asyncio.Event()
        try:
            packets: list[Any] = await self.poll()
        except exceptions.QueueEmpty:
            self.shut(self.server.reason.TRANSPORT_ERROR)  # the web server ended the request
            raise
        finally:
            self._poll_ends = None
            ends.set()
        environ[TAKEN] = (self, len(packets))
        if self._is_shut():
            self.end()
        return packets

    def answered(self, environ: dict[str, Any], count: int) -> None:
        """The web server has the answer to a poll, so many packets."""
        self.queue.handed_over(count)
        if self.upgraded:
            return
        self.queue.outlet = Outlet(environ)
        if self.closed and self._is_unread():
            self._end_at = asyncio.get_running_loop().call_later(self.linger, self._give_up)

    def _check_last_answer(self) -> None:
        outlet = self.queue.outlet
        if outlet is not None and outlet.buffered():
            self.server.refuse(self.sid, Close.SLOW_CONSUMER)
            outlet.give_up()
        self.queue.outlet = None

    def _is_unread(self) -> bool:
        return self.queue.outlet is not None and self.queue.outlet.buffered() > 0

    async def handle_post_request(self, environ: dict[str, Any]) -> None:
        """Replaces AsyncSocket.handle_post_request: stock drops a request of more than 16 packets, reads nothing
        of one whose length is not declared, takes what came of one whose client left for the whole of it, and
        serves two at once. Here the first two are served as any other; the other two end the session, and so
        does a request that cannot be decoded, to which stock answers "OK", and a body that does not come.
        """
        limit = self.server.max_http_buffer_size
        if int(environ.get("CONTENT_LENGTH", "0")) > limit:
            raise exceptions.ContentTooLongError()
        if self._posting:
            raise exceptions.SocketIsClosedError()
        self._posting = True
        try:
            async with asyncio.timeout(self.server.limits.handshake_seconds):
                body = await environ["wsgi.input"].read(limit + 1)
        except TimeoutError as error:
            raise exceptions.UnknownPacketError() from error
        finally:
            self._posting = False
        if self._is_shut():
            return
        if len(body) > limit:
            raise exceptions.ContentTooLongError()
        left = environ["wsgi.input"].event["type"] != "http.request"
        try:
            packets = WirePayload(encoded_payload=body.decode("utf-8")).packets
        except Exception as error:
            raise exceptions.UnknownPacketError() from error
        if left or not packets:
            raise exceptions.UnknownPacketError()
        for each in packets:
            if self._is_shut():
                return
            await self.receive(each)

    async def _websocket_handler(self, ws: Any) -> None:
        """Adds to AsyncSocket._websocket_handler: whatever ends it ends the session; stock keeps the session
        of a client that sent a malformed frame until a ping times out, and lets the error out into the ASGI
        server. A session that does not move to this websocket is left as it was, and the websocket closed.
        """
        try:
            if self.connected and not await self._move_to(ws):
                return
            self.upgraded = True
            if self._take_over(ws):
                self.connected = True
                return
            # Upstream takes it from here as a session that begins on this websocket.
            self.connected = False
            await super()._websocket_handler(ws)
        except Exception as error:
            self.server.logger.info("%s: websocket ended by %r", self.sid, error, extra=self.about())
            if self.upgraded:
                self.shut(self.server.reason.TRANSPORT_ERROR, code=PROTOCOL_ERROR, reason="malformed packet")
                await ws.close()
        finally:
            if self.direct:
                pass  # it goes on without this call
            elif self.upgraded:
                self.shut(self.server.reason.TRANSPORT_ERROR)
                self.queue.drop()
                self.queue.put_nowait(None)  # the writer is to end too
                if not self.queue.waiting:
                    self._stop_waiting()
            else:
                await ws.close()

    async def _move_to(self, ws: WireWebSocket) -> bool:
        """Whether the client moved its session to this websocket (Engine.IO protocol 4, "Upgrade").

        Replaces the beginning of AsyncSocket._websocket_handler: stock queues the NOOP that ends a poll whether
        there is a poll or not, and sends it by the websocket if not; and it answers polls with nothing
        from before the probe.
        """
        self._upgrade = ws
        try:
            if await ws.wait() != "2probe":
                return False
            self._probed = True
            await ws.send("3probe")
            if self.polling and self.queue.empty():
                self.queue.put_nowait(SharedPacket(packet.NOOP))
            if await ws.wait() != "5":
                return False
            # The websocket's writer must not take from the queue what is meant to end the poll.
            if self._poll_ends is not None:
                await self._poll_ends.wait()
        except OSError:
            return False
        finally:
            self._upgrade = None
        self.upgraded = not self.closing
        return self.upgraded


def _asks_for_websocket(environ: dict[str, Any]) -> bool:
    connection = [each.strip() for each in environ.get("HTTP_CONNECTION", "").lower().split(",")]
    return "upgrade" in connection and environ.get("HTTP_UPGRADE", "").lower() == "websocket"
