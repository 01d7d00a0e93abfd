"""Redis itself: restarted empty, gone back to older data, with a clock that differs from the instances'."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest
import redis.asyncio

from sim.processes.redis import RedisServer
from tests.races.lab import QUICK, Node, node, two, until_agreed
from tests.support.stack import client, token_for, until


async def test_redis_restart_empty_everyone_is_back_within_five_seconds(redis_server: RedisServer) -> None:
    async with two(redis_server.url, "test") as (one, other), contextlib.AsyncExitStack() as stack:
        tabs = [
            await stack.enter_async_context(client((one, other)[number % 2].url, f"user-{number}"))
            for number in range(6)
        ]
        everybody = {f"user-{number}" for number in range(6)}
        await until_agreed(one, other, users=everybody)
        epoch = one.server.replica.epoch
        redis_server.restart()
        restarted = time.monotonic()
        await until(lambda: one.server.replica.epoch != epoch, what="a new epoch")
        await until_agreed(one, other, users=everybody, within=5 - (time.monotonic() - restarted))
        assert set(await one.server.SESSION_POOL.keys()) == {tab.sid for tab in tabs}
        for tab in tabs:
            await until(lambda tab=tab: tab.last("user-list") == {"user_ids": sorted(everybody)})  # type: ignore[misc]
            assert tab.of("disconnect") == []


class Backup:
    """The state's keys as they were, to be put back as a replica that missed the last writes has them."""

    def __init__(self, url: str, root: str) -> None:
        self._client = redis.asyncio.Redis.from_url(url)
        self._pattern = f"{root}:*"
        self._kept: dict[bytes, bytes] = {}

    async def take(self) -> None:
        keys = [key async for key in self._client.scan_iter(match=self._pattern)]
        async with self._client.pipeline(transaction=True) as pipe:
            for key in keys:
                pipe.dump(key)
            self._kept = dict(zip(keys, await pipe.execute(), strict=True))

    async def restore(self) -> None:
        keys = [key async for key in self._client.scan_iter(match=self._pattern)]
        async with self._client.pipeline(transaction=True) as pipe:
            pipe.delete(*keys)
            for key, dump in self._kept.items():
                pipe.restore(key, 0, dump)
            await pipe.execute()
        await self._client.aclose()


async def test_redis_failover_rollback_of_renewals_takes_nobody_for_dead(redis_server: RedisServer) -> None:
    """The first to renew on a replica that took over sees everybody's lease expired, as its own was."""
    async with two(redis_server.url, "test", **QUICK) as (one, other), contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(client(one.url, "ann"))
        await stack.enter_async_context(client(other.url, "bob"))
        await until_agreed(one, other, users={"ann", "bob"})
        held = other.verbs.hold("renew")
        await held.waiting()
        async with redis.asyncio.Redis.from_url(redis_server.url) as raw:
            leases = f"{one.state.root}:leases"
            await raw.zadd(leases, dict.fromkeys(await raw.zrange(leases, 0, -1), 1))
        await one.server.leases.renew()
        await one.server.repairs.reap()
        assert set(await one.server.USER_POOL.keys()) == {"ann", "bob"}
        other.verbs.remove(held)
        held.open()
        await other.server.leases.renew()
        assert other.server.leases.counts["lost"] == 0
        await until_agreed(one, other, users={"ann", "bob"})


async def test_redis_failover_rollback_begins_a_new_epoch_and_everyone_ends_with_the_right_list(
    redis_server: RedisServer,
) -> None:
    async with two(redis_server.url, "test") as (one, other), contextlib.AsyncExitStack() as stack:
        ann = await stack.enter_async_context(client(one.url, "ann"))
        bob = await stack.enter_async_context(client(other.url, "bob", auth={"presence": "diff"}))
        async with client(one.url, "gone"):
            await until_agreed(one, other, users={"ann", "bob", "gone"})
            backup = Backup(redis_server.url, one.state.root)
            await backup.take()
        cid = await stack.enter_async_context(client(other.url, "cid"))
        await until_agreed(one, other, users={"ann", "bob", "cid"})
        epoch, version = one.server.replica.position
        await backup.restore()
        await until(lambda: one.server.replica.epoch != epoch, what="a new epoch")
        await until_agreed(one, other, users={"ann", "bob", "cid"})
        assert one.server.replica.epoch == other.server.replica.epoch
        assert one.server.replica.version < version + 10
        assert set(await one.server.SESSION_POOL.keys()) == {ann.sid, bob.sid, cid.sid}
        dan = await stack.enter_async_context(client(one.url, "dan"))
        for tab in (ann, cid, dan):
            await until(
                lambda tab=tab: tab.last("user-list") == {"user_ids": ["ann", "bob", "cid", "dan"]}  # type: ignore[misc]
            )
        await until(lambda: folded(bob.seen) == {"ann", "bob", "cid", "dan"})


