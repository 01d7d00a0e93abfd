"""The state's verbs as fast as one process can issue them, and how many commands each costs the server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from realtime.directory import User
from realtime.link import RedisLink, SingleConnector
from realtime.state import RedisState, Session
from sim.processes.redis import RedisServer

CALLS = 10_000
IN_FLIGHT = 16


@dataclass(frozen=True, slots=True)
class Verb:
    """``per_second`` in one process; ``commands``: what the server counted for one call."""

    name: str
    per_second: float
    commands: float


async def verbs() -> list[Verb]:
    async with RedisServer() as server:
        link = RedisLink(SingleConnector(server.url))
        state = RedisState(link, root="{bench}")
        lease = await state.acquire("bench~1", 3_600_000)
        sids = [f"sid-{number:06d}" for number in range(CALLS)]

        async def register(number: int) -> None:
            user = User(f"user-{number:06d}", "Name", "user", "/user.png")
            rooms = frozenset({f"user:{user.id}", "channel:general"})
            await state.register(lease.id, [Session(sids[number], user, rooms)], cap=50)

        async def touch(number: int) -> None:
            await state.touch(sids[number], [f"model-{number % 20}"], ttl_ms=3000, cap=100)

        async def unregister(number: int) -> None:
            await state.unregister([sids[number]])

        measured = []
        steps: list[tuple[str, Callable[[int], Awaitable[None]]]] = [
            ("register", register),
            ("touch", touch),
            ("unregister", unregister),
        ]
        try:
            for name, call in steps:
                await call(0)  # the script's text travels once
                before = await _commands(link)
                seconds = await _run(call)
                after = await _commands(link)
                # The second INFO counts the first one and the connections' own set-up, not itself.
                measured.append(Verb(name, CALLS / seconds, (after - before) / CALLS))
        finally:
            await link.close()
    return measured


async def _run(call: Callable[[int], Awaitable[None]]) -> float:
    async def worker(first: int) -> None:
        for number in range(first, CALLS, IN_FLIGHT):
            await call(number)

    began = time.perf_counter()
    await asyncio.gather(*(worker(first) for first in range(IN_FLIGHT)))
    return time.perf_counter() - began


async def _commands(link: RedisLink) -> int:
    """Scripts that clients called; what those do inside the server is no round trip."""
    stats = await link.run(lambda redis: redis.info("commandstats"))
    return sum(
        int(row["calls"]) for name, row in stats.items() if name in ("cmdstat_evalsha", "cmdstat_eval")
    )
