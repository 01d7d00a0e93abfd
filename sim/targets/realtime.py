"""The target ``realtime``: the layer of this repository, with its directory behind the simulated database host."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI

from realtime.app import mount
from realtime.directory import User
from realtime.errors import DirectoryUnavailable
from realtime.server import RealtimeServer
from realtime.settings import load_settings
from sim.targets import Context

LOOK_UP_SECONDS = 2.0


class RemoteDirectory:
    """A ``Directory`` that asks the database host: a connection for every look-up, so that none waits for another."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port

    async def start(self) -> None:
        return None

    async def close(self) -> None:
        return None

    async def login(self, user_id: str) -> tuple[User, frozenset[str]] | None:
        found = await self._ask("login", user_id)
        if found is None:
            return None
        name, channels = found
        return User(user_id, name, "user", "/user.png"), frozenset(channels)

    async def user(self, user_id: str) -> User | None:
        found = await self.login(user_id)
        return None if found is None else found[0]

    async def channels(self, user_id: str) -> frozenset[str]:
        found = await self.login(user_id)
        return frozenset() if found is None else found[1]

    async def members(self, channel_id: str) -> frozenset[str]:
        return frozenset(await self._ask("members", channel_id))

    async def _ask(self, verb: str, argument: str) -> Any:
        try:
            async with asyncio.timeout(LOOK_UP_SECONDS):
                reader, writer = await asyncio.open_connection(self._host, self._port)
                try:
                    writer.write(json.dumps([verb, argument]).encode() + b"\n")
                    return json.loads(await reader.readline())
                finally:
                    writer.close()
        except (OSError, TimeoutError, ValueError) as error:
            raise DirectoryUnavailable from error


def make_app(context: Context) -> FastAPI:
    """One instance. ``context.settings`` go to ``realtime.settings`` by their field names."""
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
    mount(app, server)
    return app