def folded(seen: list[tuple[str, dict[str, list[str]]]]) -> set[str]:
    """What a client that asked for differences makes of what it got."""
    users: set[str] = set()
    for event, data in seen:
        if event == "user-list":
            users = set(data["user_ids"])
        elif event == "presence-diff":
            users = users.union(data["joins"]).difference(data["leaves"])
    return users


async def test_redis_failover_rollback_that_caught_up_before_anybody_looked_is_still_noticed(
    redis_server: RedisServer,
) -> None:
    slow = {"realtime_lease_seconds": 600}
    async with two(redis_server.url, "test", **slow) as (one, other), contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(client(one.url, "ann"))
        await until_agreed(one, other, users={"ann"})
        backup = Backup(redis_server.url, one.state.root)
        await backup.take()
        for name in ("bob", "cid"):
            await stack.enter_async_context(client(one.url, name))
        await until_agreed(one, other, users={"ann", "bob", "cid"})
        position = other.server.replica.position
        await backup.restore()
        for name in ("dan", "eve", "fay"):  # as many writes as were lost, and one
            await stack.enter_async_context(client(one.url, name))
        assert (await other.state.snapshot()).version > position[1]
        for each in (one, other):
            await each.server.leases.renew()
        await until_agreed(one, other, users={"ann", "bob", "cid", "dan", "eve", "fay"})


@pytest.mark.parametrize("skew", [-3600, 3600])
async def test_clock_skew_of_an_instance_changes_neither_tokens_nor_usage(
    redis_url: str, redis_prefix: str, skew: float
) -> None:
    def skewed(node: Node) -> None:
        node.server.clock._local = lambda: time.time() + skew

    async with (
        node(redis_url, redis_prefix) as one,
        node(redis_url, redis_prefix, prepare=skewed) as other,
        client(other.url, token=token_for("ann", expires_in=60)) as ann,
        client(one.url, "bob") as bob,
    ):
        await until_agreed(one, other, users={"ann", "bob"})
        async with client(other.url, token=token_for("late", expires_in=-5)) as late:
            assert late.of("user-list") == []  # a stranger
        # By Redis' clock, and to the millisecond: whole seconds of two clocks made 3 s anything from 0 to 7.
        async with redis.asyncio.Redis.from_url(redis_url) as raw:
            before = await raw.time()
            await ann.sio.call("usage", {"model": "m"})
            after = await raw.time()
        until_ms = (await one.server.USAGE_POOL.get("m"))[ann.sid]["until_ms"]
        earliest, latest = (s * 1000 + us // 1000 + 3000 for s, us in (before, after))
        assert earliest <= until_ms <= latest
        one.state.clock_offset_ms = until_ms - int(time.time() * 1000) + 5_000
        assert await one.server.get_models_in_use() == []
        one.state.clock_offset_ms = 0
        await until(lambda: bob.last("usage") == {"models": []}, what="the end of the model's use")


async def test_redis_restart_in_the_middle_of_a_registration_loses_no_session(
    redis_server: RedisServer,
) -> None:
    async with two(redis_server.url, "test", **QUICK) as (one, other), contextlib.AsyncExitStack() as stack:
        held = one.verbs.hold("register", when="after")
        connecting = asyncio.create_task(stack.enter_async_context(client(one.url, "ann")))
        await held.waiting()
        redis_server.restart()
        held.open()
        await connecting
        await until_agreed(one, other, users={"ann"})
