"""Single promises of the shared state that a random walk meets seldom: limits, boundaries, crossings, news."""

from __future__ import annotations

import asyncio
import time

import fakeredis
import pytest
from redis.crc import key_slot

from realtime.directory import User
from realtime.errors import SchemaMismatch
from realtime.link import RedisLink, SingleConnector
from realtime.state import Change, MemoryState, Outcome, Reaped, RedisState, Session, Token
from tests.state.backends import Backend, opened

ANN, BOB = User("ann", "", "", ""), User("bob", "", "", "")
MINUTE = 60_000


def session(sid: str, user: User = ANN, *rooms: str) -> Session:
    return Session(sid, user, frozenset(rooms))


async def announced(backend: Backend, after: int) -> list[Change]:
    """The changes of later versions."""
    await backend.settle()
    return [change for change in backend.heard.changes if change.version > after]


async def version(backend: Backend) -> int:
    return (await backend.state.snapshot()).version


# Rooms


async def test_another_session_that_brings_an_online_user_into_a_room_is_announced(backend: Backend) -> None:
    state = backend.state
    await state.acquire("one", MINUTE)
    await state.register("one", [session("a1", ANN, "channel:a")])
    at = await version(backend)
    await state.register("one", [session("a2", ANN, "channel:a", "channel:b")])
    (change,) = await announced(backend, at)
    assert change == Change(change.epoch, at + 1, rooms_changed=True)
    assert await state.room_users(["channel:b"]) == {"channel:b": {"ann"}}


@pytest.mark.parametrize("how", ["unregister", "reap"])
async def test_a_session_that_takes_a_user_who_stays_out_of_a_room_is_announced(
    backend: Backend, how: str
) -> None:
    state = backend.state
    await state.acquire("one", MINUTE)
    await state.acquire("two", MINUTE)
    await state.register("one", [session("a1", ANN, "channel:a")])
    await state.register("two", [session("a2", ANN, "channel:b")])
    if how == "reap":
        await state.release("two")
    at = await version(backend)
    await (state.reap() if how == "reap" else state.unregister(["a2"]))
    (change,) = await announced(backend, at)
    assert change == Change(change.epoch, at + 1, rooms_changed=True)


async def test_another_session_in_the_same_rooms_changes_nothing(backend: Backend) -> None:
    state = backend.state
    await state.acquire("one", MINUTE)
    await state.register("one", [session("a1", ANN, "channel:a")])
    at = await version(backend)
    registered = await state.register("one", [session("a2", ANN, "channel:a")])
    await state.register("one", [session("a2", ANN, "channel:a")])
    await state.unregister(["a1"])
    assert registered.version == at == await version(backend)


async def test_a_socket_that_changes_its_user_leaves_the_old_one_in_the_same_step(backend: Backend) -> None:
    state = backend.state
    await state.acquire("one", MINUTE)
    await state.register("one", [session("s", ANN, "channel:a")])
    await state.touch("s", ["gpt"], ttl_ms=MINUTE)
    at = await version(backend)
    await state.register("one", [session("s", BOB, "channel:b")])
    (change,) = await announced(backend, at)
    assert (change.joins, change.leaves, change.ended) == (("bob",), ("ann",), ("gpt",))
    assert await state.room_users(["channel:a", "channel:b"]) == {"channel:a": set(), "channel:b": {"bob"}}
    assert await state.sessions_of("ann") == []


async def test_a_socket_that_registers_again_goes_on_using_its_models(backend: Backend) -> None:
    state = backend.state
    await state.acquire("one", MINUTE)
    await state.acquire("two", MINUTE)
    await state.register("one", [session("s", ANN, "channel:a")])
    await state.touch("s", ["gpt"], ttl_ms=MINUTE)
    at = await version(backend)
    await state.register("two", [session("s", ANN, "channel:a")])
    assert await state.models_in_use() == ["gpt"]
    assert await version(backend) == at
    assert not await state.instance_sids("one")
    assert await state.instance_sids("two") == {"s"}


# Usage


async def test_a_model_ends_when_the_last_who_uses_it_goes_whoever_used_it_before(backend: Backend) -> None:
    state = backend.state
    await state.acquire("one", MINUTE)
    await state.register("one", [session("a", ANN), session("b", BOB)])
    await state.touch("a", ["gpt"], ttl_ms=MINUTE)
    backend.advance(30)
    await state.touch("b", ["gpt"], ttl_ms=2 * MINUTE)
    backend.advance(60)
    at = await version(backend)
    await state.unregister(["b"])
    (change,) = await announced(backend, at)
    assert (change.leaves, change.ended) == (("bob",), ("gpt",))
    assert (await state.snapshot()).models == set()
    assert not any(key.startswith("model") for key in await backend.dump())
    await state.touch("a", ["gpt"], ttl_ms=MINUTE)
    assert (await state.snapshot()).models == {"gpt"}


