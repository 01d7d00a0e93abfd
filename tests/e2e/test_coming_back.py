"""An instance is killed, stopped or cut off from Redis: every kind of client is told, and is back by itself.

All kinds are there at once, because starting an instance takes longer than anything that is tried here.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.e2e.clients import KINDS, Client, Kind, Refused, signed_in
from tests.e2e.conftest import Ground, Visit, ground

pytestmark = [pytest.mark.e2e, pytest.mark.node]

LEASE_SECONDS = 2.0


@pytest.fixture(scope="module")
def rough(redis_binary: Path) -> Iterator[Ground]:
    """Instances of this module's own; each test leaves them running."""
    with ground(
        redis_binary, REALTIME_LEASE_SECONDS=f"{LEASE_SECONDS:g}", REALTIME_STATE_TIMEOUT_SECONDS="1"
    ) as made:
        yield made


@contextlib.asynccontextmanager
async def crowd(url: str) -> AsyncIterator[dict[str, Client]]:
    """One client of each kind, by user id, connected and willing to come back."""
    suffix = secrets.token_hex(3)
    clients = {f"{kind}-{suffix}": kind.client() for kind in KINDS}
    try:
        await asyncio.gather(
            *(client.connect(url, signed_in(user), reconnection=True) for user, client in clients.items())
        )
        yield clients
    finally:
        await asyncio.gather(*(client.close() for client in clients.values()))


def marks(clients: dict[str, Client]) -> dict[str, int]:
    """Where each client's news begin."""
    return {user: len(client.seen) for user, client in clients.items()}


async def all_hear(clients: dict[str, Client], after: dict[str, int], event: str) -> dict[str, object]:
    heard = [client.wait_for(event, after=after[user]) for user, client in clients.items()]
    return dict(zip(clients, await asyncio.gather(*heard), strict=True))


async def test_clients_of_a_killed_instance_are_back_when_it_is_and_registered_once(
    rough: Ground, node_modules: Path, visit: Visit
) -> None:
    watcher = visit(Kind("python", "websocket"))
    await watcher.connect(rough.two.url, signed_in("watcher"))
    async with crowd(rough.one.url) as clients:
        await watcher.wait_for("user-list", lambda data: clients.keys() <= set(data["user_ids"]))
        before, watched = marks(clients), len(watcher.seen)
        await asyncio.to_thread(rough.one.kill)
        await watcher.wait_for("user-list", lambda data: data["user_ids"] == ["watcher"], after=watched)
        await asyncio.to_thread(rough.one.start)
        await all_hear(clients, before, "~connect")
        await watcher.wait_for(
            "user-list", lambda data: clients.keys() <= set(data["user_ids"]), after=watched
        )
        await rough.settled(list(clients), 1)


async def test_clients_that_are_back_before_the_lease_ends_are_registered_once_all_the_same(
    rough: Ground, node_modules: Path
) -> None:
    async with crowd(rough.one.url) as clients:
        before = marks(clients)
        await asyncio.to_thread(rough.one.kill)
        await asyncio.to_thread(rough.one.start)
        await all_hear(clients, before, "~connect")
        await rough.settled(list(clients), 1)
        for user, client in clients.items():
            assert await client.call("user-join", {"auth": signed_in(user)}) == {"id": user, "name": user}
        await rough.settled(list(clients), 1)


async def test_clients_of_a_stopped_instance_are_told_leave_at_once_and_come_back(
    rough: Ground, node_modules: Path, visit: Visit
) -> None:
    watcher = visit(Kind("python", "websocket"))
    await watcher.connect(rough.two.url, signed_in("watcher"))
    async with crowd(rough.one.url) as clients:
        await watcher.wait_for("user-list", lambda data: clients.keys() <= set(data["user_ids"]))
        before, watched = marks(clients), len(watcher.seen)
        assert await asyncio.to_thread(rough.one.terminate) in (0, -15)
        told = await all_hear(clients, before, "closing")
        assert list(told.values()) == [{"code": 4010, "reason": "server is shutting down"}] * len(KINDS)
        # Before the lease could have ended: they were unregistered, not left to expire.
        assert await rough.sessions_of(list(clients)) == dict.fromkeys(clients, 0)
        await watcher.wait_for("user-list", lambda data: data["user_ids"] == ["watcher"], after=watched)
        await asyncio.to_thread(rough.one.start)
        await all_hear(clients, before, "~connect")
        await rough.settled(list(clients), 1)


async def test_while_redis_hangs_clients_are_refused_with_a_message_and_let_in_afterwards(
    rough: Ground, node_modules: Path, visit: Visit
) -> None:
    async def refused(kind: Kind) -> tuple[str, object]:
        with pytest.raises(Refused) as caught:
            await visit(kind).connect(rough.one.url, signed_in("late"))
        return caught.value.message, caught.value.data

    await asyncio.to_thread(rough.redis.pause)
    try:
        async with asyncio.timeout(10):
            while await asyncio.to_thread(rough.one.ready):
                await asyncio.sleep(0.05)
        told = await asyncio.gather(*map(refused, KINDS))
    finally:
        rough.redis.resume()
    assert [data for _, data in told] == [{"code": "unavailable"}] * len(KINDS)
    assert all("try again" in message for message, _ in told), told
    async with asyncio.timeout(10):
        while not await asyncio.to_thread(rough.one.ready):
            await asyncio.sleep(0.05)
    async with crowd(rough.one.url) as clients:
        await rough.settled(list(clients), 1)
