"""The target ``realtime``: the layer of this repository, with the doors that every target offers.

The one file of ``sim`` that imports ``realtime``.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

from fastapi import FastAPI

from realtime.app import create_app, mount
from realtime.directory import User
from realtime.errors import DirectoryUnavailable, RealtimeError
from realtime.server import RealtimeServer
from realtime.serving import make_server
from realtime.settings import load_settings
from realtime.wire import DirectProtocol
from sim.targets import Context
from sim.targets.directory import Directory, DirectoryError
from sim.targets.doors import open_doors


def make_app(context: Context) -> FastAPI:
    """One simulated instance. ``context.settings`` go to ``realtime.settings`` by their field names."""
    settings = load_settings(
        **{
            "webui_secret_key": context.secret,
            "websocket_manager": "redis",
            "websocket_redis_url": context.redis_url,
            "realtime_instance_name": context.name,
            **context.settings,
        }
    )
    server = RealtimeServer(settings, RemoteDirectory(*context.database))

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await server.start()
        try:
            yield
        finally:
            await server.stop()

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.realtime = server
    app.state.websocket_protocol = DirectProtocol  # as `realtime.serving` has it
    app.state.marks = lambda: safeguards(server)
    open_doors(app, RealtimeBackend(server), refusal)
    mount(app, server)
    return app


def safeguards(server: RealtimeServer) -> dict[str, int]:
    """How often each thing acted that keeps an instance right when others fail: every one must be seen at work."""
    replica, leases, repairs = server.replica.counts, server.leases.counts, server.repairs.counts
    counters = server.wire.counters
    return {
        "stale version dropped": replica["stale"],
        "gap in the versions noticed": replica["gap"],
        "lost last change noticed by the lease": replica["lost"],
        "rollback made a new epoch": replica["rollback"],
        "lease found lost": leases["lost"],
        "judged nobody after a stall": leases["abstained"],
        "registration refused without a lease": server.sessions.counts["refused"],
        "sessions of the dead reaped": repairs["reaped"],
        "sessions registered again": repairs["reregistered"],
        "orphaned sessions removed": repairs["removed"],
        "connect of one who had gone undone": counters.connects_of_gone,
        "connect refused": counters.connects_refused,
        "call timed out": server.emitters.counts["timed out"] + counters.calls_timed_out,
        "call to one who had gone ended": counters.calls_gone,
        "slow consumer closed": counters.slow_consumers,
        "closed by the server": counters.closed_by_server,
        "publishing failed, told to the sender": counters.bus_unavailable,
    }


def serve(*, host: str, port: int, redis_url: str, database_url: str, demo: bool) -> None:
    """One instance as a process, with doors, on its real database. Raises ``ValueError`` for a wrong setting."""
    try:
        settings = load_settings(
            websocket_manager="redis", websocket_redis_url=redis_url, database_url=database_url, demo=demo
        )
        settings.check_host(host)
    except RealtimeError as error:
        raise ValueError(str(error)) from None
    app = create_app(settings)
    open_doors(app, RealtimeBackend(app.state.realtime), refusal)
    make_server(app, host=host, port=port).run()


def refusal(error: Exception) -> tuple[str, str] | None:
    return (error.code, str(error)) if isinstance(error, RealtimeError) else None


class RealtimeBackend:
    """See ``sim.targets.doors.Backend``."""

    def __init__(self, server: RealtimeServer) -> None:
        self._server = server

    async def emit(self, request_info: Mapping[str, Any], event: Any) -> None:
        await self._server.get_event_emitter(request_info)(event)

    async def call(self, request_info: Mapping[str, Any], event: Any) -> Any:
        return await self._server.get_event_call(request_info)(event)

    async def enter(self, room: str, user_ids: list[str]) -> None:
        await self._server.enter_room_for_users(room, user_ids)

    async def tell(self, event: str, data: Any, room: str | None, user_ids: list[str] | None) -> None:
        if user_ids is None:
            await self._server.wire.emit(event, data, room=room)
        else:
            await self._server.emit_to_users(event, data, user_ids)

    async def room(self, name: str) -> list[str]:
        return await self._server.get_user_ids_from_room(name)

    async def models(self) -> list[str]:
        return await self._server.get_models_in_use()

    async def lock(self) -> dict[str, Any]:
        cleanup = self._server.cleanup
        return {"held": cleanup.leading, "fence": cleanup.fence}

    async def message(self, chat_id: str, message_id: str) -> str | None:
        found = await self._server.messages.read(chat_id, message_id)
        return None if found is None else found.text

    async def waiting(self) -> int:
        manager = self._server.manager
        return len(manager.waiting) + sum(len(member.asks) for member in manager.book.members.values())

    async def pools(self) -> dict[str, Any]:
        server = self._server
        return {
            "sessions": await server.SESSION_POOL.items(),
            "users": await server.USER_POOL.items(),
            "usage": await server.USAGE_POOL.items(),
        }


class RemoteDirectory:
    """The layer's ``Directory`` on the simulated database host."""

    def __init__(self, host: str, port: int) -> None:
        self._directory = Directory(host, port)

    async def start(self) -> None:
        return None

    async def close(self) -> None:
        return None

    async def login(self, user_id: str) -> tuple[User, frozenset[str]] | None:
        try:
            found = await self._directory.login(user_id)
        except DirectoryError as error:
            raise DirectoryUnavailable from error
        if found is None:
            return None
        channels = frozenset(found.pop("channels"))
        return User(**found), channels

    async def channels(self, user_id: str) -> frozenset[str]:
        found = await self.login(user_id)
        return frozenset() if found is None else found[1]
