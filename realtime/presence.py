"""What this instance tells its clients: who is online, and which models are in use.

Clients that know only ``user-list`` get whole lists, coalesced and within a byte rate; clients that asked for
differences (connect auth ``"presence": "diff"``) get one list and then ``presence-diff {version, joins, leaves}``.
A difference names every user that was touched since the last one, so it may be applied to any list sent meanwhile.
Everything is made and queued in one step of the event loop: an older list never follows a newer one.
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from realtime.errors import StateUnavailable
from realtime.pacing import Pacer
from realtime.replica import Difference, Replica
from realtime.sessions import LocalSessions
from realtime.state import Session, State

EVERYONE_LISTS = "~lists"
EVERYONE_DIFFS = "~diffs"
SIGNED_IN = "~signed-in"


class LocalRooms(Protocol):
    """Emits to this instance's own clients, and its rooms that no other instance knows."""

    def emit_local(self, event: str, data: Any, room: str) -> int:
        """Returns the number of recipients."""

    def enter_local(self, sid: str, room: str) -> None: ...


class Audience(Protocol):
    """Who may see whom: one list for everyone, or one for each user."""

    pacer: Pacer

    async def greet(self, session: Session, *, diffs: bool) -> None:
        """Sends the first list to a new session and subscribes it to what follows."""

    async def answer(self, session: Session) -> None:
        """Sends the list to one session that asked."""

    def on_difference(self, difference: Difference) -> None: ...


class Everyone:
    """All who are signed in see all who are online."""

    def __init__(
        self, replica: Replica, rooms: LocalRooms, *, interval: float, rate: float, longest: int
    ) -> None:
        self._replica = replica
        self._rooms = rooms
        self._longest = longest
        self._touched: set[str] = set()
        self._fresh = False
        self.pacer = Pacer(self._broadcast, interval=interval, bytes_per_second=rate)

    async def greet(self, session: Session, *, diffs: bool) -> None:
        payload = self._snapshot() if diffs else self._list()
        self._rooms.emit_local("user-list", payload, session.sid)
        self._rooms.enter_local(session.sid, EVERYONE_DIFFS if diffs else EVERYONE_LISTS)
        self.pacer.charge(_size(payload))

    async def answer(self, session: Session) -> None:
        payload = self._list()
        self._rooms.emit_local("user-list", payload, session.sid)
        self.pacer.charge(_size(payload))

    def on_difference(self, difference: Difference) -> None:
        if difference.joins or difference.leaves or difference.fresh:
            self._touched |= difference.joins | difference.leaves
            self._fresh |= difference.fresh
            self.pacer.nudge()

    async def _broadcast(self) -> int:
        touched, fresh = self._touched, self._fresh
        self._touched, self._fresh = set(), False
        whole = self._list()
        sent = self._rooms.emit_local("user-list", whole, EVERYONE_LISTS) * _size(whole)
        if fresh:
            snapshot = self._snapshot()
            return sent + self._rooms.emit_local("user-list", snapshot, EVERYONE_DIFFS) * _size(snapshot)
        difference = {
            "version": self._replica.version,
            "joins": sorted(touched & self._replica.users),
            "leaves": sorted(touched - self._replica.users),
        }
        return sent + self._rooms.emit_local("presence-diff", difference, EVERYONE_DIFFS) * _size(difference)

    def _list(self) -> dict[str, Any]:
        return user_list(self._replica.users, self._longest)

    def _snapshot(self) -> dict[str, Any]:
        return {"user_ids": sorted(self._replica.users), "version": self._replica.version}


