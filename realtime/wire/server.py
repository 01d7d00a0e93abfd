"""The Socket.IO server: one lane of events per connection, refusals and closes that leave nothing behind."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, cast

import socketio
from socketio import packet

from realtime.errors import Close
from realtime.log_context import nobody

from .connection import Connection
from .delivery import Room
from .engine import WireEngine
from .handling import Handling
from .incoming import MalformedPacketError, Reader
from .lanes import Lane
from .limits import Limits
from .manager import WireManager
from .packets import encode
from .rooms import Member, State
from .session import PROTOCOL_ERROR, SERVICE_RESTART
from .watch import Watch

logger = logging.getLogger("realtime.wire")

_GOING_AWAY = 1001
_POLICY_VIOLATION = 1008


class WireServer(Handling, socketio.AsyncServer):
    """python-socketio's AsyncServer with ordered events and prompt, bounded ends.

    CONNECT, events and disconnects of one connection are handled strictly one after the other, in the order
    in which they came; acknowledgements pass them by. Handlers are those of python-socketio: `connect(sid,
    environ, auth)`, `disconnect(sid, reason)`, `event(sid, *args)`.

    A connection with more than `max_pending_events` events waiting, or more than four times
    `max_http_buffer_size` bytes of them, is closed with `Close.FLOODING`, one that is beyond `limits` with that or
    with `Close.SLOW_CONSUMER`. With `direct` a session reads and writes its websocket itself where the web server
    offers it (`realtime.wire.direct`). Engine.IO's session ids begin with `tag`. `refused(sid)` is called when a
    connect handler refused or failed. Other options are Engine.IO's.
    """

    manager: WireManager
    environ: dict[str, Any]

    def __init__(
        self,
        manager: WireManager,
        *,
        tag: str = "",
        max_pending_events: int = 256,
        limits: Limits | None = None,
        direct: bool = True,
        refused: Callable[[str], Awaitable[None]] | None = None,
        namespaces: list[str] | None = None,
        **options: Any,
    ) -> None:
        engine_logger = logging.getLogger("realtime.wire.engine")
        if engine_logger.level == logging.NOTSET:
            engine_logger.setLevel(logging.WARNING)  # it has a line for every packet below that
        self.connections: dict[str, Connection] = {}
        self.counters = manager.counters
        self._tag = tag
        self.limits = Limits() if limits is None else limits
        self._watch = Watch(self.connections, self.limits, silent=self._never_joined, slow=self._too_slow)
        self._max_pending_events = max_pending_events
        self._direct = direct
        self._refused = refused
        self._closing = False
        self.user_of = nobody
        super().__init__(
            client_manager=manager,
            logger=logger,
            namespaces=namespaces,
            engineio_logger=engine_logger,
            **options,
        )
        self._fits = {}

    def _engineio_server_class(self) -> Any:
        """Replaces AsyncServer._engineio_server_class: the sessions are ours."""
        return partial(
            WireEngine,
            gone=self._engine_gone,
            refuse=self._engine_refuses,
            message=self._engine_message,
            limits=self.limits,
            direct=self._direct,
            tag=self._tag,
            strayed=self._strayed,
            about=self.about,
        )

    # --- life

    def start(self) -> None:
        """Listen to the bus; otherwise the first client's arrival does it."""
        self.manager_initialized = True
        self.manager.initialize()

    async def aclose(self, timeout: float = 5.0) -> None:
        """Shut all connections, let their disconnect handlers run for `timeout` seconds, end all tasks."""
        self._closing = True
        self._watch.stop()
        for connection in list(self.connections.values()):
            connection.socket.shut(
                self.reason.SERVER_DISCONNECT, code=_GOING_AWAY, reason=Close.DRAINING.value.reason
            )
        lanes = [connection.lane for connection in self.connections.values()]
        await asyncio.gather(*(lane.stop(timeout) for lane in lanes))
        for connection in list(self.connections.values()):
            await self._finish(connection)
        await self.manager.aclose(timeout)
        self.eio.heartbeat.stop()

    async def shutdown(self) -> None:
        """Replaces AsyncServer.shutdown, which leaves everything but one task running."""
        await self.aclose()

    # --- what others ask about sockets

    def is_gone(self, sid: str) -> bool:
        """Whether this is no live socket of this instance: true as soon as its connection or namespace has
        ended, before its disconnect handler runs.
        """
        member = self.manager.book.members.get(sid)
        return member is None or member.gone is not None

    def member_of(self, eio_sid: str, namespace: str) -> Member | None:
        connection = self.connections.get(eio_sid)
        return None if connection is None else connection.members.get(namespace)

    def about(self, eio_sid: str) -> dict[str, str]:
        """For log lines that a timer or a transport writes, outside of the lane: the connection's socket and whose it
        is; while it has none, the session.
        """
        connection = self.connections.get(eio_sid)
        sid = connection.sid if connection is not None else ""
        return {"sid": sid or eio_sid, "user": self.user_of(sid)}

    async def get_session(self, sid: str, namespace: str | None = None) -> dict[str, Any]:
        """Replaces AsyncServer.get_session, which cannot find it in a disconnect handler after the transport
        closed.
        """
        namespace = namespace or "/"
        member = self.manager.book.get(sid, namespace)
        if member is None:
            raise KeyError("Session not found")
        session: dict[str, Any] = member.socket.session.setdefault(namespace, {})
        return session

    async def save_session(self, sid: str, session: dict[str, Any], namespace: str | None = None) -> None:
        """Replaces AsyncServer.save_session, as for get_session."""
        namespace = namespace or "/"
        member = self.manager.book.get(sid, namespace)
        if member is None:
            raise KeyError("Session not found")
        member.socket.session[namespace] = session

    # --- sending

    async def emit(
        self,
        event: str,
        data: Any = None,
        to: Room = None,
        room: Room = None,
        skip_sid: str | list[str] | None = None,
        namespace: str | None = None,
        callback: Callable[..., Any] | None = None,
        ignore_queue: bool = False,
    ) -> None:
        """Replaces AsyncServer.emit, which takes an empty room or list of rooms for everyone. Errors:
        `WireManager`.
        """
        await self.manager.emit(
            event,
            data,
            namespace,
            room=to if to is not None else room,
            skip_sid=skip_sid,
            callback=callback,
            ignore_queue=ignore_queue,
        )

    async def call(
        self,
        event: str,
        data: Any = None,
        to: str | None = None,
        sid: str | None = None,
        namespace: str | None = None,
        timeout: float = 60,
        ignore_queue: bool = False,
    ) -> Any:
        """Replaces AsyncServer.call, which waits for the whole time-out when the socket closes and forgets
        nothing.
        """
        asked = to if to is not None else sid
        if asked is None:
            raise ValueError("A call needs a sid: it cannot go to everyone.")
        return await self.manager.call(event, data, sid=asked, timeout=timeout, namespace=namespace or "/")

    async def _send_packet(self, eio_sid: str, pkt: packet.Packet) -> None:
        """Replaces AsyncServer._send_packet, which lets other packets in between a packet and its
        attachments.
        """
        connection = self.connections.get(eio_sid)
        if connection is not None:
            connection.socket.post(
                encode(pkt.packet_type, pkt.data, pkt.namespace or "/", cast(int | None, pkt.id))
            )

    # --- closing

    async def close(self, sid: str, close: Close, namespace: str = "/", *, confirmed: bool = False) -> bool:
        """Close the connection of a socket, telling it why by the event `closing {"code", "reason"}`.

        Where the client is to come back by itself only the transport is closed; else it gets a DISCONNECT
        packet first. Never waits for the socket's handlers. Returns whether the socket was one of this
        instance; if not, the other instances are asked to do the same, and if it is to be `confirmed` the one that has
        it answers when it has: else this raises `StateUnavailable`.
        """
        member = self.manager.book.live(sid, namespace)
        if member is not None:
            return self.close_connection(member.eio_sid, close)
        if self.is_gone(sid) and not self.manager.was_here(sid) and self.manager.bus is not None:
            await self.manager.close_elsewhere(sid, namespace, close.name, confirmed=confirmed)
        return False

    def close_connection(self, eio_sid: str, close: Close) -> bool:
        """As `close`, for the connection itself and at once."""
        connection = self.connections.get(eio_sid)
        if connection is None or connection.socket.closing:
            return False
        self.counters.closed_by_server += 1
        self.counters.closes[close.name] += 1
        why = close.value
        notice = {"code": why.code, "reason": why.reason}
        for namespace, member in connection.members.items():
            if member.gone is not None:
                continue
            if member.state is State.CONNECTED:
                connection.socket.post(encode(packet.EVENT, ["closing", notice], namespace))
                if not why.reconnect:
                    connection.socket.post(encode(packet.DISCONNECT, namespace=namespace))
            elif not why.reconnect:
                error = {"message": why.reason, "data": {"code": why.code}}
                connection.socket.post(encode(packet.CONNECT_ERROR, error, namespace))
        connection.socket.shut(
            self.reason.SERVER_DISCONNECT,
            code=SERVICE_RESTART if why.reconnect else why.code,
            reason=why.reason,
        )
        return True

    async def disconnect(self, sid: str, namespace: str | None = None, ignore_queue: bool = False) -> None:
        """Replaces AsyncServer.disconnect: stock runs the disconnect handler in the caller; here it runs in
        the socket's lane and is not waited for, so that a handler may disconnect its own socket.
        """
        namespace = namespace or "/"
        member = self.manager.book.live(sid, namespace)
        if member is not None:
            if member.state is State.CONNECTED:
                member.socket.post(encode(packet.DISCONNECT, namespace=namespace))
            self._leave(self.connections[member.eio_sid], member, self.reason.SERVER_DISCONNECT)
        elif not ignore_queue:
            await self.manager.can_disconnect(sid, namespace)  # which asks the other instances

    # --- what Engine.IO reports

    async def _handle_eio_connect(self, eio_sid: str, environ: dict[str, Any]) -> bool | None:
        """Adds to AsyncServer._handle_eio_connect: the connection's lane, and no new ones while closing."""
        if self._closing:
            return False
        self.start()
        self.environ[eio_sid] = environ
        lane = Lane(
            limit=self._max_pending_events,
            limit_weight=4 * self.eio.max_http_buffer_size,
            raised=self._job_failed,
            lost=partial(self._worker_lost, eio_sid),
        )
        reader = Reader(max_bytes=self.eio.max_http_buffer_size)
        self.connections[eio_sid] = Connection(
            self.eio.sockets[eio_sid], environ, reader=reader, lane=lane, events=self.limits.events()
        )
        self._watch.start()
        return None

    async def _handle_eio_message(self, eio_sid: str, data: object) -> None:
        """Replaces AsyncServer._handle_eio_message, which is called in a task for each message."""
        self._engine_message(eio_sid, data)

    def _engine_message(self, eio_sid: str, data: object) -> None:
        """Nothing here waits, so handlers never hold up reading, and a malformed packet ends the connection instead
        of being logged with a traceback.
        """
        connection = self.connections.get(eio_sid)
        if connection is None or connection.socket.closing:
            return
        try:
            came = connection.reader.feed(data)
            if came is not None:
                self._dispatch(connection, *came)
        except MalformedPacketError as error:
            self.counters.packets_malformed += 1
            logger.info(
                "Closing %s, which sent a malformed packet: %s", eio_sid, error, extra=self.about(eio_sid)
            )
            connection.socket.shut(
                self.reason.TRANSPORT_ERROR, code=PROTOCOL_ERROR, reason="malformed packet"
            )

    async def _handle_eio_disconnect(self, eio_sid: str, reason: str) -> None:
        """Replaces AsyncServer._handle_eio_disconnect, which runs the disconnect handlers in the reader."""
        self._engine_gone(eio_sid, reason)

    def _engine_gone(self, eio_sid: str, why: str) -> None:
        connection = self.connections.get(eio_sid)
        if connection is None:
            return
        # A client that says goodbye is heard out, one that was lost or sent away is not.
        drop = why != self.reason.CLIENT_DISCONNECT
        for member in list(connection.members.values()):
            self._leave(connection, member, why, drop=drop)
        connection.lane.force(partial(self._finish, connection))

    def _engine_refuses(self, eio_sid: str, close: Close) -> None:
        connection = self.connections.get(eio_sid)
        if connection is None or connection.socket.closing:
            return
        if close is Close.SLOW_CONSUMER:
            self._too_slow(connection)
        else:
            self.counters.sockets_flooding += 1
            self.close_connection(eio_sid, close)

    def _strayed(self, tag: str) -> None:
        self.counters.requests_strayed += 1
        self.manager.quiet.warning(
            "strayed",
            "A request for a session of the instance with the tag %s came to this one, whose tag is %s, and was"
            " refused, so that its client connects again. That is as it should be where that instance has ended. If it"
            " has not, the load balancer does not route by session id: configure it with what"
            " `python -m realtime balancer nginx` (or haproxy) prints, and start each instance with the"
            " REALTIME_INSTANCE_NAME that was given there.",
            tag,
            self._tag,
        )

    def _too_slow(self, connection: Connection) -> None:
        # What was sent in this turn is forgotten with all that came before it, or it would come after a gap.
        self.eio.flush.write()
        if connection.socket.closing:
            return
        self.counters.slow_consumers += 1
        self.manager.quiet.warning(
            "slow",
            "%s reads too slowly: %d bytes wait for it. It is closed.",
            connection.eio_sid,
            connection.socket.queue.waiting,
            about=self.about(connection.eio_sid),
        )
        connection.socket.queue.drop()
        self.close_connection(connection.eio_sid, Close.SLOW_CONSUMER)

    def _never_joined(self, connection: Connection) -> None:
        self.counters.handshakes_expired += 1
        logger.info(
            "Closing %s, which did not join a namespace in time.",
            connection.eio_sid,
            extra=self.about(connection.eio_sid),
        )
        connection.socket.shut(
            self.reason.SERVER_DISCONNECT, code=_POLICY_VIOLATION, reason="no CONNECT in time"
        )

    async def _finish(self, connection: Connection) -> None:
        for member in list(connection.members.values()):
            self._forget(connection, member)
        self.connections.pop(connection.eio_sid, None)
        self.environ.pop(connection.eio_sid, None)

    def _worker_lost(self, eio_sid: str) -> None:
        self.counters.lane_workers_lost += 1
        logger.error(
            "The task that handles the events of %s was ended from outside; closing it.",
            eio_sid,
            extra=self.about(eio_sid),
        )
        self.close_connection(eio_sid, Close.HANDLER_FAILED)

    def _job_failed(self, error: BaseException) -> None:
        self.counters.events_failed += 1
        logger.error("Handling an event failed outside of its handler.", exc_info=error)