async def test_a_model_stays_in_use_for_as_long_as_its_longest_touch(backend: Backend) -> None:
    state = backend.state
    await state.acquire("one", MINUTE)
    await state.register("one", [session("a", ANN)])
    await state.touch("a", ["gpt"], ttl_ms=2 * MINUTE)
    await state.touch("a", ["gpt"], ttl_ms=MINUTE)
    backend.advance(90)
    assert await state.models_in_use() == ["gpt"]
    due = await state.sweep()
    assert due is not None
    assert 0 < due <= 30_000
    assert (await state.usage())["gpt"].keys() == {"a"}


async def test_a_touch_between_expiry_and_sweep_keeps_a_model_without_a_word(backend: Backend) -> None:
    state = backend.state
    await state.acquire("one", MINUTE)
    await state.register("one", [session("a", ANN), session("b", BOB)])
    await state.touch("a", ["gpt"], ttl_ms=MINUTE)
    at = await version(backend)
    backend.advance(61)
    assert await state.models_in_use() == []
    await state.touch("b", ["gpt"], ttl_ms=MINUTE)
    assert await state.sweep() is not None
    assert await state.models_in_use() == ["gpt"]
    assert await version(backend) == at


async def test_models_that_ended_make_room_for_others_and_leave_nothing_behind(backend: Backend) -> None:
    state = backend.state
    await state.acquire("one", MINUTE)
    await state.register("one", [session("a", ANN), session("b", BOB)])
    await state.touch("b", ["old"], ttl_ms=60 * MINUTE)
    assert await state.touch("a", ["old", "new"], ttl_ms=MINUTE, cap=2) is Outcome.OK
    assert await state.touch("a", ["third"], ttl_ms=MINUTE, cap=2) is Outcome.LIMIT
    assert sorted(await state.models_in_use()) == ["new", "old"]
    backend.advance(61)
    assert await state.touch("a", ["third", "new"], ttl_ms=MINUTE, cap=2) is Outcome.OK
    assert await state.touch("a", ["one", "two", "three"], ttl_ms=MINUTE, cap=2) is Outcome.LIMIT
    await state.unregister(["a"])
    keys = await backend.dump()
    assert all(sid != b"a" for key in keys if key.startswith("model:") for sid, _ in keys[key][1])
    if isinstance(state, MemoryState):
        assert all("a" not in sids for sids in state._models.values())
    assert await state.models_in_use() == ["old"]


async def test_a_touch_of_no_models_is_fine(backend: Backend) -> None:
    await backend.state.acquire("one", MINUTE)
    await backend.state.register("one", [session("a")])
    assert await backend.state.touch("a", [], ttl_ms=MINUTE) is Outcome.OK
    assert await backend.state.touch("nobody", [], ttl_ms=MINUTE) is Outcome.UNKNOWN


async def test_a_model_is_due_when_the_longest_use_that_is_left_ends(backend: Backend) -> None:
    state = backend.state
    await state.acquire("one", MINUTE)
    await state.register("one", [session("a", ANN), session("b", BOB)])
    await state.touch("a", ["gpt"], ttl_ms=MINUTE)
    await state.touch("b", ["gpt"], ttl_ms=5 * MINUTE)
    await state.unregister(["b"])
    due = await state.sweep()
    assert due is not None
    assert due <= MINUTE
    backend.advance(61)
    assert await state.models_in_use() == []
    assert await state.sweep() is None


async def test_a_model_that_ended_does_not_end_again_when_its_last_user_goes(backend: Backend) -> None:
    state = backend.state
    await state.acquire("one", MINUTE)
    await state.register("one", [session("a", ANN)])
    await state.touch("a", ["gpt"], ttl_ms=MINUTE)
    backend.advance(61)
    await state.sweep()
    assert not any(key.startswith("model") for key in await backend.dump())
    at = await version(backend)
    await state.unregister(["a"])
    (change,) = await announced(backend, at)
    assert (change.leaves, change.ended) == (("ann",), ())


