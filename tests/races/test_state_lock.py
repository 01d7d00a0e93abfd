"""The lock of the usage cleaner, and the cleaner itself, when their holder stalls, fails or dies."""

from __future__ import annotations

import asyncio
from typing import Any

from realtime.errors import StateUnavailable
from realtime.housekeeping import RedisLock
from tests.races.lab import QUICK, Node, node, two, until_true
from tests.support.stack import client, until

NAME = "a lock of this test"


async def test_lock_renewed_by_stranger_only_the_new_owner_can_renew(
    redis_url: str, redis_prefix: str
) -> None:
    async with two(redis_url, redis_prefix) as (one, other):
        mine, theirs = RedisLock(one.state, NAME, 60), RedisLock(other.state, NAME, 60)
        assert await mine.acquire()
        fence = mine.fence
        held = one.verbs.hold("lock_renew", matches=lambda name, *_: name == NAME)
        renewing = asyncio.create_task(mine.renew())
        await held.waiting()
        for each in (one, other):  # the owner stalls past the time-out with its renewal on the way
            each.state.clock_offset_ms += 61_000
        assert await theirs.acquire()
        held.open()
        assert not await renewing
        assert mine.fence is None
        assert await theirs.renew()
        assert not await mine.acquire()
        assert fence is not None
        assert theirs.fence is not None
        assert theirs.fence > fence


async def test_lock_released_by_stranger_a_late_release_leaves_the_new_owners_lock(
    redis_url: str, redis_prefix: str
) -> None:
    async with two(redis_url, redis_prefix) as (one, other):
        mine, theirs = RedisLock(one.state, NAME, 60), RedisLock(other.state, NAME, 60)
        assert await mine.acquire()
        held = one.verbs.hold("lock_release", matches=lambda name, *_: name == NAME)
        releasing = asyncio.create_task(mine.release())
        await held.waiting()
        for each in (one, other):
            each.state.clock_offset_ms += 61_000
        assert await theirs.acquire()
        held.open()
        assert not await releasing
        assert not await mine.acquire()
        assert await theirs.renew()


async def ends_on(node: Node) -> None:
    """Somebody uses a model on this instance, stops, and hears of its end."""
    async with client(node.url, "ann") as ann:
        await ann.sio.call("usage", {"model": "m"})
        await ann.wait_for("usage", lambda data: data == {"models": ["m"]})
        await until(lambda: ann.last("usage") == {"models": []}, what="the end of the model's use")


async def test_cleaner_dies_for_good_a_lock_held_by_another_at_the_start_does_not_end_it(
    redis_url: str, redis_prefix: str
) -> None:
    async with node(redis_url, redis_prefix) as first:
        assert await RedisLock(first.state, "usage-cleanup", 600).acquire() is False  # its own cleaner has it
        async with node(redis_url, redis_prefix, realtime_usage_seconds=0.2) as second:
            first.cut_off()
            await ends_on(second)


async def test_cleaner_dies_for_good_failures_of_lock_and_sweep_do_not_end_it(
    redis_url: str, redis_prefix: str
) -> None:
    quick: dict[str, Any] = {"realtime_usage_seconds": 0.2, "websocket_redis_lock_timeout": 0.3}
    async with node(redis_url, redis_prefix, **quick) as one:
        for error in (StateUnavailable("one failed renewal"), ValueError("nobody foresaw this")):
            gates = [one.verbs.fail("lock_renew", "lock_acquire", error=error)]
            await gates[0].waiting()
            await ends_on(one)  # correctness does not hang on the lock
            gates.append(one.verbs.fail("sweep", error=error))
            ending = asyncio.create_task(ends_on(one))
            await gates[1].waiting()
            for gate in gates:
                one.verbs.remove(gate)
            await ending
        assert not one.server.tasks.failures


async def test_cleaner_dies_for_good_another_takes_over_when_the_leader_is_killed(
    redis_url: str, redis_prefix: str
) -> None:
    quick: dict[str, Any] = {"realtime_usage_seconds": 0.2, "websocket_redis_lock_timeout": 0.3, **QUICK}
    async with node(redis_url, redis_prefix, **quick) as one, node(redis_url, redis_prefix, **quick) as other:
        lock = RedisLock(other.state, "usage-cleanup", 0.3)
        one.cut_off()
        renewed = other.verbs.hold("lock_renew", when="after")
        await renewed.waiting()  # only whoever has acquired it renews
        renewed.open()

        async def held_by_other() -> bool:
            return not await lock.acquire()

        await until_true(held_by_other, what="the lock to be the other instance's")
        await ends_on(other)
