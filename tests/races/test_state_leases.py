"""Leases: instances that die, stall, wake, and register too late."""

from __future__ import annotations

import asyncio
import contextlib

from tests.races.lab import QUICK, Node, node, two, until_agreed
from tests.support.stack import client, until


async def test_crashed_instance_ghosts_its_users_are_gone_for_all_within_ten_seconds(
    redis_url: str, redis_prefix: str
) -> None:
    async with node(redis_url, redis_prefix) as other, client(other.url, "bob") as bob:
        async with node(redis_url, redis_prefix, **QUICK) as one, client(one.url, "ann") as ann:
            await ann.sio.call("usage", {"model": "m"})
            await bob.wait_for("user-list", lambda data: data == {"user_ids": ["ann", "bob"]})
            one.cut_off()
            await bob.wait_for("user-list", lambda data: data == {"user_ids": ["bob"]}, within=10)
            await until(lambda: bob.last("usage") == {"models": []})
            assert set(await other.server.SESSION_POOL.keys()) == {bob.sid}


async def test_fleet_died_together_the_first_starter_reaps_what_all_left(
    redis_url: str, redis_prefix: str
) -> None:
    async with contextlib.AsyncExitStack() as fleet:
        dead = [await fleet.enter_async_context(node(redis_url, redis_prefix, **QUICK)) for _ in range(2)]
        for number, each in enumerate(dead):
            await fleet.enter_async_context(client(each.url, f"user-{number}"))
        await until_agreed(*dead, users={"user-0", "user-1"})
        for each in dead:
            each.cut_off()
    async with node(redis_url, redis_prefix) as starter, client(starter.url, "bob") as bob:
        await until_agreed(starter, users={"bob"}, within=10)
        await until(lambda: bob.last("user-list") == {"user_ids": ["bob"]})
        assert set(await starter.state.leases()) == {starter.server.leases.lease()}


async def test_reaped_but_alive_who_wakes_after_its_lease_has_all_its_sessions_back_within_two_seconds(
    redis_url: str, redis_prefix: str
) -> None:
    async with two(redis_url, redis_prefix, **QUICK) as (one, other), contextlib.AsyncExitStack() as stack:
        for number in range(5):
            await stack.enter_async_context(client(one.url, f"user-{number}"))
        bob = await stack.enter_async_context(client(other.url, "bob"))
        everybody = {"bob", *(f"user-{number}" for number in range(5))}
        await until_agreed(one, other, users=everybody)
        lost = one.server.leases.lease()
        stall = one.verbs.hold()
        await until_agreed(other, users={"bob"}, within=10)
        assert not one.server.leases.held
        heard = len(other.changes.seen)
        one.verbs.remove(stall)
        await until_agreed(one, other, users=everybody, within=2)
        assert one.server.leases.lease() != lost
        # All come back in one step and stay: no flood of leaves and joins.
        news = b"\n".join(other.changes.seen[heard:]).splitlines()
        assert sorted(line for line in news if line[:1] in b"+-") == [f"+user-{n}".encode() for n in range(5)]
        await until(lambda: bob.last("user-list") == {"user_ids": sorted(everybody)})


async def test_reaped_but_alive_a_stall_within_the_lease_shows_nothing_to_anyone(
    redis_url: str, redis_prefix: str
) -> None:
    async with two(redis_url, redis_prefix) as (one, other):
        async with client(one.url, "ann") as ann, client(other.url, "bob") as bob:
            await until_agreed(one, other, users={"ann", "bob"})
            await until(lambda: all(c.last("user-list") == {"user_ids": ["ann", "bob"]} for c in (ann, bob)))
            await one.server.leases.renew()
            seen = [len(ann.seen), len(bob.seen), len(other.changes.seen)]
            lease = one.server.leases.lease()
            stall = one.verbs.hold()
            for each in (one, other):
                each.state.clock_offset_ms += 3_000  # of a lease of 5 s
            await other.server.leases.renew()
            await other.server.repairs.reap()
            one.verbs.remove(stall)
            await one.server.leases.renew()
            await other.server.repairs.reap()
            assert one.server.leases.lease() == lease
            assert [len(ann.seen), len(bob.seen), len(other.changes.seen)] == seen


async def test_reaped_but_alive_redis_itself_stalling_past_all_leases_reaps_nobody(
    redis_url: str, redis_prefix: str
) -> None:
    async with two(redis_url, redis_prefix, **QUICK) as (one, other):
        async with client(one.url, "ann"), client(other.url, "bob"):
            await until_agreed(one, other, users={"ann", "bob"})
            stalls = [each.verbs.hold() for each in (one, other)]
            await until(lambda: not one.server.leases.held and not other.server.leases.held)
            heard, lease = len(other.changes.seen), one.server.leases.lease()
            other.verbs.remove(stalls[1])  # the one that is first must leave the others the time to come too
            await until(lambda: other.server.leases.held)
            await other.server.leases.renew()
            one.verbs.remove(stalls[0])
            await until(lambda: one.server.leases.held)
            assert one.server.leases.lease() == lease
            assert len(other.changes.seen) == heard


async def reap_under(one: Node, other: Node) -> None:
    """``other`` reaps ``one`` as if its lease were over, while ``one`` keeps still."""
    other.state.clock_offset_ms += 60_000
    await other.server.leases.renew()
    await other.server.repairs.reap()
    other.state.clock_offset_ms -= 60_000
    await other.server.leases.renew()


async def test_register_after_reaping_is_refused_and_then_registered_under_the_new_lease(
    redis_url: str, redis_prefix: str
) -> None:
    async with two(redis_url, redis_prefix) as (one, other), contextlib.AsyncExitStack() as stack:
        still = one.verbs.hold("renew")
        held = one.verbs.hold("register")
        connecting = asyncio.create_task(stack.enter_async_context(client(one.url, "ann")))
        await held.waiting()
        lost = one.server.leases.lease()
        await reap_under(one, other)
        assert lost not in await other.state.leases()
        held.open()
        still.open()
        ann = await connecting
        assert one.server.leases.lease() != lost
        session = await other.state.session(ann.sid)
        assert session is not None
        assert session.lease == one.server.leases.lease()
        await until_agreed(one, other, users={"ann"})


async def test_register_after_reaping_whose_answer_came_late_is_registered_again(
    redis_url: str, redis_prefix: str
) -> None:
    async with two(redis_url, redis_prefix, **QUICK) as (one, other), contextlib.AsyncExitStack() as stack:
        held = one.verbs.hold("register", when="after")
        connecting = asyncio.create_task(stack.enter_async_context(client(one.url, "ann")))
        await held.waiting()
        lost = one.server.leases.lease()
        await reap_under(one, other)
        await until(lambda: one.server.leases.counts["acquired"] == 2)
        assert one.server.leases.lease() != lost
        assert await other.state.users() == {}
        held.open()
        await connecting
        await until_agreed(one, other, users={"ann"}, within=2)
