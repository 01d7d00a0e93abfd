"""The rooms of this instance's sockets, and how the shared state learns of them.

Rooms that begin with ``~`` are this instance's own (audiences of presence and usage); the others belong to sessions
and are registered with them, so that ``get_user_ids_from_room`` sees all instances.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from realtime.errors import RealtimeError, StateUnavailable
from realtime.sessions import LocalSessions
from realtime.wire import WireManager

log = logging.getLogger(__name__)


class LocalRooms:
    """Enters and leaves rooms on this instance. ``run`` registers what changed by other ways than signing in."""

    def __init__(self, manager: WireManager, sessions: LocalSessions) -> None:
        self._manager = manager
        self._sessions = sessions
        self._changed: dict[str, None] = {}
        self._wake = asyncio.Event()
        manager.on_rooms_changed = self._on_rooms_changed

    def emit_local(self, event: str, data: Any, room: str) -> int:
        """Emits to this instance's sockets only; returns how many they are."""
        return self._manager.deliver(event, data, "/", room)

    def enter_local(self, sid: str, room: str) -> None:
        """A socket that is gone enters nothing."""
        if self._manager.eio_sid_from_sid(sid, "/") is not None:
            self._manager.basic_enter_room(sid, "/", room)

    def join(self, sid: str, rooms: Iterable[str]) -> None:
        """Makes the session's rooms exactly these."""
        wanted = set(rooms)
        for room in self.of(sid) - wanted:
            self._manager.basic_leave_room(sid, "/", room)
        for room in sorted(wanted):
            self.enter_local(sid, room)

    def leave_all(self, sid: str) -> None:
        """Leaves every room, this instance's own too, and what is sent to everyone."""
        self._manager.expel(sid)
        for room in self._manager.local_rooms(sid):
            self._manager.basic_leave_room(sid, "/", room)

    def of(self, sid: str) -> set[str]:
        """The session's rooms, without this instance's own."""
        return {room for room in self._manager.local_rooms(sid) if not room.startswith("~")}

    async def run(self) -> None:
        """Registers changed rooms until cancelled; tries again while the shared state cannot be reached."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            for sid in list(self._changed):
                try:
                    await self._register(sid)
                    self._changed.pop(sid, None)
                except StateUnavailable:
                    self._wake.set()
                except RealtimeError as error:
                    self._changed.pop(sid, None)
                    log.warning("the rooms of %s could not be registered: %s", sid, error)
            if self._wake.is_set():
                await asyncio.sleep(0.5)

    async def _register(self, sid: str) -> None:
        local = self._sessions.get(sid)
        if local is not None and local.session.rooms != self.of(sid):
            await self._sessions.register(
                replace(local.session, rooms=frozenset(self.of(sid))), local.expires_at
            )

    def _on_rooms_changed(self, sid: str, namespace: str) -> None:
        if namespace == "/" and self._sessions.get(sid) is not None:
            self._changed[sid] = None
            self._wake.set()
