"""What ``python -m realtime`` serves, with its defaults, plus a door and an event that is answered."""

from __future__ import annotations

import contextlib
import cProfile
import os
from collections.abc import AsyncIterator
from typing import Any

import click
from fastapi import FastAPI

from realtime.app import create_app
from realtime.serving import make_server
from realtime.settings import load_settings
from tests.bench.wire.door import open_door


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
            door = await open_door(os.environ["WIRE_DOOR"], wire.emit)
            try:
                yield state
            finally:
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
