"""The FastAPI application: the layer mounted at ``/ws``, and two questions an orchestrator asks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import socketio
from fastapi import FastAPI, Response

from realtime.directory import Directory
from realtime.directory.sql import SqlDirectory
from realtime.messages import MessageStore
from realtime.messages.sql import SqlMessageStore
from realtime.server import RealtimeServer
from realtime.settings import Settings

SOCKET_PATH = "/ws/socket.io"


def mount(app: FastAPI, server: RealtimeServer) -> None:
    """Serves the layer's sockets under ``/ws`` of an application; starting and stopping it stays with the caller."""
    app.mount("/ws", socketio.ASGIApp(server.wire, socketio_path=SOCKET_PATH))


def create_app(
    settings: Settings, *, directory: Directory | None = None, messages: MessageStore | None = None
) -> FastAPI:
    """The application that ``python -m realtime`` serves. ``app.state.realtime`` is its ``RealtimeServer``."""
    if directory is None:
        timeout = settings.realtime_state_timeout_seconds
        sql = SqlDirectory(settings.async_database_url, demo=settings.demo, timeout=timeout)
        directory, messages = sql, messages or SqlMessageStore(sql.database)
    server = RealtimeServer(settings, directory, messages=messages)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await server.start()
        try:
            yield
        finally:
            await server.stop()

    app = FastAPI(title="realtime", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.realtime = server
    mount(app, server)

    @app.get("/health")
    async def health() -> dict[str, bool]:
        return {"up": True}

    @app.get("/ready")
    async def ready(response: Response) -> dict[str, bool]:
        facts = await server.ready()
        response.status_code = 200 if all(facts.values()) else 503
        return facts

    return app
