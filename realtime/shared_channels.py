"""Presence for those who may see only whom they share a channel with; see ``presence``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from realtime.errors import StateUnavailable
from realtime.pacing import Pacer
from realtime.presence import EVERYONE_DIFFS, EVERYONE_LISTS, LocalRooms, size, user_list
from realtime.replica import Difference, Replica
from realtime.sessions import LocalSessions
from realtime.state import Session, State

PATIENCE_SECONDS = 2.0
"""How long a look at the shared state may wait for those before it."""
ROOMS_AT_ONCE = 500
TURN_SECONDS = 0.01
"""How long a broadcast may keep the loop from everybody else."""

Members = Mapping[str, frozenset[str]]


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
        # The change that others hear of may be here before the registration's answer.
        sessions.on_rooms_changed = self.pacer.nudge

    async def greet(self, session: Session, *, diffs: bool) -> None:
        user_id = session.user.id
        try:
            async with self._turn():
                visible = await self._update(user_id)
                self._greet(session, visible, diffs=diffs)
        except StateUnavailable:
            self._sent.pop(user_id, None)
            self._greet(session, frozenset({user_id}), diffs=diffs)
            self.pacer.nudge()

    async def answer(self, session: Session, *, diffs: bool = False) -> None:
        await self.pacer.turn()
        async with self._turn():
            self._send_list(session, await self._update(session.user.id), diffs=diffs)

    def on_difference(self, difference: Difference) -> None:
        if difference.fresh:
            self._sent.clear()
        if difference.joins or difference.leaves or difference.rooms_changed or difference.fresh:
            self.pacer.nudge()

    def _greet(self, session: Session, visible: frozenset[str], *, diffs: bool) -> None:
        self._send_list(session, visible, diffs=diffs)
        self._rooms.enter_local(session.sid, _room(session.user.id, diffs=diffs))

    def _send_list(self, session: Session, visible: frozenset[str], *, diffs: bool) -> None:
        payload = self._snapshot(visible) if diffs else user_list(sorted(visible), self._longest)
        self.pacer.charge(self._rooms.emit_local("user-list", payload, session.sid) * size(payload))

    async def _broadcast(self) -> int:
        try:
            async with self._turn():
                members = await self._members(self._sessions.users())
                for user_id in self._sent.keys() - set(self._sessions.users()):
                    del self._sent[user_id]
                return await self._tell_all(members)
        except StateUnavailable:
            self.pacer.nudge()
            return 0

    async def _tell_all(self, members: Members) -> int:
        """A thousand users who all see thousands take seconds."""
        loop = asyncio.get_running_loop()
        sent, began = 0, loop.time()
        seen: dict[frozenset[str], frozenset[str]] = {}
        for user_id in self._sessions.users():
            if self._sessions.of_user(user_id):  # still
                sent += self._tell(user_id, self._visible(user_id, members, seen))
            if loop.time() - began > TURN_SECONDS:
                await asyncio.sleep(0)
                began = loop.time()
        return sent

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._in_order.acquire()
        except TimeoutError:
            raise StateUnavailable("who is online cannot be looked up now: try again in a moment") from None
        try:
            yield
        finally:
            self._in_order.release()

    async def _update(self, user_id: str) -> frozenset[str]:
        """Whom the user sees now; its other sessions are told too, since differences start from what all were told."""
        visible = self._visible(user_id, await self._members([user_id]), {})
        self.pacer.charge(self._tell(user_id, visible))
        return visible

    async def _members(self, user_ids: Iterable[str]) -> dict[str, frozenset[str]]:
        rooms = sorted({room for user_id in user_ids for room in self._channels(user_id)})
        members: dict[str, frozenset[str]] = {}
        for at in range(0, len(rooms), ROOMS_AT_ONCE):
            members |= await self._state.room_users(rooms[at : at + ROOMS_AT_ONCE])
        return members

    def _visible(
        self, user_id: str, members: Members, seen: dict[frozenset[str], frozenset[str]]
    ) -> frozenset[str]:
        """``seen`` is what is seen in the same channels: one set for all who are in them."""
        # By the rooms as they are now: a channel left while the question was under way shows nobody any more.
        rooms = frozenset(self._channels(user_id))
        if rooms not in seen:
            seen[rooms] = frozenset().union(*(members.get(room, ()) for room in rooms))
        return seen[rooms] if user_id in seen[rooms] else seen[rooms] | {user_id}

    def _channels(self, user_id: str) -> list[str]:
        return [room for room in self._sessions.rooms_of(user_id) if room.startswith("channel:")]

    def _tell(self, user_id: str, visible: frozenset[str]) -> int:
        before, self._sent[user_id] = self._sent.get(user_id), visible
        if before == visible:
            return 0
        whole = user_list(sorted(visible), self._longest)
        sent = self._rooms.emit_local("user-list", whole, _room(user_id, diffs=False)) * size(whole)
        event, payload = "user-list", self._snapshot(visible)
        if before is not None:
            event, payload = (
                "presence-diff",
                {
                    "version": self._replica.version,
                    "joins": sorted(visible - before),
                    "leaves": sorted(before - visible),
                },
            )
        return sent + self._rooms.emit_local(event, payload, _room(user_id, diffs=True)) * size(payload)

    def _snapshot(self, visible: frozenset[str]) -> dict[str, Any]:
        return {"user_ids": sorted(visible), "version": self._replica.version}


def _room(user_id: str, *, diffs: bool) -> str:
    return f"{EVERYONE_DIFFS if diffs else EVERYONE_LISTS}:{user_id}"
