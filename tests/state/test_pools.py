"""SESSION_POOL, USER_POOL and USAGE_POOL show the shared state as the seed's dictionaries did."""

from __future__ import annotations

from realtime.directory import User
from realtime.state import Session, SessionPool, UsagePool, UserPool
from tests.state.backends import Backend

ANN = User("ann", "Ann É", "admin", "/ann.png")
BOB = User("bob", "Bob", "user", "")


async def fill(backend: Backend) -> None:
    await backend.state.acquire("one", 5000)
    await backend.state.acquire("two", 5000)
    await backend.state.register("one", [Session("a1", ANN), Session("b1", BOB)])
    await backend.state.register("two", [Session("a2", ANN, frozenset({"channel:c"}))])


async def test_the_session_pool_holds_each_sessions_user(backend: Backend) -> None:
    await fill(backend)
    pool = SessionPool(backend.state)
    ann = {"id": "ann", "name": "Ann É", "role": "admin", "profile_image_url": "/ann.png"}
    assert await pool.get("a1") == await pool.get("a2") == ann
    assert await pool.get("nobody") is None
    assert (await pool.items()).keys() == set(await pool.keys()) == {"a1", "a2", "b1"}
    assert (await pool.items())["a2"] == ann


async def test_the_user_pool_holds_each_users_sessions_on_all_instances(backend: Backend) -> None:
    await fill(backend)
    pool = UserPool(backend.state)
    assert await pool.items() == {"ann": ["a1", "a2"], "bob": ["b1"]}
    assert set(await pool.keys()) == {"ann", "bob"}
    assert await pool.get("ann") == ["a1", "a2"]
    await backend.state.unregister(["a1", "b1"])
    assert await pool.items() == {"ann": ["a2"]}
    assert await pool.get("bob") == []


async def test_the_usage_pool_holds_who_uses_which_model_until_when(backend: Backend) -> None:
    await fill(backend)
    pool = UsagePool(backend.state)
    await backend.state.touch("a1", ["gpt"], ttl_ms=60_000)
    await backend.state.touch("b1", ["gpt", "llama"], ttl_ms=90_000)
    now = (await backend.state.renew("one", 5000)).now_ms
    items = await pool.items()
    assert {model: set(sids) for model, sids in items.items()} == {"gpt": {"a1", "b1"}, "llama": {"b1"}}
    assert set(await pool.keys()) == {"gpt", "llama"}
    assert now < items["gpt"]["a1"]["until_ms"] <= now + 60_000
    assert await pool.get("gpt") == items["gpt"]
    assert await pool.get("nothing") == {}
    backend.advance(70)
    assert await pool.items() == {"gpt": {"b1": items["gpt"]["b1"]}, "llama": items["llama"]}
    backend.advance(30)
    assert await pool.items() == {}
    assert await pool.keys() == []
