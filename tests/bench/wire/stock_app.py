"""The same on python-socketio's own ``AsyncServer`` under uvicorn: tokens are checked, rooms entered, acks given.

With a database the connect handler does all that ours does (``stock_handler``).
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

import click
import jwt
import socketio
import uvicorn

from realtime.settings import load_settings
from tests.bench.wire import event
from tests.bench.wire.door import open_door
from tests.bench.wire.stock_handler import SignIn


@click.command()
@click.option("--host", required=True)
@click.option("--port", required=True, type=int)
@click.option("--redis-url")
@click.option("--database-url")
def main(host: str, port: int, redis_url: str | None, database_url: str | None) -> None:
    manager = socketio.AsyncRedisManager(redis_url) if redis_url else None
    server = socketio.AsyncServer(async_mode="asgi", client_manager=manager)
    key = os.environ["WEBUI_SECRET_KEY"].encode()
    sign_in = SignIn(server, load_settings(database_url=database_url)) if database_url else None
    doors: list[asyncio.Server] = []

    async def connect(sid: str, _environ: dict[str, Any], auth: dict[str, str]) -> None:
        claims = jwt.decode(auth["token"], key, algorithms=["HS256"])
        await server.enter_room(sid, f"user:{claims['id']}")
        await server.enter_room(sid, event.ROOM)

    async def echo(_sid: str, data: Any) -> Any:
        return data

    async def start() -> None:
        if sign_in is not None:
            await sign_in.start()
        doors.append(await open_door(os.environ["WIRE_DOOR"], server.emit))

    server.on("connect", connect if sign_in is None else sign_in.connect)
    if sign_in is not None:
        server.on("disconnect", sign_in.disconnect)
    server.on("echo", echo)
    app = socketio.ASGIApp(server, socketio_path="/ws/socket.io", on_startup=start)
    uvicorn.run(app, host=host, port=port, loop="uvloop", log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
