"""What this instance tells its clients of who is online.

Clients that know only ``user-list`` get whole lists, coalesced and within a byte rate; clients that asked for
differences (connect auth ``"presence": "diff"``) get one list and then ``presence-diff {version, joins, leaves}``;
with a new epoch, a list again. A difference may be applied to any list that was sent since the one before it. What is
sent is made and queued in one step of the event loop: an older list never follows a newer one.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Protocol

from realtime.pacing import Pacer
from realtime.replica import Difference, Replica
from realtime.sorted_ids import SortedIds
from realtime.state import Session

EVERYONE_LISTS = "~lists"
EVERYONE_DIFFS = "~diffs"
SIGNED_IN = "~signed-in"


class LocalRooms(Protocol):
    """Emits to this instance's own clients, and its rooms that no other instance knows."""

    def emit_local(self, event: str, data: Any, room: str, *, skip: Collection[str] = ()) -> int:
        """To all in the room but those ``skip`` names; returns the number of recipients."""

    def enter_local(self, sid: str, room: str) -> None: ...


class Audience(Protocol):
    """Who may see whom: one list for everyone, or one for each user."""

    pacer: Pacer

    async def greet(self, session: Session, *, diffs: bool) -> None:
        """Sends the first list to a new session and subscribes it to what follows. Does not fail."""

    async def answer(self, session: Session, *, diffs: bool = False) -> None:
        """Sends the list to one session that asked. May raise ``StateUnavailable``."""

    def on_difference(self, difference: Difference) -> None: ...


class Everyone:
    """All who are signed in see all who are online."""

    def __init__(
        self, replica: Replica, rooms: LocalRooms, *, interval: float, rate: float, longest: int
    ) -> None:
        self._replica = replica
        self._rooms = rooms
        self._longest = longest
        self._online = SortedIds()
        self._touched: set[str] = set()
        self._fresh = False
        self._given: dict[str, tuple[str, int]] = {}
        """Who was given a list of which position while a broadcast was due: the same again would say nothing."""
        self.pacer = Pacer(self._broadcast, interval=interval, bytes_per_second=rate)

    async def greet(self, session: Session, *, diffs: bool) -> None:
        self._send_list(session, diffs=diffs)
        self._rooms.enter_local(session.sid, EVERYONE_DIFFS if diffs else EVERYONE_LISTS)

    async def answer(self, session: Session, *, diffs: bool = False) -> None:
        await self.pacer.turn()
        self._send_list(session, diffs=diffs)

    def on_difference(self, difference: Difference) -> None:
        if difference.joins or difference.leaves or difference.fresh:
            self._online.follow(self._replica.users, difference.joins | difference.leaves)
            self._touched |= difference.joins | difference.leaves
            self._fresh |= difference.fresh
            self.pacer.nudge()

    def _send_list(self, session: Session, *, diffs: bool) -> None:
        payload = self._snapshot() if diffs else self._list()
        if self._touched or self._fresh:
            self._given[session.sid] = self._replica.position
        self.pacer.charge(self._rooms.emit_local("user-list", payload, session.sid) * size(payload))

    async def _broadcast(self) -> int:
        touched, fresh = self._touched, self._fresh
        current = {sid for sid, position in self._given.items() if position == self._replica.position}
        self._touched, self._fresh, self._given = set(), False, {}
        try:
            return self._tell(touched, fresh=fresh, skip=current)
        except BaseException:
            self._fresh = True
            raise

    def _tell(self, touched: set[str], *, fresh: bool, skip: set[str]) -> int:
        """Names every user touched since the last time, as it is now: whatever list a client has, it is right then."""
        whole = self._list()
        sent = self._rooms.emit_local("user-list", whole, EVERYONE_LISTS, skip=skip) * size(whole)
        if fresh:
            snapshot = self._snapshot()
            return sent + self._rooms.emit_local("user-list", snapshot, EVERYONE_DIFFS, skip=skip) * size(
                snapshot
            )
        difference = {
            "version": self._replica.version,
            "joins": sorted(touched & self._replica.users),
            "leaves": sorted(touched - self._replica.users),
        }
        recipients = self._rooms.emit_local("presence-diff", difference, EVERYONE_DIFFS, skip=skip)
        return sent + recipients * size(difference)

    def _list(self) -> dict[str, Any]:
        return user_list(self._online.ordered.copy(), self._longest)

    def _snapshot(self) -> dict[str, Any]:
        return {"user_ids": self._online.ordered.copy(), "version": self._replica.version}


def user_list(ordered: list[str], longest: int) -> dict[str, Any]:
    """The payload of ``user-list``, of ids in order; one that was cut says so."""
    if len(ordered) > longest:
        return {"user_ids": ordered[:longest], "truncated": True}
    return {"user_ids": ordered}


def size(payload: dict[str, Any]) -> int:
    """About the bytes of a payload on the wire; ids that need escapes count a little less than they take."""
    total = 32
    for value in payload.values():
        total += sum(map(len, value)) + 3 * len(value) if isinstance(value, list) else 12
    return total