async def test_what_a_reaped_session_used_ends_with_it(backend: Backend) -> None:
    state = backend.state
    await state.acquire("one", MINUTE)
    await state.register("one", [session("a", ANN)])
    await state.touch("a", ["gpt"], ttl_ms=MINUTE)
    await state.release("one")
    at = await version(backend)
    await state.reap()
    (change,) = await announced(backend, at)
    assert (change.leaves, change.ended) == (("ann",), ("gpt",))
    assert await state.usage() == {}


async def test_in_memory_a_lease_that_was_reaped_leaves_nothing_behind() -> None:
    state = MemoryState()
    await state.acquire("one", MINUTE)
    await state.register("one", [session("a", ANN, "channel:a")])
    await state.release("one")
    assert await state.reap() == Reaped(1, False)
    assert not state._rooms
    assert not state._instances
    assert not state._reaping


# Sizes


async def test_the_cap_does_not_refuse_what_is_registered_already(backend: Backend) -> None:
    state = backend.state
    await state.acquire("one", MINUTE)
    await state.register("one", [session("a1"), session("a2"), session("a3")])
    again = await state.register("one", [session("a1", ANN, "r"), session("a4")], cap=3)
    assert again.outcomes == (Outcome.OK, Outcome.LIMIT)
    assert await state.room_users(["r"]) == {"r": {"ann"}}


async def test_ten_thousand_sessions_fit_into_one_call_and_are_reaped_in_parts(
    redis_url: str, redis_prefix: str
) -> None:
    """More than Lua lets a script unpack at once; the limit keeps each part of the reaping short."""
    async with opened("redis", url=redis_url, root=f"{{{redis_prefix}:realtime}}") as backend:
        state = backend.state
        await state.acquire("one", MINUTE)
        many = [session(f"s{n}", User(f"u{n}", "", "", ""), "channel:a") for n in range(10_000)]
        registered = await state.register("one", many)
        assert registered.outcomes == (Outcome.OK,) * 10_000
        rooms = [f"channel:{n}" for n in range(10_000)]
        await state.register("one", [session("s0", User("u0", "", "", ""), *rooms)])
        stored = await state.session("s0")
        assert stored is not None
        assert len(stored.rooms) == 10_000
        await state.unregister(["s0"])
        await state.release("one")
        assert await state.reap(4000) == await state.reap(4000)
        last = await state.reap(4000)
        assert (last.sessions, last.more) == (1999, False)
        assert (await backend.dump()).keys() == {"schema", "meta"}


async def test_sessions_in_very_many_rooms_are_reaped_a_few_at_a_time(
    redis_url: str, redis_prefix: str
) -> None:
    async with opened("redis", url=redis_url, root=f"{{{redis_prefix}:realtime}}") as backend:
        state = backend.state
        await state.acquire("one", MINUTE)
        rooms = [f"channel:{n}" for n in range(4000)]
        for n in range(8):
            await state.register("one", [session(f"s{n}", ANN, *rooms)])
        await state.release("one")
        first, second = await state.reap(), await state.reap()
        assert (first.sessions, first.more) == (5, True)
        assert (second.sessions, second.more) == (3, False)
        assert (await backend.dump()).keys() == {"schema", "meta"}


async def test_entries_that_belong_to_no_session_are_reaped_and_take_nobody_along(
    redis_backend: Backend,
) -> None:
    """As after somebody's hand was at the keys."""
    state, client = redis_backend.state, redis_backend.client
    assert client is not None
    assert isinstance(state, RedisState)
    await state.acquire("old", MINUTE)
    await state.acquire("new", MINUTE)
    await state.register("new", [session("moved")])
    await client.zadd(f"{state.root}:instance:old", {"moved": 1, "gone": 2})
    await state.release("old")
    assert await state.reap() == Reaped(2, False)
    assert set(await state.sessions()) == {"moved"}


async def test_a_session_is_found_among_others_of_like_names(backend: Backend) -> None:
    state = backend.state
    await state.acquire("one", MINUTE)
    sids = ["a", "aa", "a a", "%a", "a.", "ba", "ab"]
    await state.register("one", [session(sid) for sid in sids])
    for sid in ["a a", "a", "ab", "aa", "a.", "%a", "ba"]:
        sids.remove(sid)
        await state.unregister([sid])
        assert (await state.users()).get("ann", ()) == tuple(sids)


