"""Who is in which room of this instance: a table per namespace and, in each member, the rooms it is in."""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .calls import Asker
    from .line import Line
    from .packets import Wire
    from .session import WireSocket


class State(enum.Enum):
    """How far a member has come. Being gone is apart from this: it can happen in any of them."""

    QUEUED = enum.auto()
    ENTERED = enum.auto()
    CONNECTED = enum.auto()
    DONE = enum.auto()


class Member:
    """One Socket.IO socket: a client in one namespace.

    `held` collects what is addressed to it before its CONNECT packet, and is None afterwards. `gone` is the
    reason for which it left, as its disconnect handler is told, or None. `asks` are the acknowledgements it
    owes, `line` is where packets may go straight, from the first of them on. `rooms_refused` is how many rooms it
    was not let into because it is in too many.
    """

    __slots__ = (
        "asks",
        "eio_sid",
        "gone",
        "held",
        "held_cost",
        "line",
        "namespace",
        "rooms",
        "rooms_refused",
        "sid",
        "socket",
        "state",
    )

    def __init__(self, sid: str, eio_sid: str, namespace: str, socket: WireSocket) -> None:
        self.sid = sid
        self.eio_sid = eio_sid
        self.namespace = namespace
        self.socket = socket
        self.line: Line | None = None
        self.state = State.QUEUED
        self.gone: str | None = None
        self.rooms: set[str] = set()
        self.rooms_refused = 0
        self.held: list[Wire] | None = []
        self.held_cost = 0
        self.asks: dict[int, Asker] = {}


class Rooms:
    """The members of this instance and their rooms.

    A member that is gone leaves all tables at once (O(its rooms)) but keeps its own list, so that its
    disconnect handler can still ask where it was. No table is kept for the room that every sid is by itself.
    `emptied(namespace, room)` is called when the last member of a room left it.
    """

    def __init__(self) -> None:
        self.tables: dict[str, dict[str, dict[str, Member]]] = {}
        self.members: dict[str, Member] = {}
        self.namespaces: dict[str, dict[str, Member]] = {}
        self.admitted: dict[str, Member] = {}
        self.emptied: Callable[[str, str], None] = lambda _namespace, _room: None

    def add(self, member: Member) -> None:
        self.members[member.sid] = member
        self.namespaces.setdefault(member.namespace, {})[member.sid] = member

    def unlink(self, member: Member) -> None:
        """Take it out of all that is delivered to; `get` still finds it."""
        table = self.tables.get(member.namespace, {})
        for room in member.rooms:
            self._take_out(table, room, member)
        if not table:
            self.tables.pop(member.namespace, None)
        present = self.namespaces.get(member.namespace, {})
        present.pop(member.sid, None)
        if not present:
            self.namespaces.pop(member.namespace, None)
        self.admitted.pop(member.sid, None)

    def remove(self, member: Member) -> None:
        """Forget it altogether."""
        self.unlink(member)
        member.rooms.clear()
        self.members.pop(member.sid, None)

    def get(self, sid: str, namespace: str) -> Member | None:
        member = self.members.get(sid)
        return member if member is not None and member.namespace == namespace else None

    def live(self, sid: str, namespace: str) -> Member | None:
        """The member, unless it is gone."""
        member = self.get(sid, namespace)
        return member if member is not None and member.gone is None else None

    def enter(self, member: Member, room: str) -> bool:
        """Whether this changed anything. Raises ValueError for a room that is some socket's own."""
        if room == member.sid or member.gone is not None:
            return False
        if self.get(room, member.namespace) is not None:
            raise ValueError("A socket's own room cannot be entered by others.")
        if room in member.rooms:
            return False
        member.rooms.add(room)
        self.tables.setdefault(member.namespace, {}).setdefault(room, {})[member.sid] = member
        return True

    def leave(self, member: Member, room: str) -> bool:
        """Whether this changed anything."""
        if room not in member.rooms or member.gone is not None:
            return False
        member.rooms.discard(room)
        table = self.tables[member.namespace]
        self._take_out(table, room, member)
        if not table:
            del self.tables[member.namespace]
        return True

    def in_room(self, namespace: str, room: str) -> Collection[Member]:
        """Those a packet to `room` goes to, a socket's own room included."""
        own = self.live(room, namespace)
        if own is not None:
            return (own,)
        return self.tables.get(namespace, {}).get(room, {}).values()

    def occupied(self, namespace: str, room: str) -> bool:
        """Whether anybody here is in the room."""
        return room in self.tables.get(namespace, ())

    def recipients(self, namespace: str, room: str | Iterable[str] | None) -> Collection[Member]:
        """Those a packet goes to, each once, safe against changes meanwhile.

        No room means everyone in the namespace, but in "/" only those who were admitted: a socket that did not
        said who it is hears no broadcast.
        """
        if room is None:
            everyone = self.admitted if namespace == "/" else self.namespaces.get(namespace, {})
            return tuple(everyone.values())
        if isinstance(room, str):
            return tuple(self.in_room(namespace, room))
        union: dict[str, Member] = {}
        for each in room:
            for member in self.in_room(namespace, each):
                union[member.sid] = member
        return union.values()

    def _take_out(self, table: dict[str, dict[str, Member]], room: str, member: Member) -> None:
        present = table.get(room)
        if present is not None:
            present.pop(member.sid, None)
            if not present:
                del table[room]
                self.emptied(member.namespace, room)
