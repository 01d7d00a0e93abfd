"""Delivery on this instance: rooms, and packets put straight into each recipient's queue."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Collection, Generator, Iterable, KeysView, Sequence
from typing import TYPE_CHECKING, Any

from socketio import packet
from socketio.async_manager import AsyncManager

from realtime.errors import Close, LimitExceeded

from .calls import Asker, CallbackAsker
from .counters import Counters, QuietLog
from .packets import Wire, arguments, cost, encode, frames
from .rooms import Member, Rooms, State
from .tasks import Tasks

if TYPE_CHECKING:
    from .server import WireServer

logger = logging.getLogger("realtime.wire")

Room = str | Iterable[str] | None


class LocalDelivery(AsyncManager):
    """The part of the client manager that knows only this instance.

    `on_rooms_changed(sid, namespace)` is called at once after a live socket entered or left a room, by
    whomever; not when it disconnects, which ends all its memberships.
    """

    server: WireServer
    json: Any  # stubs leave it out

    max_held = 200
    """Packets that wait for one socket's CONNECT; beyond, its connection is closed and it comes back."""
    max_refused_rooms = 100
    """Rooms that a socket in too many may still try to enter before it is closed."""
    max_asks = 1000
    """Acknowledgements one socket may owe; beyond, the oldest is given up."""

    def __init__(self) -> None:
        super().__init__()
        self.counters = Counters()
        self.quiet = QuietLog(logger)
        self.book = Rooms()
        # For whoever looks: {namespace: {room: {sid: Member}}}.
        self.rooms = self.book.tables  # type: ignore[assignment]  # stubs: a bidict per room
        self.numbers = itertools.count(1)
        self.tasks = Tasks(self._callback_failed)
        self.on_rooms_changed: Callable[[str, str], None] | None = None

    # --- who may hear what

    def admit(self, sid: str) -> None:
        """From now on this socket of namespace "/" hears what is sent to everyone."""
        member = self.book.live(sid, "/")
        if member is not None:
            self.book.admitted[sid] = member

    def expel(self, sid: str) -> None:
        """From now on this socket hears only what is sent to it or to rooms it is in."""
        self.book.admitted.pop(sid, None)

    def local_rooms(self, sid: str, namespace: str = "/") -> frozenset[str]:
        """The rooms a socket of this instance is in, without its own; until its disconnect handler has ended."""
        member = self.book.get(sid, namespace)
        return frozenset() if member is None else frozenset(member.rooms)

    def local_participants(self, room: str | None, namespace: str = "/") -> frozenset[str]:
        """The live sids of this instance in a room; None means everyone who would hear a broadcast."""
        return frozenset(member.sid for member in self.book.recipients(namespace, room))

    # --- delivery

    async def emit(
        self,
        event: str,
        data: Any,
        namespace: str,
        room: Room = None,
        skip_sid: str | Sequence[str] | None = None,
        callback: Callable[..., Any] | None = None,
        to: Room = None,
        **kwargs: Any,
    ) -> None:
        """Replaces AsyncManager.emit: stock makes a task per recipient, and takes an empty list for everyone."""
        asker = CallbackAsker(callback, self.tasks.spawn) if callback is not None else None
        self.deliver(event, data, namespace, to if to is not None else room, skip_sid, asker)

    def deliver(
        self,
        event: str,
        data: Any,
        namespace: str = "/",
        room: Room = None,
        skip_sid: str | Collection[str] | None = None,
        asker: Asker | None = None,
    ) -> int:
        """Send to the local sockets of a room (None: everyone, [] : nobody) and say to how many."""
        self.counters.emits += 1
        members: Collection[Member] = self.book.recipients(namespace, room)
        if skip_sid:
            skip = (skip_sid,) if isinstance(skip_sid, str) else skip_sid
            members = [each for each in members if each.sid not in skip]
        if not members:
            return 0
        self.counters.deliveries += len(members)
        if asker is None:
            self._send_all(members, encode(packet.EVENT, [event, *arguments(data)], namespace))
        else:
            for member in members:
                self.ask(member, event, data, next(self.numbers), asker)
        return len(members)

    def _send_all(self, members: Collection[Member], wire: Wire) -> None:
        framed = frames(wire)
        self._make_way(members, len(framed))
        self.counters.delivered_bytes += len(framed) * len(members)
        lines = [member.line for member in members if member.line is not None]
        others = [member for member in members if member.line is None] if len(lines) < len(members) else ()
        if lines:
            self.server.eio.flush.send(framed, lines)
        for member in others:
            self.send(member, wire)

    def _make_way(self, members: Collection[Member], size: int) -> None:
        """A message larger than all that may wait (a long list) does not make the next one too many."""
        if size > self.server.limits.max_outgoing_bytes:
            for member in members:
                queue = member.socket.queue
                queue.allowance = max(queue.allowance, size)

    def ask(self, member: Member, event: str, data: Any, number: int, asker: Asker) -> None:
        """Send an event that wants an acknowledgement, under this number."""
        wire = encode(packet.EVENT, [event, *arguments(data)], member.namespace, number)
        framed = frames(wire)
        self._make_way((member,), len(framed))
        self.counters.delivered_bytes += len(framed)
        while len(member.asks) >= self.max_asks:
            oldest = next(iter(member.asks))
            self.counters.callbacks_evicted += 1
            member.asks.pop(oldest).gone(member.sid)
        member.asks[number] = asker
        self.send(member, wire)

    def send(self, member: Member, wire: Wire) -> None:
        """Put packets into a socket's queue, or keep them until its CONNECT packet has gone out."""
        if member.gone is not None:
            return
        if member.held is None:
            member.socket.post(wire)
            member.line = member.socket.line
        elif len(member.held) < self.max_held and member.held_cost <= member.socket.most:
            member.held.append(wire)
            member.held_cost += sum(map(cost, wire))
        else:
            self.counters.packets_held_back_dropped += 1
            self.server.close_connection(member.eio_sid, Close.HANDLER_FAILED)

    def acknowledged(self, member: Member, number: int, args: Sequence[Any]) -> None:
        """An ACK packet came in."""
        asker = member.asks.pop(number, None)
        if asker is None:
            self._unknown_ack(member.sid, number)
        else:
            self._answer(asker, args)

    def left(self, member: Member) -> None:
        """A socket is gone: it is in no room any more and whoever waits for its answer is told."""
        self.book.unlink(member)
        member.line = None
        asks, member.asks = member.asks, {}
        for asker in asks.values():
            asker.gone(member.sid)
        if member.held is not None:
            member.held.clear()

    def _answer(self, asker: Asker, args: Sequence[Any]) -> None:
        try:
            asker.answer(args)
        except Exception as error:
            self._callback_failed(error)

    def _callback_failed(self, error: BaseException) -> None:
        self.counters.callbacks_failed += 1
        logger.error("A callback of an emit raised %r.", error, exc_info=error)

    def _unknown_ack(self, sid: object, number: object) -> None:
        self.counters.callbacks_unknown += 1
        logger.debug("Ignoring an acknowledgement from %s with the unknown id %s.", sid, number)

    # --- the bookkeeping of BaseManager, which copies and scans all rooms and keeps a bidict in each:
    # replaced by `book`

    def is_connected(self, sid: str, namespace: str) -> bool:
        """Replaces BaseManager.is_connected."""
        member = self.book.live(sid, namespace)
        return member is not None and member.state is State.CONNECTED

    def is_pre_connected(self, sid: str, namespace: str) -> bool:
        """Replaces BaseManager.is_pre_connected, which searches a list."""
        member = self.book.live(sid, namespace)
        return member is not None and member.state in (State.QUEUED, State.ENTERED)

    def sid_from_eio_sid(self, eio_sid: str, namespace: str) -> str:
        """Replaces BaseManager.sid_from_eio_sid, which needs the bidict."""
        member = self.server.member_of(eio_sid, namespace)
        return None if member is None else member.sid  # type: ignore[return-value]  # stubs forget None

    def eio_sid_from_sid(self, sid: str, namespace: str) -> str | None:
        """Replaces BaseManager.eio_sid_from_sid."""
        member = self.book.get(sid, namespace)
        return None if member is None else member.eio_sid

    def get_namespaces(self) -> KeysView[Any]:
        """Replaces BaseManager.get_namespaces."""
        return self.book.namespaces.keys()

    def get_participants(
        self, namespace: str, room: str | Sequence[str] | None
    ) -> Generator[tuple[str, str], None, None]:
        """Replaces BaseManager.get_participants, which copies the room."""
        for member in self.book.recipients(namespace, room):
            yield member.sid, member.eio_sid

    def get_rooms(self, sid: str, namespace: str) -> list[str]:
        """Replaces BaseManager.get_rooms, which scans all rooms. A socket's own room is among them, as in
        stock.
        """
        return [] if self.book.get(sid, namespace) is None else [sid, *self.local_rooms(sid, namespace)]

    def is_sid_room(self, namespace: str, room: str) -> bool:
        """Replaces BaseManager.is_sid_room."""
        return self.book.get(room, namespace) is not None

    def basic_enter_room(self, sid: str, namespace: str, room: str, eio_sid: str | None = None) -> None:
        """Replaces BaseManager.basic_enter_room. A socket that is gone enters nothing, quietly; one that is in as
        many rooms as it may be raises `LimitExceeded`, and one that goes on is closed.
        """
        member = self.book.get(sid, namespace)
        if member is None:
            raise ValueError("sid is not connected to requested namespace")
        if len(member.rooms) >= self.server.limits.max_rooms:
            self._check_rooms(member, room)
        if self.book.enter(member, room):
            self._changed(member)

    def basic_leave_room(self, sid: str, namespace: str, room: str) -> None:
        """Replaces BaseManager.basic_leave_room."""
        member = self.book.get(sid, namespace)
        if member is not None and self.book.leave(member, room):
            self._changed(member)

    def basic_close_room(self, room: str | Sequence[str], namespace: str) -> None:
        """Replaces BaseManager.basic_close_room."""
        for each in [room] if isinstance(room, str) else room:
            if self.is_sid_room(namespace, each):
                raise ValueError("A socket's own room cannot be closed.")
            for member in self.book.recipients(namespace, each):
                if self.book.leave(member, each):
                    self._changed(member)

    async def trigger_callback(self, sid: str, id: Any, data: Sequence[Any]) -> None:  # noqa: A002
        """Replaces AsyncManager.trigger_callback: stock warns of unknown ids and has the reader wait."""
        member = self.book.members.get(sid)
        if member is None:
            self._unknown_ack(sid, id)
        else:
            self.acknowledged(member, id, data)

    def _check_rooms(self, member: Member, room: str) -> None:
        if member.gone is not None or room in member.rooms or room == member.sid:
            return
        self.counters.rooms_refused += 1
        member.rooms_refused += 1
        if member.rooms_refused > self.max_refused_rooms:
            self.counters.sockets_flooding += 1
            self.server.close_connection(member.eio_sid, Close.FLOODING)
        raise LimitExceeded(f"a socket may be in {self.server.limits.max_rooms} rooms: leave some first")

    def _changed(self, member: Member) -> None:
        if self.on_rooms_changed is not None:
            self.on_rooms_changed(member.sid, member.namespace)
