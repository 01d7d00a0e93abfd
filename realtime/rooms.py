"""The rooms of this instance's sockets, and how the shared state learns of them.

Rooms that begin with ``~`` are this instance's own (audiences of presence and usage); the others belong to sessions
and are registered with them, so that ``get_user_ids_from_room`` sees all instances. ``user:`` and ``channel:`` follow
token and directory, whatever else there is the application's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable
from functools import partial
from typing import Any

from realtime.errors import InvalidPayload, RealtimeError, StateUnavailable
from realtime.ids import check_id
from realtime.sessions import LocalSessions
from realtime.wire import WireManager

log = logging.getLogger(__name__)


LOCAL = "~"
OF_IDENTITY = ("user:", "channel:")
MAX_NAME_LENGTH = 512
RETRY_SECONDS = 0.5


class LocalRooms:
    """Enters and leaves rooms on this instance. ``run`` registers what changed by other ways than signing in."""

    def __init__(self, manager: WireManager, sessions: LocalSessions) -> None:
        self._manager = manager
        self._sessions = sessions
        self._changed: dict[str, None] = {}
        self._wake = asyncio.Event()
        manager.on_rooms_changed = self._on_rooms_changed

    def emit_local(self, event: str, data: Any, room: str, *, skip: Collection[str] = ()) -> int:
        """Emits to this instance's sockets only, but those ``skip`` names; returns how many they are."""
        return self._manager.deliver(event, data, "/", room, skip)

    def enter_local(self, sid: str, room: str) -> None:
        """Enters a room of this instance only: no other instance's emit reaches it. A socket that is gone enters
        nothing."""
        if self._manager.eio_sid_from_sid(sid, "/") is not None:
            self._manager.basic_enter_room(sid, "/", room)

    def prepare(self, rooms: Iterable[str]) -> None:
        """Begins to hear what other instances emit to these rooms, for a session that will join them soon."""
        if self._manager.channels is not None:
            self._manager.channels.want("/", sorted(rooms))

    async def join(self, sid: str, rooms: Iterable[str]) -> None:
        """Makes the rooms of user and channels exactly these; the application's stay. All are entered and left at
        once; it returns when what any instance emits to them reaches the socket.

        Raises ``StateUnavailable`` when that is not certain in time; then those that were new are left again.
        """
        wanted = set(rooms)
        self.leave_lost(sid, wanted)
        if self._manager.eio_sid_from_sid(sid, "/") is not None:
            await self._manager.join(sid, sorted(wanted))

    def leave_lost(self, sid: str, rooms: Collection[str]) -> None:
        """Leaves those rooms of user and channels that are not among these."""
        for room in self.of(sid).difference(rooms):
            if room.startswith(OF_IDENTITY):
                self._manager.basic_leave_room(sid, "/", room)

    def leave_all(self, sid: str) -> None:
        """Leaves every room, this instance's own too, and what is sent to everyone."""
        self._manager.expel(sid)
        for room in self._manager.local_rooms(sid):
            self._manager.basic_leave_room(sid, "/", room)

    def is_in(self, sid: str, room: str) -> bool:
        member = self._manager.book.get(sid, "/")
        return member is not None and room in member.rooms

    def of(self, sid: str) -> frozenset[str]:
        """The session's rooms, without this instance's own and those whose names the shared state cannot keep."""
        return frozenset(room for room in self._manager.local_rooms(sid) if _is_shared(room))

    def of_application(self, sid: str) -> frozenset[str]:
        return frozenset(room for room in self.of(sid) if not room.startswith(OF_IDENTITY))

    async def run(self) -> None:
        """Registers changed rooms until cancelled; tries again while the shared state cannot be reached."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            for sid in list(self._changed):
                del self._changed[sid]
                try:
                    await self._sessions.change_rooms(sid, partial(self.of, sid))
                except StateUnavailable:
                    self._changed[sid] = None
                    self._wake.set()
                    break
                except RealtimeError as error:
                    about = {"sid": sid, "user": self._sessions.user_of(sid)}
                    log.warning("the rooms of %s could not be registered: %s", sid, error, extra=about)
            if self._wake.is_set():
                await asyncio.sleep(RETRY_SECONDS)

    def tell(self, sid: str) -> None:
        """Has the shared state know soon in which rooms the session is."""
        if self._sessions.get(sid) is not None:
            self._changed[sid] = None
            self._wake.set()

    def _on_rooms_changed(self, sid: str, namespace: str) -> None:
        if namespace == "/":
            self.tell(sid)


def _is_shared(room: object) -> bool:
    try:
        return not check_id(room, what="room", max_length=MAX_NAME_LENGTH).startswith(LOCAL)
    except InvalidPayload:
        return False


def check_room(room: object) -> str:
    """The name of a room that an application may put users into. Raises ``InvalidPayload``."""
    name = check_id(room, what="room", max_length=MAX_NAME_LENGTH)
    if name.startswith((LOCAL, "user:")):
        raise InvalidPayload(f"room: names that begin with {LOCAL} or user: are the layer's own")
    return name
