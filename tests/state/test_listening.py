"""Changes are heard in order by everyone; what is none leads to a snapshot and does no harm."""

from __future__ import annotations

import asyncio
import logging

import pytest

from realtime.directory import User
from realtime.state import MemoryState, RedisState, Session
from tests.state.backends import Backend, Heard, linked

ANN, BOB = User("ann", "", "", ""), User("bob", "", "", "")


async def test_garbage_on_the_channel_of_changes_is_logged_and_leads_to_a_snapshot(
    redis_backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    state, heard, client = redis_backend.state, redis_backend.heard, redis_backend.client
    assert isinstance(state, RedisState)
    assert client is not None
    await state.acquire("one", 5000)
    ready = heard.ready
    with caplog.at_level(logging.WARNING):
        for garbage in (b"", b"\xff\xfe", b"e\nx", b'{"not": "a change"}', b"e\n1\n5\n?what"):
            await client.publish(f"{state.root}:changes", garbage)
        await heard.wait_for(lambda: heard.ready == ready + 5)
        await state.register("one", [Session("a1", ANN)])
        await redis_backend.settle()
    assert [change.joins for change in heard.changes] == [("ann",)]
    assert caplog.text.count("taking a snapshot instead") == 5


async def test_two_fleets_on_one_server_do_not_see_each_other(redis_url: str, redis_prefix: str) -> None:
    async with linked("redis", redis_url) as (link, client):
        # One prefix is the beginning of the other.
        one = RedisState(link, root=f"{{{redis_prefix}:realtime}}")
        two = RedisState(link, root=f"{{{redis_prefix}:realtime}}:realtime}}")
        heard_one, heard_two = Heard(), Heard()
        one.listen(heard_one.on_change, heard_one.on_ready)
        two.listen(heard_two.on_change, heard_two.on_ready)
        listening = asyncio.create_task(link.subscriber.run())
        try:
            await heard_one.wait_for(lambda: heard_one.ready)
            await one.acquire("instance", 60_000)
            await two.acquire("instance", 60_000)
            await one.register("instance", [Session("s", ANN, frozenset({"channel:c"}))])
            await two.register("instance", [Session("s", BOB, frozenset({"channel:c"}))])
            await one.touch("s", ["gpt"], ttl_ms=60_000)
            assert await one.users() == {"ann": ("s",)}
            assert await two.users() == {"bob": ("s",)}
            assert await two.room_users(["channel:c"]) == {"channel:c": {"bob"}}
            assert await two.models_in_use() == []
            await two.release("instance")
            assert (await one.reap()).sessions == 0
            assert (await two.reap()).sessions == 1
            assert await one.lock_acquire("cleanup", "a", 60_000) == 1
            assert await two.lock_acquire("cleanup", "b", 60_000) == 1
            await two.revoke_user("ann")
            await heard_one.wait_for(lambda: len(heard_one.changes) == 2)
            await heard_two.wait_for(lambda: len(heard_two.changes) == 4)
            assert [change.version for change in heard_one.changes] == [1, 2]
            assert [change.version for change in heard_two.changes] == [1, 2, 3, 4]
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
            await client.delete(*[key async for key in client.scan_iter(match=f"{{{redis_prefix}*")])


async def test_who_listened_before_the_start_is_told_to_take_a_snapshot_then() -> None:
    state, heard = MemoryState(), Heard()
    state.listen(heard.on_change, heard.on_ready)
    assert heard.ready == 0
    await state.start()
    assert heard.ready == 1
