"""`python -m realtime` with one event more, whose handler takes a minute: for tests of the shutdown."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import FastAPI

from realtime import __main__ as command
from realtime.app import create_app


def with_a_busy_handler(*args: Any, **options: Any) -> FastAPI:
    app = create_app(*args, **options)

    async def busy(_sid: str, *_args: Any) -> None:
        await asyncio.sleep(60)

    app.state.realtime.wire.on("busy", busy)
    return app


if __name__ == "__main__":
    command.create_app = with_a_busy_handler
    command.main(prog_name="python -m realtime")
