"""One instance of ``naive`` as an application, with the doors that every target offers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

import socketio
from fastapi import FastAPI

from sim.targets import Context
from sim.targets.doors import open_doors
from sim.targets.naive.layer import NaiveLayer


def make_app(context: Context) -> FastAPI:
    """``context.settings``: ``websocket_redis_lock_timeout`` and ``websocket_event_caller_timeout``, seconds."""
    layer = NaiveLayer(context)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.cleanup = asyncio.create_task(layer.periodic_usage_pool_cleanup())
        yield
        app.state.cleanup.cancel()

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.naive = layer
    open_doors(app, NaiveBackend(layer), lambda _error: None)
    app.mount("/ws", socketio.ASGIApp(layer.sio, socketio_path="/ws/socket.io"))
    return app


class NaiveBackend:
    """See ``sim.targets.doors.Backend``."""

    def __init__(self, layer: NaiveLayer) -> None:
        self._layer = layer

    async def emit(self, request_info: Mapping[str, Any], event: Any) -> None:
        await self._layer.get_event_emitter(request_info)(event)

    async def call(self, request_info: Mapping[str, Any], event: Any) -> Any:
        return await self._layer.get_event_call(request_info)(event)

    async def enter(self, room: str, user_ids: list[str]) -> None:
        """What any instance can do: its own sessions enter."""
        sio = self._layer.sio
        for user_id in user_ids:
            for sid in self._layer.USER_POOL.get(user_id, []):
                await sio.enter_room(sid, room)

    async def tell(self, event: str, data: Any, room: str | None, user_ids: list[str] | None) -> None:
        sio = self._layer.sio
        if user_ids is None:
            await sio.emit(event, data, room=room)
            return
        for user_id in user_ids:
            for sid in self._layer.USER_POOL.get(user_id, []):
                await sio.emit(event, data, to=sid)

    async def room(self, name: str) -> list[str]:
        return self._layer.user_ids_in(name)

    async def models(self) -> list[str]:
        return self._layer.USAGE_POOL.keys()

    async def lock(self) -> dict[str, Any]:
        return {"held": self._layer.cleaning, "fence": None}

    async def message(self, chat_id: str, message_id: str) -> str | None:
        return None

    async def waiting(self) -> int:
        """The manager keeps a counter beside the callbacks of each sid."""
        return sum(len(callbacks) - 1 for callbacks in self._layer.sio.manager.callbacks.values())

    async def pools(self) -> dict[str, Any]:
        layer = self._layer
        return {
            "sessions": dict(layer.SESSION_POOL.items()),
            "users": dict(layer.USER_POOL.items()),
            "usage": dict(layer.USAGE_POOL.items()),
        }
