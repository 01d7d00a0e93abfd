"""The FastAPI application: the layer mounted at ``/ws``, and two questions an orchestrator asks."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import socketio
from fastapi import FastAPI, Response
from starlette.routing import Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from realtime.demo.routes import mount_demo
from realtime.directory import Directory
from realtime.directory.sql import SqlDirectory
from realtime.errors import RealtimeError
from realtime.messages import MessageStore
from realtime.messages.sql import SqlMessageStore
from realtime.server import RealtimeServer
from realtime.settings import Settings

log = logging.getLogger(__name__)

SOCKET_PATH = "/ws/socket.io"


def mount(app: FastAPI, server: RealtimeServer) -> None:
    """Serves the layer's sockets under ``/ws`` of an application; starting and stopping it stays with the caller."""
    # The router refuses all other paths; socketio by itself answers a websocket there as if it were a request.
    sockets: ASGIApp = socketio.ASGIApp(server.wire, Router(), socketio_path=SOCKET_PATH)
    if server.settings.demo:
        sockets = LoopbackOnly(sockets)
    app.mount("/ws", sockets)
    app.state.realtime_sockets = sockets


def create_app(
    settings: Settings, *, directory: Directory | None = None, messages: MessageStore | None = None
) -> FastAPI:
    """The application that ``python -m realtime`` serves. ``app.state.realtime`` is its ``RealtimeServer``."""
    sql: SqlDirectory | None = None
    if directory is None:
        timeout = settings.realtime_state_timeout_seconds
        sql = SqlDirectory(settings.async_database_url, demo=settings.demo, timeout=timeout)
        directory = sql
        messages = SqlMessageStore(sql.database) if messages is None else messages
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
    app.add_middleware(ReadableStart)
    if settings.demo:
        app.add_middleware(LoopbackOnly)
    mount(app, server)
    if settings.demo and sql is not None:
        mount_demo(app, server, sql)

    @app.get("/health")
    async def health() -> dict[str, bool]:
        return {"up": True}

    @app.get("/ready")
    async def ready(response: Response) -> dict[str, bool]:
        facts = await server.ready()
        response.status_code = 200 if all(facts.values()) else 503
        return facts

    return app


class ReadableStart:
    """Has the web server say why the layer could not start, where Starlette hands it a traceback."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        told: list[Message] = []

        async def hold_failure(message: Message) -> None:
            if message["type"] == "lifespan.startup.failed":
                told.append(message)
            else:
                await send(message)

        try:
            await self._app(scope, receive, hold_failure)
        except RealtimeError as error:
            if not told:
                raise
            await send({**told[0], "message": f"cannot start: {error}"})
        except BaseException:
            for message in told:
                await send(message)
            raise


class SocketsFirst:
    """Hands what is for the sockets straight to them. All that an application wraps around its own requests, for
    errors and open files, would cost a connecting client a tenth more and do nothing for it."""

    def __init__(self, app: FastAPI) -> None:
        """``app`` as ``create_app`` made it: past middleware that others added nothing is handed."""
        added = {each.cls for each in app.user_middleware} - {ReadableStart, LoopbackOnly}
        self._app = app
        self._sockets: ASGIApp = app if added else app.state.realtime_sockets

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        for_sockets = scope["type"] != "lifespan" and scope["path"].startswith(f"{SOCKET_PATH}/")
        await (self._sockets if for_sockets else self._app)(scope, receive, send)


class LoopbackOnly:
    """A demo's tokens can be made by anybody, so only this machine may reach it, whatever address it listens on. Its
    pages neither: a name of somebody else's that was made to point here gives theirs the same origin ("DNS rebinding").
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        here = scope["type"] == "lifespan" or (
            is_loopback((scope.get("server") or ("", None))[0]) and names_loopback(scope)
        )
        if here:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": "a demo serves this machine only"})
        else:
            await Response("a demo serves this machine only\n", status_code=403)(scope, receive, send)


def is_loopback(address: str) -> bool:
    """Whether the server's own end of a connection can be reached from this machine only."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address.startswith("/")  # a unix socket


def names_loopback(scope: Scope) -> bool:
    """Whether the client asked for this machine by a name that always means it. Without a name, it is no browser."""
    named = next(
        (value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "localhost"
    )
    try:
        host = urlsplit(f"//{named}").hostname or "nobody"
    except ValueError:
        return False
    return host == "localhost" or host.endswith(".localhost") or is_loopback(host)
