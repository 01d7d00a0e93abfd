"""What ``python -m realtime`` serves, with its defaults, plus two doors and an event that is answered."""

from __future__ import annotations

import contextlib
import cProfile
import os
from collections.abc import AsyncIterator, Mapping
from typing import Any

import click
from fastapi import FastAPI

from realtime.app import create_app
from realtime.server import RealtimeServer
from realtime.serving import make_server
from realtime.settings import load_settings
from tests.bench.wire.door import Emit, open_door

ANSWERS = "-answers"
"""What the name of the second door ends with."""
KEPT = "kept:"


def answering(server: RealtimeServer) -> Emit:
    """Emits a word of an answer to the user whom the text names; it is kept if the text begins so."""

    async def emit(_name: str, data: Mapping[str, Any], **_: Any) -> None:
        user_id = data["text"].removeprefix(KEPT)
        info = {"user_id": user_id, "chat_id": "chat", "message_id": user_id}
        emitter = server.get_event_emitter(info, update_db=data["text"].startswith(KEPT))
        await emitter({"type": "message", "data": {"content": "word "}})

    return emit


@click.command()
@click.option("--host", required=True)
@click.option("--port", required=True, type=int)
@click.option("--redis-url")
@click.option("--database-url", required=True)
def main(host: str, port: int, redis_url: str | None, database_url: str) -> None:
    settings = load_settings(
        websocket_manager="redis" if redis_url else None,
        websocket_redis_url=redis_url,
        database_url=database_url,
    )
    app = create_app(settings)
    wire = app.state.realtime.wire
    lifespan = app.router.lifespan_context

    @contextlib.asynccontextmanager
    async def with_door(app: FastAPI) -> AsyncIterator[Any]:
        async with lifespan(app) as state:
            doors = [
                await open_door(os.environ["WIRE_DOOR"], wire.emit),
                await open_door(os.environ["WIRE_DOOR"] + ANSWERS, answering(app.state.realtime)),
            ]
            try:
                yield state
            finally:
                for door in doors:
                    door.close()

    app.router.lifespan_context = with_door

    async def echo(_sid: str, data: Any) -> Any:
        return data

    wire.on("echo", echo)
    server = make_server(app, host=host, port=port)
    if path := os.environ.get("WIRE_TRACE"):
        tracer = cProfile.Profile()
        tracer.runcall(server.run)
        tracer.dump_stats(path)
    else:
        server.run()


if __name__ == "__main__":
    main()
