"""Serves any target as a real process, on a real Redis: ``python -m sim.targets.serve TARGET --port P --redis-url U``.

The database host that targets ask is served beside it, on a free port, unless another is named. ``GET /ready`` answers
200 as soon as the target serves; ``POST /lab/clock`` with ``{"seconds"}`` puts the process' wall clock ahead by so
much. ``WEBUI_SECRET_KEY`` signs the tokens.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from typing import Any

import click
import uvicorn

from sim.directory_node import Lines, Users
from sim.targets import SECRET, Context, UnknownTarget, load, websocket_protocol

LOOPBACK = "127.0.0.1"
SHUTDOWN_SECONDS = 5


@click.command()
@click.argument("target")
@click.option("--host", default=LOOPBACK, show_default=True)
@click.option("--port", required=True, type=int)
@click.option("--redis-url", required=True)
@click.option(
    "--directory", help="HOST:PORT of a database host that instances share; else one is served here."
)
@click.option("--name", default="", help="Of this instance; else its address.")
@click.option("--settings", default="{}", help="What the target is told beside that, as JSON.")
def main(
    target: str, host: str, port: int, redis_url: str, directory: str | None, name: str, settings: str
) -> None:
    """Serve one instance of TARGET: naive, realtime, or MODULE:FACTORY."""
    try:
        told = json.loads(settings)
    except ValueError:
        raise click.UsageError(f"--settings is no JSON: {settings}") from None
    try:
        asyncio.run(_serve(target, host, port, redis_url, directory, name or f"{host}:{port}", told))
    except UnknownTarget as error:
        raise click.UsageError(str(error)) from None


async def _serve(
    target: str,
    host: str,
    port: int,
    redis_url: str,
    directory: str | None,
    name: str,
    settings: dict[str, Any],
) -> None:
    factory = load(target)
    if directory is None:
        users = Users()
        served = await asyncio.get_running_loop().create_server(lambda: Lines(users), LOOPBACK, 0)
        address = served.sockets[0].getsockname()
    else:
        place, _colon, number = directory.rpartition(":")
        address = (place, int(number))
    secret = os.environ.get("WEBUI_SECRET_KEY", SECRET)
    app = factory(Context(name, redis_url, address, secret=secret, settings=settings))
    config = uvicorn.Config(
        _OwnDoors(app),
        host=host,
        port=port,
        ws=websocket_protocol(app),
        ws_ping_interval=None,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    await uvicorn.Server(config).serve()


class _OwnDoors:
    """What every target that is served has, whether it knows of it or not."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"] == "/ready":
            await _answer(send)
        elif scope["type"] == "http" and scope["path"] == "/lab/clock":
            _put_clock_ahead(float(json.loads((await receive())["body"])["seconds"]))
            await _answer(send, b"{}")
        else:
            await self._app(scope, receive, send)


async def _answer(send: Any, body: bytes = b"") -> None:
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


_true_time = time.time


def _put_clock_ahead(seconds: float) -> None:
    """As far as an application sees it that asks ``time.time()``; timers go on as they were."""
    time.time = lambda: _true_time() + seconds


if __name__ == "__main__":
    main(prog_name="python -m sim.targets.serve")
