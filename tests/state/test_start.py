"""What is checked before a fleet is joined: the server's version and memory policy, and the schema of the state."""

from __future__ import annotations

import logging

import pytest

from realtime.directory import User
from realtime.errors import SchemaMismatch, StateUnavailable
from realtime.state import RedisState, Session
from realtime.state import redis as redis_state
from sim.processes.redis import RedisServer
from tests.state.backends import Backend, linked

ROOT = "{test:realtime}"


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-random"])
async def test_a_policy_that_could_evict_state_is_named(
    policy: str, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    redis_server.execute("CONFIG", "SET", "maxmemory-policy", policy)
    async with linked("redis", redis_server.url) as (link, _):
        await RedisState(link, root=ROOT).start()
    assert f"maxmemory-policy is {policy}" in caplog.text


@pytest.mark.parametrize("policy", ["noeviction", "volatile-lru"])
async def test_a_policy_that_spares_keys_without_expiry_is_fine(
    policy: str, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    redis_server.execute("CONFIG", "SET", "maxmemory-policy", policy)
    async with linked("redis", redis_server.url) as (link, client):
        state = RedisState(link, root=ROOT)
        await state.start()
        await state.acquire("one", 5000)
        await state.register("one", [Session("s", User("ann", "", "", ""), frozenset({"r"}), "t", 1)])
        await state.touch("s", ["gpt"], ttl_ms=5000)
        await state.lock_acquire("cleanup", "one", 5000)
        await state.revoke_user("bob")
        keys = [key async for key in client.scan_iter()]
        assert [key for key in keys if await client.ttl(key) != -1] == []
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_server_that_is_too_old_is_refused(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_state, "OLDEST_REDIS", (99, 1))
    async with linked("redis", redis_url) as (link, _):
        with pytest.raises(StateUnavailable, match=r"is too old: 99\.1 or newer is needed"):
            await RedisState(link, root=ROOT).start()


async def test_a_server_that_refuses_info_is_used_with_a_warning(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    redis_server.execute("ACL", "SETUSER", "layer", "on", "nopass", "~*", "&*", "+@all", "-info")
    url = redis_server.url.replace("redis://", "redis://layer:x@")
    async with linked("redis", url) as (link, _):
        state = RedisState(link, root=ROOT)
        await state.start()
        await state.acquire("one", 5000)
    assert "refuses INFO" in caplog.text


async def test_a_server_that_is_not_there_is_unavailable(redis_server: RedisServer) -> None:
    redis_server.kill()
    async with linked("redis", redis_server.url, timeout=2) as (link, _):
        with pytest.raises(StateUnavailable):
            await RedisState(link, root=ROOT).start()


def another_schema(backend: Backend) -> RedisState:
    assert isinstance(backend.state, RedisState)
    other = RedisState(backend.state._link, root=backend.state.root, schema="0")
    other.clock_offset_ms = backend.state.clock_offset_ms
    return other


async def test_a_live_fleet_of_another_schema_is_not_joined(redis_backend: Backend) -> None:
    old = another_schema(redis_backend)
    await old.acquire("old one", 60_000)
    before = await redis_backend.dump()
    with pytest.raises(SchemaMismatch, match=r"schema 0, this instance of 1.*REDIS_KEY_PREFIX"):
        await redis_backend.state.acquire("new one", 60_000)
    assert await redis_backend.dump() == before


async def test_a_dead_fleet_of_another_schema_is_taken_over_and_cannot_wake_up(
    redis_backend: Backend,
) -> None:
    old, new = another_schema(redis_backend), redis_backend.state
    await old.acquire("old one", 60_000)
    await old.register("old one", [Session("s", User("ann", "", "", ""))])
    redis_backend.advance(61)
    await new.acquire("new one", 60_000)
    assert not (await old.renew("old one", 60_000)).alive
    with pytest.raises(SchemaMismatch):
        await old.acquire("old one, again", 60_000)
    assert (await new.reap()).sessions == 1
    await redis_backend.settle()
    assert [(change.reaped, change.leaves) for change in redis_backend.heard.changes[1:]] == [
        (("old one",), ()),
        ((), ("ann",)),
    ]


async def test_instances_of_one_schema_join_each_other_whoever_is_alive(redis_backend: Backend) -> None:
    state = redis_backend.state
    await state.acquire("one", 60_000)
    redis_backend.advance(61)
    await state.acquire("two", 60_000)
    assert (await state.leases()).keys() == {"one", "two"}
    assert (await state.renew("one", 60_000)).alive
