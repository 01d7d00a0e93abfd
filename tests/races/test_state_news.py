"""News of presence that come late, out of order or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from typing import Any

import pytest
import redis.asyncio
from redis.asyncio import Redis

from realtime.link.connect import SingleConnector
from sim.processes.redis import RedisServer
from tests.races.lab import node, two, until_agreed
from tests.support.relay import relay
from tests.support.stack import Client, client, until

SLOW_LEASE: dict[str, Any] = {"realtime_lease_seconds": 600}
"""Renewals are too rare to help: what heals here is something else."""


def never_goes_back(tab: Client, *, leavers: frozenset[str] = frozenset()) -> bool:
    """Whether each list holds everyone of the list before, but for those who left."""
    lists = [set(data["user_ids"]) for data in tab.of("user-list")]
    return all(earlier - leavers <= later for earlier, later in itertools.pairwise(lists))


async def test_stale_user_list_a_snapshot_that_arrives_after_newer_changes_does_not_undo_them(
    redis_url: str, redis_prefix: str
) -> None:
    async with (
        two(redis_url, redis_prefix, **SLOW_LEASE) as (one, other),
        contextlib.AsyncExitStack() as rest,
    ):
        bob = await rest.enter_async_context(client(other.url, "bob"))
        late = other.verbs.hold("snapshot", when="after")
        other.server.replica.want_snapshot()
        await late.waiting()
        await rest.enter_async_context(client(one.url, "ann"))
        await bob.wait_for("user-list", lambda data: data == {"user_ids": ["ann", "bob"]})
        late.open()
        await rest.enter_async_context(client(one.url, "cid"))
        await bob.wait_for("user-list", lambda data: data == {"user_ids": ["ann", "bob", "cid"]})
        assert never_goes_back(bob)
        assert other.server.replica.users == {"ann", "bob", "cid"}


async def test_stale_user_list_changes_delivered_late_end_in_the_right_list(
    redis_url: str, redis_prefix: str
) -> None:
    async with two(redis_url, redis_prefix, **SLOW_LEASE) as (one, other), client(other.url, "bob") as bob:
        await until_agreed(one, other, users={"bob"})
        other.changes.hold()
        async with client(one.url, "ann"):
            pass
        async with client(one.url, "cid"):
            await until_agreed(one, users={"bob", "cid"})
            other.server.replica.want_snapshot()  # brings what the changes held back will say again
            await until(lambda: other.server.replica.users == {"bob", "cid"})
            other.changes.release()
            await bob.wait_for("user-list", lambda data: data == {"user_ids": ["bob", "cid"]})
            assert other.server.replica.users == {"bob", "cid"}
            assert not any("ann" in data["user_ids"] for data in bob.of("user-list"))


async def test_lost_last_publish_is_repaired_by_the_next_renewal(redis_url: str, redis_prefix: str) -> None:
    async with two(redis_url, redis_prefix, **SLOW_LEASE) as (one, other), client(other.url, "bob") as bob:
        await until_agreed(one, other, users={"bob"})
        other.changes.drop(1)
        async with client(one.url, "ann"):
            await until(lambda: other.changes.dropped)
            assert b"+ann" in other.changes.dropped[0]
            assert other.server.replica.users == {"bob"}
            await other.server.leases.renew()
            await bob.wait_for("user-list", lambda data: data == {"user_ids": ["ann", "bob"]})
            assert other.server.replica.counts["lost"] == 1


async def test_lost_publish_before_others_is_repaired_at_once(redis_url: str, redis_prefix: str) -> None:
    async with two(redis_url, redis_prefix, **SLOW_LEASE) as (one, other):
        async with client(other.url, "bob") as bob, client(one.url, "ann"):
            await until_agreed(one, other, users={"ann", "bob"})
            other.changes.drop(1)
            async with client(one.url, "cid"), client(one.url, "dan"):
                await bob.wait_for("user-list", lambda d: d == {"user_ids": ["ann", "bob", "cid", "dan"]})
                assert other.server.replica.counts["gap"] >= 1


class GatedConnector(SingleConnector):
    """Connections for listening and publishing only while the gate is open, and through a relay if one is named."""

    def __init__(self, url: str, *, through: str | None = None) -> None:
        super().__init__(url, timeout=0.5)
        self._line = SingleConnector(through or url, timeout=0.5)
        self.gate = asyncio.Event()
        self.gate.set()

    async def plain(self) -> Redis:
        await self.gate.wait()
        return self._line.commands()


async def test_deaf_subscriber_whose_subscription_was_killed_learns_what_it_missed(
    redis_server: RedisServer,
) -> None:
    connector = GatedConnector(redis_server.url)
    async with (
        node(redis_server.url, "test", **SLOW_LEASE) as one,
        node(redis_server.url, "test", connector=connector, **SLOW_LEASE) as other,
        client(other.url, "bob") as bob,
    ):
        await until_agreed(one, other, users={"bob"})
        connector.gate.clear()
        redis_server.execute("CLIENT", "KILL", "TYPE", "pubsub")
        link = other.server._link
        assert link is not None
        await until(lambda: not link.subscriber.connected.is_set())
        async with client(one.url, "ann"):
            await until_agreed(one, users={"ann", "bob"})
            assert not any(b"+ann" in message for message in other.changes.seen)
            connector.gate.set()
            await bob.wait_for("user-list", lambda data: data == {"user_ids": ["ann", "bob"]})


async def test_deaf_subscriber_that_hears_nothing_though_connected_notices_and_comes_back(
    redis_server: RedisServer,
) -> None:
    async with relay(redis_server.port) as line:
        connector = GatedConnector(redis_server.url, through=f"redis://127.0.0.1:{line.port}/0")
        async with (
            node(redis_server.url, "test", **SLOW_LEASE) as one,
            node(
                redis_server.url,
                "test",
                connector=connector,
                **SLOW_LEASE,
                realtime_state_timeout_seconds=0.5,
            ) as other,
            client(other.url, "bob") as bob,
        ):
            await until_agreed(one, other, users={"bob"})
            line.silence()
            async with client(one.url, "ann"):
                await until_agreed(one, users={"ann", "bob"})
                assert not any(b"+ann" in message for message in other.changes.seen)
                line.heal()
                await bob.wait_for("user-list", lambda d: d == {"user_ids": ["ann", "bob"]}, within=10)


@pytest.mark.parametrize("size", [2_000_000, 40_000_000])
async def test_deaf_subscriber_a_giant_message_does_not_end_its_hearing(
    redis_server: RedisServer, size: int
) -> None:
    # The larger one is beyond client-output-buffer-limit: Redis itself ends the subscription.
    async with two(redis_server.url, "test", **SLOW_LEASE) as (one, other), client(other.url, "bob") as bob:
        async with redis.asyncio.Redis.from_url(redis_server.url) as raw:
            await raw.publish(f"{one.state.root}:changes", b"x" * size)
        async with client(one.url, "ann"):
            await bob.wait_for("user-list", lambda data: data == {"user_ids": ["ann", "bob"]})
        await bob.wait_for("user-list", lambda data: bob.last("user-list") == {"user_ids": ["bob"]})
