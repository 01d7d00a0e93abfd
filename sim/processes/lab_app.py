"""An application with the layer inside, and a door to the layer's functions for other backend modules.

The one file of `sim` that imports `realtime`. It takes the command line of `python -m realtime`, and so is started like
an instance: `Instance(module="sim.processes.lab_app")`. The doors trust whoever reaches them; it listens on loopback.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable
from typing import Annotated, Any

import click
from fastapi import Body, FastAPI
from fastapi.responses import JSONResponse

from realtime.app import create_app
from realtime.errors import RealtimeError
from realtime.server import RealtimeServer
from realtime.serving import make_server
from realtime.settings import load_settings

Json = Annotated[dict[str, Any], Body()]


def open_doors(app: FastAPI) -> None:
    """Adds `/lab/…` to an application made by `create_app`."""
    server: RealtimeServer = app.state.realtime

    @app.post("/lab/emit")
    async def emit(request: Json) -> JSONResponse:
        """`{"request_info", "event"}`: what a chat module does for each piece of an answer."""
        return await _answer(server.get_event_emitter(request["request_info"])(request["event"]))

    @app.post("/lab/call")
    async def call(request: Json) -> JSONResponse:
        """`{"request_info", "event"}` → the session's own answer."""
        return await _answer(server.get_event_call(request["request_info"])(request["event"]))

    @app.post("/lab/enter")
    async def enter(request: Json) -> JSONResponse:
        """`{"room", "user_ids"}`: all their sessions enter the room."""
        return await _answer(server.enter_room_for_users(request["room"], request["user_ids"]))

    @app.post("/lab/tell")
    async def tell(request: Json) -> JSONResponse:
        """`{"event", "data", "room"?, "user_ids"?}`: to users, to a room, or to everyone."""
        if "user_ids" in request:
            return await _answer(server.emit_to_users(request["event"], request["data"], request["user_ids"]))
        return await _answer(server.wire.emit(request["event"], request["data"], room=request.get("room")))

    @app.get("/lab/room")
    async def room(name: str) -> JSONResponse:
        return await _answer(server.get_user_ids_from_room(name))

    @app.get("/lab/message")
    async def message(chat_id: str, message_id: str) -> JSONResponse:
        async def read() -> str | None:
            found = await server.messages.read(chat_id, message_id)
            return None if found is None else found.text

        return await _answer(read())

    @app.get("/lab/pools")
    async def pools() -> JSONResponse:
        async def read() -> dict[str, Any]:
            return {
                "sessions": await server.SESSION_POOL.items(),
                "users": await server.USER_POOL.items(),
                "usage": await server.USAGE_POOL.items(),
            }

        return await _answer(read())


async def _answer(work: Awaitable[Any]) -> JSONResponse:
    """`{"result"}`, or 409 with `{"error": code, "message"}`."""
    try:
        return JSONResponse({"result": await work})
    except RealtimeError as error:
        return JSONResponse({"error": error.code, "message": str(error)}, status_code=409)


@click.command()
@click.option("--host", required=True)
@click.option("--port", required=True, type=int)
@click.option("--redis-url", required=True)
@click.option("--database-url", required=True)
@click.option("--demo", is_flag=True)
def main(host: str, port: int, redis_url: str, database_url: str, demo: bool) -> None:
    """Serve one instance with doors."""
    try:
        settings = load_settings(
            websocket_manager="redis", websocket_redis_url=redis_url, database_url=database_url, demo=demo
        )
        settings.check_host(host)
    except RealtimeError as error:
        sys.exit(str(error))
    app = create_app(settings)
    open_doors(app)
    make_server(app, host=host, port=port).run()


if __name__ == "__main__":
    main()