async def test_all_keys_lie_in_one_slot_of_a_cluster(redis_backend: Backend) -> None:
    state = redis_backend.state
    assert isinstance(state, RedisState)
    await state.acquire("on{e}", MINUTE)
    await state.acquire("gone", MINUTE)
    await state.register("on{e}", [session("{s}", User("{ann}", "", "", ""), "channel:{a}")])
    await state.register("gone", [session("b", BOB, "{}")])
    await state.release("gone")
    await state.reap(0)
    await state.touch("{s}", ["{gpt}"], ttl_ms=MINUTE)
    await state.revoke_user("{bob}")
    await state.revoke_token("{t}", 2**53)
    await state.lock_acquire("{cleanup}", "{one}", MINUTE)
    keys = list(await redis_backend.dump())
    assert len(keys) == 16
    assert len({key_slot(f"{state.root}:{key}".encode()) for key in keys}) == 1


# Crossings


async def test_registrations_of_one_user_that_cross_are_all_kept(backend: Backend) -> None:
    state = backend.state
    await asyncio.gather(*[state.acquire(f"instance {n}", MINUTE) for n in range(4)])
    sids = [f"s{n}" for n in range(40)]
    await asyncio.gather(
        *[state.register(f"instance {n % 4}", [session(sid, ANN, "r")]) for n, sid in enumerate(sids)]
    )
    assert sorted((await state.users())["ann"]) == sorted(sids)
    await asyncio.gather(*[state.unregister([sid]) for sid in sids[1:]])
    assert await state.users() == {"ann": ("s0",)}
    await backend.settle()
    joins = [change.joins for change in backend.heard.changes if change.joins or change.leaves]
    assert joins == [("ann",)]


async def test_the_cap_holds_when_registrations_cross(backend: Backend) -> None:
    state = backend.state
    await state.acquire("one", MINUTE)
    answers = await asyncio.gather(*[state.register("one", [session(f"s{n}")], cap=3) for n in range(10)])
    assert [answer.outcomes[0] for answer in answers].count(Outcome.OK) == 3
    assert len(await state.sessions_of("ann")) == 3


async def test_a_lock_goes_to_one_of_those_who_ask_at_once(backend: Backend) -> None:
    state = backend.state
    fences = await asyncio.gather(*[state.lock_acquire("cleanup", f"{n}", MINUTE) for n in range(8)])
    assert sorted(fence for fence in fences if fence) == [1]


async def test_a_fencing_token_grows_with_every_change_of_hands(backend: Backend) -> None:
    state = backend.state
    assert await state.lock_acquire("cleanup", "a", MINUTE) == 1
    assert await state.lock_acquire("cleanup", "a", MINUTE) == 1
    assert not await state.lock_release("cleanup", "b")
    assert not await state.lock_renew("cleanup", "b", MINUTE)
    assert await state.lock_release("cleanup", "a")
    assert not await state.lock_release("cleanup", "a")
    assert await state.lock_acquire("cleanup", "b", MINUTE) == 2
    backend.advance(61)
    assert await state.lock_acquire("cleanup", "b", MINUTE) == 3
    assert await state.lock_acquire("another", "a", MINUTE) == 1


# To the millisecond


@pytest.fixture
def exact_redis(monkeypatch: pytest.MonkeyPatch) -> RedisState:
    monkeypatch.setattr(time, "time", lambda: 2_000_000_000.0)
    server = fakeredis.FakeServer()
    link = RedisLink(SingleConnector("", make=lambda: fakeredis.FakeAsyncRedis(server=server)), timeout=20)
    return RedisState(link, root="{test:realtime}")


@pytest.fixture(params=["memory", "fakeredis"])
def exact(request: pytest.FixtureRequest) -> MemoryState | RedisState:
    """A state whose clock stands still; a real server's cannot."""
    if request.param == "memory":
        return MemoryState(clock=lambda: 2_000_000_000.0)
    state: RedisState = request.getfixturevalue("exact_redis")
    return state


async def test_times_end_at_their_millisecond(exact: MemoryState | RedisState) -> None:
    lease = await exact.acquire("one", 1000)
    assert lease.now_ms == 2_000_000_000_000
    await exact.register("one", [session("a")])
    await exact.touch("a", ["gpt"], ttl_ms=1000)
    await exact.lock_acquire("cleanup", "a", 1000)
    await exact.revoke_token("t", lease.now_ms + 1000)

    exact.clock_offset_ms = 999
    assert await exact.models_in_use() == ["gpt"]
    assert await exact.usage() == {"gpt": {"a": lease.now_ms + 1000}}
    assert await exact.sweep() == 1
    assert await exact.lock_acquire("cleanup", "b", 1000) is None
    assert await exact.lock_renew("cleanup", "a", 1)
    assert (await exact.reap()).sessions == 0
    assert await exact.revoked([Token("ann", "t", None)]) == [True]

    exact.clock_offset_ms = 1000
    assert await exact.models_in_use() == []
    assert await exact.usage() == {}
    assert not await exact.lock_renew("cleanup", "a", 1000)
    assert not await exact.lock_release("cleanup", "a")
    assert await exact.sweep() is None
    assert await exact.lock_acquire("cleanup", "a", 1000) == 2
    assert (await exact.reap()).sessions == 1
    assert await exact.revoked([Token("ann", "t", None)]) == [False]


