"""The pools' races: what two instances do at the same time to one user's or one model's entry."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from tests.races.lab import later, two, until_agreed, until_true
from tests.support.stack import client, until

BOTH_ORDERS = pytest.mark.parametrize("first", [0, 1])


@BOTH_ORDERS
async def test_user_pool_lost_update_two_tabs_registered_at_once_are_both_in_the_pool(
    redis_url: str, redis_prefix: str, first: int
) -> None:
    async with two(redis_url, redis_prefix) as nodes, contextlib.AsyncExitStack() as stack:
        gates = [node.verbs.hold("register") for node in nodes]
        connecting = [
            asyncio.create_task(stack.enter_async_context(client(node.url, "ann"))) for node in nodes
        ]
        for gate in gates:
            await gate.waiting()
        for number in (first, 1 - first):
            gates[number].open()
        tabs = await asyncio.gather(*connecting)
        assert set(await nodes[0].server.USER_POOL.get("ann")) == {tab.sid for tab in tabs}
        await nodes[0].server.emit_to_users("news", "for every tab", ["ann"])
        for tab in tabs:
            assert await tab.wait_for("news") == "for every tab"


@BOTH_ORDERS
async def test_reload_goes_offline_who_reloads_onto_another_instance_stays_online(
    redis_url: str, redis_prefix: str, first: int
) -> None:
    async with two(redis_url, redis_prefix) as (one, other), contextlib.AsyncExitStack() as stack:
        async with client(one.url, "ann"):
            gates = [other.verbs.hold("register"), one.verbs.hold("unregister")]
            connecting = asyncio.create_task(stack.enter_async_context(client(other.url, "ann")))
            await gates[0].waiting()
        await gates[1].waiting()
        heard = len(other.changes.seen)
        gates[first].open()
        await until(lambda: (other if first == 0 else one).verbs.counts[("register", "unregister")[first]])
        if first == 0:
            await connecting
        gates[1 - first].open()
        tab = await connecting
        await until_true(
            lambda: _sids_are(other, "ann", [tab.sid]), what="only the new tab's session in the pool"
        )
        await until_agreed(one, other, users={"ann"})
        news = b"\n".join(other.changes.seen[heard:]).splitlines()
        # Registered first, nothing changed for anyone; else one leave and one join, in that order.
        assert [line for line in news if line in (b"+ann", b"-ann")] == [[], [b"-ann", b"+ann"]][first]


async def _sids_are(node: object, user: str, sids: list[str]) -> bool:
    return bool(await node.server.USER_POOL.get(user) == sids)  # type: ignore[attr-defined]


@BOTH_ORDERS
async def test_usage_lost_update_a_model_stays_in_use_while_one_of_two_uses_it(
    redis_url: str, redis_prefix: str, first: int
) -> None:
    settings = {"realtime_usage_seconds": 30}
    async with two(redis_url, redis_prefix, **settings) as nodes, client(nodes[1].url, "bob") as bob:
        async with client(nodes[0].url, "ann") as ann:
            gates = [node.verbs.hold("touch") for node in nodes]
            touching = [asyncio.create_task(each.sio.call("usage", {"model": "m"})) for each in (ann, bob)]
            for gate in gates:
                await gate.waiting()
            for number in (first, 1 - first):
                gates[number].open()
            await asyncio.gather(*touching)
            assert set(await nodes[0].server.USAGE_POOL.get("m")) == {ann.sid, bob.sid}
        await until_agreed(*nodes, users={"bob"})
        assert await nodes[0].server.get_models_in_use() == ["m"]
        assert nodes[1].server.replica.models == {"m"}
        assert {"models": []} not in bob.of("usage")[1:]


async def test_cleanup_eats_fresh_usage_a_touch_that_overtakes_the_cleaner_counts(
    redis_url: str, redis_prefix: str
) -> None:
    async with two(redis_url, redis_prefix) as nodes, client(nodes[0].url, "ann") as ann:
        await ann.sio.call("usage", {"model": "m"})
        sweeps = [node.verbs.hold("sweep") for node in nodes]
        for sweep in sweeps:
            await sweep.waiting()
        await later(60_000, *nodes)  # over for long, and every cleaner is about to say so
        await ann.sio.call("usage", {"model": "m"})
        swept = [node.verbs.counts["sweep"] for node in nodes]
        for sweep in sweeps:
            sweep.open()
        await until(lambda: all(node.verbs.counts["sweep"] > n for node, n in zip(nodes, swept, strict=True)))
        assert await nodes[1].server.get_models_in_use() == ["m"]
        assert not any(b"\n/m" in message for message in nodes[0].changes.seen)


async def test_usage_broadcast_storm_many_touches_of_a_used_model_are_told_once(
    redis_url: str, redis_prefix: str
) -> None:
    settings = {"realtime_usage_seconds": 30}
    async with two(redis_url, redis_prefix, **settings) as nodes, contextlib.AsyncExitStack() as stack:
        tabs = [
            await stack.enter_async_context(client(nodes[number % 2].url, f"user-{number}"))
            for number in range(6)
        ]
        await asyncio.gather(*(tab.sio.call("usage", {"model": "m"}) for tab in tabs for _ in range(20)))
        await tabs[0].sio.call("usage", {"model": "n"})
        for tab in tabs:
            await tab.wait_for("usage", lambda data: data == {"models": ["m", "n"]})
            assert len(tab.of("usage")) <= 3  # the greeting, and one for each change
        for node in nodes:
            assert sum(b"\n*" in message for message in node.changes.seen) == 2


async def test_user_list_storm_what_clients_get_grows_with_changes_told_not_with_connects_squared(
    redis_url: str, redis_prefix: str
) -> None:
    count = 24
    settings = {"realtime_list_interval_seconds": 60}  # at most one list for all in the time of this test
    async with two(redis_url, redis_prefix, **settings) as nodes, contextlib.AsyncExitStack() as stack:
        sent = 0
        for node in nodes:
            rooms = node.server.rooms
            emit = rooms.emit_local

            def counting(event: str, data: object, room: str, emit: object = emit) -> int:
                nonlocal sent
                recipients: int = emit(event, data, room)  # type: ignore[operator]
                if event == "user-list":
                    sent += recipients * len(str(data))
                return recipients

            rooms.emit_local = counting  # type: ignore[method-assign]
        tabs = await asyncio.gather(
            *(
                stack.enter_async_context(client(nodes[number % 2].url, f"user-{number:02}"))
                for number in range(count)
            )
        )
        await until_agreed(*nodes, users={f"user-{number:02}" for number in range(count)})
        lists = sum(len(tab.of("user-list")) for tab in tabs)
        whole = len(str({"user_ids": [f"user-{number:02}" for number in range(count)]}))
        # The seed's way: two whole lists to everyone on every connect.
        assert lists <= 2 * count
        assert sent <= 2 * count * whole
        assert sum(node.verbs.counts["snapshot"] for node in nodes) <= 6
