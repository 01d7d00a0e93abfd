"""Fleets that tests share, and clients that end with their test."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from sim.processes.instances import Fleet, Instance
from sim.processes.redis import RedisServer
from tests.e2e.clients import KINDS, Client, Kind

APPLICATION = "sim.processes.lab_app"

Visit = Callable[[Kind], Client]


class Ground:
    """A Redis, two instances of `python -m realtime`, and an application that shows the pools."""

    def __init__(self, redis: RedisServer, settings: dict[str, str]) -> None:
        self.redis = redis
        self.fleet = Fleet(2, redis_url=redis.url, demo=True, settings=settings)
        self.one, self.two = self.fleet.instances
        self.application = Instance(
            redis_url=redis.url,
            database_url=self.one.database_url,
            demo=True,
            settings=settings,
            name="application",
            module=APPLICATION,
        )
        self.fleet.instances.append(self.application)

    async def sessions_of(self, users: Sequence[str]) -> dict[str, int]:
        """How many sessions the shared state has of each."""

        def read() -> dict[str, Any]:
            with urllib.request.urlopen(f"{self.application.url}/lab/pools", timeout=5) as answer:
                pools: dict[str, Any] = json.load(answer)["result"]
            return pools

        pools = await asyncio.to_thread(read)
        return {user: len(pools["users"].get(user, ())) for user in users}

    async def settled(self, users: Sequence[str], sessions: int, *, within: float = 10.0) -> None:
        """Wait until each of the users has that many sessions."""
        wanted = dict.fromkeys(users, sessions)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                while await self.sessions_of(users) != wanted:
                    await asyncio.sleep(0.05)
        assert await self.sessions_of(users) == wanted


@contextlib.contextmanager
def ground(binary: Path, **settings: str) -> Iterator[Ground]:
    with RedisServer(binary=binary) as redis:
        made = Ground(redis, settings)
        with made.fleet:
            yield made
            for instance in made.fleet.instances:
                assert "Traceback" not in instance.log, instance.log
                assert " ERROR " not in instance.log, instance.log


@pytest.fixture(scope="session")
def calm(redis_binary: Path) -> Iterator[Ground]:
    """Instances that nobody disturbs. Shared: use users of your own (`user`)."""
    with ground(redis_binary, REALTIME_USAGE_SECONDS="0.5") as made:
        yield made


@pytest.fixture
def user() -> Callable[[str], str]:
    """Makes a user id that no other test has."""
    suffix = secrets.token_hex(4)
    return lambda name: f"{name}-{suffix}"


@pytest.fixture(
    params=[
        pytest.param(kind, id=str(kind), marks=pytest.mark.node if kind.library == "node" else ())
        for kind in KINDS
    ]
)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Each client by each transport."""
    chosen: Kind = request.param
    if chosen.library == "node":
        request.getfixturevalue("node_modules")
    return chosen


@pytest.fixture
async def visit() -> AsyncIterator[Visit]:
    """Makes clients, not connected yet; they end with the test."""
    async with contextlib.AsyncExitStack() as stack:

        def make(kind: Kind) -> Client:
            client = kind.client()
            stack.push_async_callback(client.close)
            return client

        yield make