async def test_a_use_that_ends_in_this_millisecond_does_not_keep_its_model_when_the_other_user_goes(
    exact: MemoryState | RedisState,
) -> None:
    await exact.acquire("one", MINUTE)
    await exact.register("one", [session("a"), session("b", BOB)])
    await exact.touch("a", ["gpt"], ttl_ms=1000)
    await exact.touch("b", ["gpt"], ttl_ms=2000)
    exact.clock_offset_ms = 1000
    await exact.unregister(["b"])
    assert (await exact.snapshot()).models == set()


async def test_a_renewed_lock_is_held_for_its_new_time(exact: MemoryState | RedisState) -> None:
    await exact.lock_acquire("cleanup", "a", 1000)
    exact.clock_offset_ms = 500
    assert await exact.lock_renew("cleanup", "a", 1000)
    exact.clock_offset_ms = 1499
    assert await exact.lock_acquire("cleanup", "b", 1000) is None
    exact.clock_offset_ms = 1500
    assert await exact.lock_acquire("cleanup", "b", 1000) == 2


async def test_a_fleet_of_another_schema_whose_last_lease_ends_now_lives_no_more(
    exact_redis: RedisState,
) -> None:
    await exact_redis.acquire("old", 1000)
    newer = RedisState(exact_redis._link, root=exact_redis.root, schema="another")
    newer.clock_offset_ms = 999
    with pytest.raises(SchemaMismatch):
        await newer.acquire("new", 1000)
    newer.clock_offset_ms = 1000
    await newer.acquire("new", 1000)
    assert set(await newer.leases()) == {"new"}


async def test_a_user_is_revoked_up_to_the_millisecond(exact: MemoryState | RedisState) -> None:
    await exact.acquire("one", 1000)
    await exact.revoke_user("ann")
    tokens = [Token("ann", None, 2_000_000_000_000 + late) for late in (-1, 0, 1)]
    assert await exact.revoked([*tokens, Token("ann", "t", None), Token("bob", None, None)]) == [
        True,
        True,
        False,
        True,
        False,
    ]


async def test_an_instance_whose_own_lease_has_expired_judges_nobody(backend: Backend) -> None:
    """Its call waited while the server stood still: the others had no chance to renew theirs either."""
    state = backend.state
    await state.acquire("one", 2 * MINUTE)
    await state.acquire("two", MINUTE)
    await state.register("two", [session("b1", BOB)])
    state.clock_offset_ms += 3 * MINUTE
    assert await state.reap(judge="one") == Reaped(0, False)
    assert await state.reap(judge="never there") == Reaped(0, False)
    await state.renew("one", MINUTE)
    assert (await state.reap(judge="one")).sessions == 1


async def test_a_renewal_says_which_expiry_stood_and_how_much_there_is_to_reap(backend: Backend) -> None:
    state = backend.state
    one = await state.acquire("one", 2 * MINUTE)
    first = await state.renew("one", 3 * MINUTE)
    assert 0 <= first.stood_ms - one.now_ms - 2 * MINUTE < MINUTE
    assert first.reapable == 0
    second = await state.renew("one", 3 * MINUTE)
    assert 0 <= second.stood_ms - first.now_ms - 3 * MINUTE < MINUTE
    lost = await state.renew("never there", MINUTE)
    assert (lost.alive, lost.stood_ms) == (False, 0)

    await state.acquire("expires", MINUTE)
    await state.acquire("released", 9 * MINUTE)
    await state.register("released", [session("b1", BOB)])
    await state.release("released")
    await state.revoke_token("t", first.now_ms + MINUTE)
    assert (await state.renew("one", 9 * MINUTE)).reapable == 1
    state.clock_offset_ms += 2 * MINUTE
    assert (await state.renew("one", 9 * MINUTE)).reapable == 3
    await state.reap()
    assert (await state.renew("one", 9 * MINUTE)).reapable == 0
