"""From packets to handlers: what a connection's lane does with CONNECT, events and disconnects."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from socketio import exceptions, packet

from realtime.errors import Close, LimitExceeded, RealtimeError
from realtime.log_context import UserOf, about_socket

from .connection import Connection
from .counters import OTHER
from .incoming import MalformedPacketError
from .packets import encode
from .rooms import Member, State

if TYPE_CHECKING:
    import socketio

    from .counters import Counters
    from .manager import WireManager

    class _Base(socketio.AsyncServer[Any]):
        manager: WireManager
        counters: Counters
        connections: dict[str, Connection]

        def close_connection(self, eio_sid: str, close: Close) -> bool: ...
        def _get_event_handler(self, event: str, namespace: str, args: Any) -> Any: ...
        def _get_namespace_handler(self, namespace: str, args: Any) -> Any: ...

else:
    _Base = object

logger = logging.getLogger("realtime.wire")

_INTERNAL = {"error": {"code": "internal", "message": "Internal error"}}
_NOT_ADMITTED = "refused"
_TOO_FAST = LimitExceeded("too many events at once: send fewer, or pause for a moment")


class Handling(_Base):
    """The half of `WireServer` that runs handlers."""

    _fits: dict[tuple[Callable[..., Any], int], bool]
    _refused: Callable[[str], Awaitable[None]] | None
    user_of: UserOf
    """For the log: whose socket it is."""

    def _dispatch(self, connection: Connection, came: packet.Packet, size: int) -> None:
        self.counters.received_packets += 1
        self.counters.received_bytes += size
        namespace = came.namespace or "/"
        member = connection.members.get(namespace)
        live = member is not None and member.gone is None
        if came.packet_type == packet.CONNECT:
            if live:
                raise MalformedPacketError("a second CONNECT")  # the reference server closes, too
            if self._may_send(connection):
                self._connect_came(connection, namespace, came.data, size)
            else:
                error = {"message": str(_TOO_FAST), "data": {"code": _TOO_FAST.code}}
                connection.socket.post(encode(packet.CONNECT_ERROR, error, namespace))
        elif member is None or not live:
            if not connection.greeted:
                raise MalformedPacketError("not a CONNECT")
            self.counters.events_unconnected += 1  # sent before the client knew that it is out
        elif came.packet_type in (packet.ACK, packet.BINARY_ACK):
            self.manager.acknowledged(member, cast(int, came.id), came.data or [])
        elif came.packet_type == packet.DISCONNECT:
            # It said what it had to say before it left: what it sent first is still handled.
            self._leave(connection, member, self.reason.CLIENT_DISCONNECT, drop=False)
        elif not self._may_send(connection):
            self._count_event(member, came.data or [None], _TOO_FAST.code)
            if came.id is not None:
                refusal = {"error": {"code": _TOO_FAST.code, "message": str(_TOO_FAST)}}
                connection.socket.post(encode(packet.ACK, [refusal], namespace, cast(int, came.id)))
        else:
            job = partial(self._run_event, connection, member, came.data or [], cast(int | None, came.id))
            self._queue(connection, job, tag=member, size=size)

    def _queue(self, connection: Connection, job: Any, *, tag: object, size: int) -> None:
        if not connection.lane.put(job, tag=tag, weight=size):
            self.counters.lanes_flooded += 1
            self.close_connection(connection.eio_sid, Close.FLOODING)

    def _may_send(self, connection: Connection) -> bool:
        """Whether the client keeps to its rate of events. If not, what it sent is to be refused, and a client that
        goes on is closed.
        """
        if connection.events.take(asyncio.get_running_loop().time()):
            return True
        self.counters.events_refused += 1
        if connection.events.ignored:
            self.counters.sockets_flooding += 1
            self.close_connection(connection.eio_sid, Close.FLOODING)
        return False

    # --- CONNECT

    def _connect_came(self, connection: Connection, namespace: str, auth: Any, size: int) -> None:
        """Replaces AsyncServer._handle_connect: stock runs the handler while reading, sends what is emitted
        meanwhile before the CONNECT packet, and leaves a half-open socket when the handler raises or the
        client leaves.
        """
        if not (
            namespace in self.handlers
            or namespace in self.namespace_handlers
            or self.namespaces == "*"  # type: ignore[comparison-overlap]  # stubs: a list only
            or namespace in self.namespaces
        ):
            error = {"message": "Invalid namespace"}
            connection.socket.post(encode(packet.CONNECT_ERROR, error, namespace))
            return
        member = Member(self.eio.generate_id(), connection.eio_sid, namespace, connection.socket)
        self.manager.book.add(member)
        connection.members[namespace] = member
        connection.greeted = True
        self._queue(connection, partial(self._run_connect, connection, member, auth), tag=None, size=size)

    async def _run_connect(self, connection: Connection, member: Member, auth: Any) -> None:
        about_socket(member.sid, self.user_of)
        if member.gone is not None:
            self.counters.connects_of_gone += 1
            self.counters.connects["gone"] += 1
            self._forget(connection, member)
            return
        member.state = State.ENTERED
        refusal: dict[str, Any] | None = {"message": "Internal error"}
        try:
            refusal = await self._admission(member, connection, auth)
        finally:  # also when the worker is cancelled: then nobody else would undo this
            if refusal is not None:
                self._refuse(connection, member, refusal)
        if refusal is None:
            await self._accept(connection, member)
        else:
            await self._undo(member)

    async def _admission(self, member: Member, connection: Connection, auth: Any) -> dict[str, Any] | None:
        """None if the handler accepts the socket, else the payload of its CONNECT_ERROR."""
        refused = dict(exceptions.ConnectionRefusedError().error_args)
        code = "refused"
        try:
            accepted = await self._trigger_event(
                "connect", member.namespace, member.sid, connection.environ, auth or None
            )
            if accepted is not False:
                return None
        except exceptions.ConnectionRefusedError as error:
            refused = dict(error.error_args)
        except ConnectionRefusedError:
            pass
        except RealtimeError as error:
            code = error.code
            refused = {"message": str(error), "data": {"code": code}}
        except Exception as error:
            self._failed(error, "connect", member)
            self.counters.connects_failed += 1
            self.counters.connects["internal"] += 1
            return {"message": "Internal error", "data": {"code": "internal"}}
        self.counters.connects_refused += 1
        self.counters.connects[code] += 1
        return refused

    def _refuse(self, connection: Connection, member: Member, payload: dict[str, Any]) -> None:
        connection.socket.post(encode(packet.CONNECT_ERROR, payload, member.namespace))
        member.state = State.DONE
        self._leave(connection, member, _NOT_ADMITTED)
        self._forget(connection, member)

    async def _undo(self, member: Member) -> None:
        """Adds to AsyncServer: whoever did something in a handler around which another one refused is told."""
        if self._refused is None:
            return
        try:
            await self._refused(member.sid)
        except Exception as error:
            self._failed(error, "connect", member)

    async def _accept(self, connection: Connection, member: Member) -> None:
        if member.gone is not None:
            # What the handler registered has to be undone, though the client never heard that it was
            # connected.
            error = {"message": "Disconnected by the server"}
            if member.gone == self.reason.SERVER_DISCONNECT:
                connection.socket.post(encode(packet.CONNECT_ERROR, error, member.namespace))
            self.counters.connects_of_gone += 1
            self.counters.connects["gone"] += 1
            await self._run_disconnect(connection, member)
            return
        member.state = State.CONNECTED
        self.counters.connects["accepted"] += 1
        connection.joined = True
        held, member.held = member.held or (), None
        connection.socket.post(encode(packet.CONNECT, {"sid": member.sid}, member.namespace))
        for wire in held:
            connection.socket.post(wire)

    # --- events

    async def _run_event(
        self, connection: Connection, member: Member, data: list[Any], number: int | None
    ) -> None:
        """Replaces AsyncServer._handle_event and _handle_event_internal: stock starts a task per event, so
        that two events of a socket overtake each other, and lets a handler's exception out with no answer to
        the client.
        """
        about_socket(member.sid, self.user_of)
        if member.state is not State.CONNECTED:
            self.counters.events_dropped += 1
            self._count_event(member, data, "dropped")
            return
        outcome = "ok"
        try:
            result = await self._trigger_event(data[0], member.namespace, member.sid, *data[1:])
        except RealtimeError as error:
            outcome = error.code
            result = {"error": {"code": outcome, "message": str(error)}}
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            outcome, result = "internal", self._event_failed(error, data[0], member)
        except Exception as error:
            outcome, result = "internal", self._event_failed(error, data[0], member)
        if result is self.not_handled:
            self._count_event(member, data, "unhandled")
            return
        if number is not None:
            args = [] if result is None else list(result) if isinstance(result, tuple) else [result]
            try:
                wire = encode(packet.ACK, args, member.namespace, number)
            except Exception as error:
                outcome = "internal"
                failure = self._event_failed(error, data[0], member)
                wire = encode(packet.ACK, [failure], member.namespace, number)
            connection.socket.post(wire)
        self._count_event(member, data, outcome)

    def _count_event(self, member: Member, data: list[Any], outcome: str) -> None:
        name, namespace = data[0], member.namespace
        handlers: Any = self.handlers  # stubs: without the namespaces
        known = name in handlers.get(namespace, ()) or (
            namespace in self.namespace_handlers and hasattr(self.namespace_handlers[namespace], f"on_{name}")
        )
        self.counters.events[name if known else OTHER, outcome] += 1

    def _event_failed(self, error: BaseException, event: object, member: Member) -> dict[str, Any]:
        self.counters.events_failed += 1
        self._failed(error, event, member)
        return _INTERNAL

    def _failed(self, error: BaseException, event: object, member: Member) -> None:
        logger.error("The handler of %r failed for %s.", event, member.sid, exc_info=error)

    # --- leaving

    def _leave(self, connection: Connection, member: Member, why: str, *, drop: bool = True) -> None:
        """Replaces AsyncServer._handle_disconnect: the socket is gone for everyone at once, and its
        disconnect handler runs after the handler that runs now. `drop`: what it sent and is not yet handled
        is not handled.
        """
        if member.gone is not None:
            return
        member.gone = why
        self.manager.left(member)
        if drop:
            self.counters.events_dropped += connection.lane.drop(member)
        if member.state is State.CONNECTED:
            self.counters.disconnects[why] += 1
            connection.lane.force(partial(self._run_disconnect, connection, member))

    async def _run_disconnect(self, connection: Connection, member: Member) -> None:
        about_socket(member.sid, self.user_of)
        member.state = State.DONE
        try:
            await self._trigger_event("disconnect", member.namespace, member.sid, member.gone)
        except Exception as error:
            self.counters.disconnects_failed += 1
            self._failed(error, "disconnect", member)
        finally:
            self._forget(connection, member)

    def _forget(self, connection: Connection, member: Member) -> None:
        self.manager.book.remove(member)
        if connection.members.get(member.namespace) is member:
            del connection.members[member.namespace]

    # --- handlers

    async def _trigger_event(self, event: str, namespace: str, *args: Any) -> Any:
        """Replaces AsyncServer._trigger_event: stock runs a disconnect or connect handler a second time when
        a TypeError comes out of it, and makes a cancelled handler look like one that returned.
        """
        handler, args = self._get_event_handler(event, namespace, args)
        if handler is None:
            of_namespace, args = self._get_namespace_handler(namespace, args)
            return await of_namespace.trigger_event(event, *args) if of_namespace else self.not_handled
        if event in self.reserved_events:
            args = self._fit(handler, args)
        result = handler(*args)
        return await result if inspect.isawaitable(result) else result

    def _fit(self, handler: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Handlers of the older form lack an argument: connect without auth, disconnect without reason."""
        fits = self._fits.get((handler, len(args)))
        if fits is None:
            try:
                inspect.signature(handler).bind(*args)
                fits = True
            except TypeError:
                fits = False
            self._fits[handler, len(args)] = fits
        return args if fits else args[:-1]