class SharedChannels:
    """A user sees itself and whoever is in one of its channels. The shared state's rooms say who that is."""

    def __init__(
        self,
        replica: Replica,
        rooms: LocalRooms,
        state: State,
        sessions: LocalSessions,
        *,
        interval: float,
        rate: float,
        longest: int,
    ) -> None:
        self._replica = replica
        self._rooms = rooms
        self._state = state
        self._sessions = sessions
        self._longest = longest
        self._sent: dict[str, frozenset[str]] = {}
        # From asking who is in the rooms to queueing what follows from it: else an older list could follow a newer.
        self._in_order = asyncio.Lock()
        self.pacer = Pacer(self._broadcast, interval=interval, bytes_per_second=rate)

    async def greet(self, session: Session, *, diffs: bool) -> None:
        async with self._in_order:
            visible = await self._visible_to(session)
            await self._tell(session.user.id, visible)
            payload = self._first(visible) if diffs else user_list(visible, self._longest)
            self._rooms.emit_local("user-list", payload, session.sid)
            self._rooms.enter_local(session.sid, _room(session.user.id, diffs=diffs))
        self.pacer.charge(_size(payload))

    async def answer(self, session: Session) -> None:
        async with self._in_order:
            payload = user_list(await self._visible_to(session), self._longest)
            self._rooms.emit_local("user-list", payload, session.sid)
        self.pacer.charge(_size(payload))

    def on_difference(self, difference: Difference) -> None:
        if difference.joins or difference.leaves or difference.rooms_changed or difference.fresh:
            self.pacer.nudge()

    async def _broadcast(self) -> int:
        rooms_of: dict[str, frozenset[str]] = {}
        for local in self._sessions:
            user_id = local.session.user.id
            rooms_of[user_id] = rooms_of.get(user_id, frozenset()) | local.session.rooms
        for user_id in self._sent.keys() - rooms_of.keys():
            del self._sent[user_id]
        sent = 0
        async with self._in_order:
            try:
                members = await self._state.room_users(
                    sorted(_channels(frozenset().union(*rooms_of.values())))
                )
            except StateUnavailable:
                self.pacer.nudge()
                return 0
            for user_id, rooms in rooms_of.items():
                sent += await self._tell(user_id, _visible(user_id, rooms, members))
        return sent

    async def _visible_to(self, session: Session) -> frozenset[str]:
        members = await self._state.room_users(_channels(session.rooms))
        return _visible(session.user.id, session.rooms, members)

    async def _tell(self, user_id: str, visible: frozenset[str]) -> int:
        before = self._sent.get(user_id)
        self._sent[user_id] = visible
        if before is None or before == visible:
            return 0
        whole = user_list(visible, self._longest)
        difference = {
            "version": self._replica.version,
            "joins": sorted(visible - before),
            "leaves": sorted(before - visible),
        }
        lists = self._rooms.emit_local("user-list", whole, _room(user_id, diffs=False))
        diffs = self._rooms.emit_local("presence-diff", difference, _room(user_id, diffs=True))
        return lists * _size(whole) + diffs * _size(difference)

    def _first(self, visible: frozenset[str]) -> dict[str, Any]:
        return {"user_ids": sorted(visible), "version": self._replica.version}


class UsageAudience:
    """Which models are in use, told to all who are signed in whenever the set changes."""

    def __init__(self, replica: Replica, rooms: LocalRooms, *, rate: float) -> None:
        self._replica = replica
        self._rooms = rooms
        self._told: frozenset[str] = frozenset()
        self.pacer = Pacer(self._broadcast, interval=0.05, bytes_per_second=rate)

    async def greet(self, sid: str) -> None:
        self._rooms.emit_local("usage", {"models": sorted(self._replica.models)}, sid)

    def on_difference(self, difference: Difference) -> None:
        if difference.models_changed:
            self.pacer.nudge()

    async def _broadcast(self) -> int:
        models = frozenset(self._replica.models)
        if models == self._told:
            return 0
        self._told = models
        payload = {"models": sorted(models)}
        return self._rooms.emit_local("usage", payload, SIGNED_IN) * _size(payload)


def user_list(users: set[str] | frozenset[str], longest: int) -> dict[str, Any]:
    """The payload of ``user-list``; one that was cut says so."""
    ordered = sorted(users)
    if len(ordered) > longest:
        return {"user_ids": ordered[:longest], "truncated": True}
    return {"user_ids": ordered}


def _visible(user_id: str, rooms: frozenset[str], members: dict[str, frozenset[str]]) -> frozenset[str]:
    return frozenset({user_id}.union(*(members.get(room, frozenset()) for room in _channels(rooms))))


def _channels(rooms: frozenset[str]) -> list[str]:
    return sorted(room for room in rooms if room.startswith("channel:"))


def _room(user_id: str, *, diffs: bool) -> str:
    return f"{EVERYONE_DIFFS if diffs else EVERYONE_LISTS}:{user_id}"


def _size(payload: dict[str, Any]) -> int:
    """About the bytes of a payload on the wire; ids that need escapes count a little less than they take."""
    total = 32
    for value in payload.values():
        total += sum(len(item) + 3 for item in value) if isinstance(value, list) else 12
    return total
