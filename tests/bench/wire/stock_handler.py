"""What our connect handler does, on python-socketio's own server: by our own parts, sent by stock ones."""

from __future__ import annotations

from typing import Any

import socketio

from realtime.auth import decode_token
from realtime.directory.sql import SqlDirectory
from realtime.pacing import Pacer
from realtime.presence import size
from realtime.replica import Difference, Replica
from realtime.settings import Settings
from realtime.sorted_ids import SortedIds
from realtime.state import MemoryState, Session
from realtime.tasks import Supervisor

LISTENERS = "~lists"
LEASE_MS = 24 * 3600 * 1000


class SignIn:
    """``connect`` and ``disconnect``. Less than ours: no second look at channels and revocations, no limits on
    rates and rooms, no end of tokens, no repairs."""

    def __init__(self, server: socketio.AsyncServer, settings: Settings) -> None:
        self._server = server
        self._secret = settings.secret_key
        self._cap = settings.realtime_max_sessions_per_user
        self._directory = SqlDirectory(settings.async_database_url)
        self._state = MemoryState()
        self._replica = Replica(self._state, self._on_difference)
        self._online = SortedIds()
        self._lease = ""
        self._tasks = Supervisor()
        self._pacer = Pacer(
            self._tell,
            interval=settings.realtime_list_interval_seconds,
            bytes_per_second=settings.realtime_list_bytes_per_second,
        )

    async def start(self) -> None:
        await self._directory.start()
        self._lease = (await self._state.acquire("stock", LEASE_MS)).id
        self._tasks.spawn("replica", self._replica.run)
        self._tasks.spawn("presence", self._pacer.run)
        self._replica.want_snapshot()

    async def connect(self, sid: str, _environ: dict[str, Any], auth: dict[str, str]) -> None:
        claims = decode_token(auth["token"], self._secret)
        found = await self._directory.login(claims.user_id)
        if found is None:
            raise socketio.exceptions.ConnectionRefusedError("unknown user")
        user, channels = found
        rooms = frozenset({f"user:{user.id}", *(f"channel:{channel}" for channel in channels)})
        issued_at_ms = None if claims.issued_at is None else int(claims.issued_at * 1000)
        session = Session(sid=sid, user=user, rooms=rooms, jti=claims.jti, issued_at_ms=issued_at_ms)
        await self._state.register(self._lease, [session], cap=self._cap)
        for room in sorted(rooms):
            await self._server.enter_room(sid, room)
        users = self._list()
        await self._server.emit("user-list", users, to=sid)
        self._pacer.charge(size(users))
        await self._server.enter_room(sid, LISTENERS)
        # A list that went to the others since this one's was taken did not come here.
        self._pacer.nudge()
        await self._server.emit("usage", {"models": sorted(self._replica.models)}, to=sid)

    async def disconnect(self, sid: str, _reason: str) -> None:
        await self._state.unregister([sid])

    def _on_difference(self, difference: Difference) -> None:
        self._online.follow(self._replica.users, difference.joins | difference.leaves)
        self._pacer.nudge()

    async def _tell(self) -> int:
        users = self._list()
        await self._server.emit("user-list", users, room=LISTENERS)
        return size(users) * len(self._replica.users)

    def _list(self) -> dict[str, Any]:
        return {"user_ids": self._online.ordered.copy()}
