"""The same on python-socketio's own ``AsyncServer`` under uvicorn: tokens are checked, rooms entered, acks given."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import click
import jwt
import socketio
import uvicorn

from tests.bench.wire import event
from tests.bench.wire.door import open_door


@click.command()
@click.option("--host", required=True)
@click.option("--port", required=True, type=int)
@click.option("--redis-url")
def main(host: str, port: int, redis_url: str | None) -> None:
    manager = socketio.AsyncRedisManager(redis_url) if redis_url else None
    server = socketio.AsyncServer(async_mode="asgi", client_manager=manager)
    key = os.environ["WEBUI_SECRET_KEY"].encode()
    doors: list[asyncio.Server] = []

    async def connect(sid: str, _environ: dict[str, Any], auth: dict[str, str]) -> None:
        claims = jwt.decode(auth["token"], key, algorithms=["HS256"])
        await server.enter_room(sid, f"user:{claims['id']}")
        await server.enter_room(sid, event.ROOM)

    async def echo(_sid: str, data: Any) -> Any:
        return data

    async def start() -> None:
        doors.append(await open_door(os.environ["WIRE_DOOR"], server.emit))

    server.on("connect", connect)
    server.on("echo", echo)
    app = socketio.ASGIApp(server, socketio_path="/ws/socket.io", on_startup=start)
    uvicorn.run(app, host=host, port=port, loop="uvloop", log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
