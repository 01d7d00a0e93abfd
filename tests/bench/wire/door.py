"""The door by which the load has a Python server emit: lines ``FIRST COUNT TEXT`` on a unix socket."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from tests.bench.wire import event

Emit = Callable[..., Awaitable[Any]]


class Door(asyncio.Protocol):
    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._tasks: set[asyncio.Task[None]] = set()

    def data_received(self, data: bytes) -> None:
        for line in data.decode().splitlines():
            first, count, text = line.split(" ", 2)
            task = asyncio.create_task(self._run(int(first), int(count), text))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _run(self, first: int, count: int, text: str) -> None:
        for number in range(first, first + count):
            await self._emit(event.NAME, {"n": number, "text": text}, room=event.ROOM)


async def open_door(path: str, emit: Emit) -> asyncio.Server:
    return await asyncio.get_running_loop().create_unix_server(lambda: Door(emit), path)
