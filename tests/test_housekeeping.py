"""The end of models' use is announced in time, whoever leads and whatever fails. Time is virtual here."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realtime.directory import User
from realtime.errors import StateUnavailable
from realtime.housekeeping import RedisLock, UsageCleanup
from realtime.state import Change, MemoryState, Session
from tests.support.barriers import Barriers
from tests.support.virtual_time import run

USAGE = 3.0
LOCK = 60.0
ANNOUNCED_WITHIN = 0.25 - 0.05  # the audience's own interval takes the rest


def a_state() -> MemoryState:
    return MemoryState(clock=asyncio.get_running_loop().time)


def a_cleanup(
    state: MemoryState, *, usage_seconds: float = USAGE, lock_timeout: float = LOCK
) -> UsageCleanup:
    lock = RedisLock(state, "usage-cleanup", lock_timeout)
    return UsageCleanup(state, lock, lock_timeout=lock_timeout, usage_seconds=usage_seconds)


async def sessions(state: MemoryState, *sids: str) -> None:
    await state.acquire("lease", 10**9)
    await state.register("lease", [Session(sid, User(sid, sid, "user", "")) for sid in sids])


TOUCHES = st.tuples(
    st.floats(0, 4).map(lambda seconds: round(seconds, 3)),
    st.sampled_from(["a", "b"]),
    st.sampled_from(["m", "n"]),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(TOUCHES, max_size=12), st.integers(0, 12), st.sampled_from([0.4, 3.0]))
def test_the_end_of_a_models_use_is_announced_in_time_with_a_leader_and_without(
    touches: list[tuple[float, str, str]], leader_dies_after: int, usage_seconds: float
) -> None:
    async def scenario() -> None:
        loop, state = asyncio.get_running_loop(), a_state()
        await sessions(state, "a", "b")
        ends: dict[str, float] = {}
        announced: list[tuple[str, float]] = []

        def on_change(change: Change) -> None:
            for model in change.ended:
                announced.append((model, loop.time()))
                assert 0 <= loop.time() - ends.pop(model) <= ANNOUNCED_WITHIN

        state.listen(on_change, lambda: None)
        leader = asyncio.create_task(a_cleanup(state, usage_seconds=usage_seconds).run())
        await asyncio.sleep(0.01)
        follower = asyncio.create_task(a_cleanup(state, usage_seconds=usage_seconds).run())
        for number, (pause, sid, model) in enumerate(touches):
            if number == leader_dies_after:
                state.lock_release = _never  # type: ignore[method-assign]  # killed: it cannot even release
                leader.cancel()
            await asyncio.sleep(pause)
            await state.touch(sid, [model], ttl_ms=round(usage_seconds * 1000))
            ends[model] = (await state.usage())[model][sid] / 1000
        await asyncio.sleep(usage_seconds + 1)
        assert not ends
        for task in (leader, follower):
            task.cancel()

    run(scenario())


async def _never(*_args: Any) -> bool:
    raise StateUnavailable("killed")


@pytest.mark.parametrize("verb", ["sweep", "lock_acquire", "lock_renew", "lock_release"])
@pytest.mark.parametrize(
    "error", [StateUnavailable("no"), ValueError("nobody foresaw this"), OSError("gone")]
)
def test_no_failure_of_the_state_ends_the_cleaner_and_none_of_the_lock_keeps_it_from_its_work(
    verb: str, error: Exception
) -> None:
    async def scenario() -> None:
        state = a_state()
        await sessions(state, "a")
        verbs = Barriers(state)
        task = asyncio.create_task(a_cleanup(state, lock_timeout=1).run())
        await asyncio.sleep(2)
        gate = verbs.fail(verb, error=error)
        await state.touch("a", ["m"], ttl_ms=3000)
        await asyncio.sleep(5)
        assert not task.done()
        assert (await state.snapshot()).models == ({"m"} if verb == "sweep" else set())
        verbs.remove(gate)
        await asyncio.sleep(1.2)
        assert (await state.snapshot()).models == set()
        verbs.fail("lock_release", error=error)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(scenario())


def test_redis_is_left_in_peace_while_no_model_is_in_use() -> None:
    async def scenario() -> None:
        state, in_use = a_state(), set[str]()
        await sessions(state, "a")
        verbs = Barriers(state)
        lock = RedisLock(state, "usage-cleanup", LOCK)
        cleanup = UsageCleanup(state, lock, lock_timeout=LOCK, usage_seconds=USAGE, in_use=lambda: in_use)
        task = asyncio.create_task(cleanup.run())
        gate = verbs.fail("sweep")
        await asyncio.sleep(30)
        assert gate.calls == 0
        verbs.remove(gate)
        in_use.add("m")
        await state.touch("a", ["m"], ttl_ms=3000)
        await asyncio.sleep(3 + ANNOUNCED_WITHIN)
        assert (await state.snapshot()).models == set()
        task.cancel()

    run(scenario())


def test_cancellation_ends_it_and_hands_the_lock_on() -> None:
    async def scenario() -> None:
        state = a_state()
        task = asyncio.create_task(a_cleanup(state).run())
        await asyncio.sleep(1)
        another = RedisLock(state, "usage-cleanup", LOCK)
        assert not await another.acquire()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await another.acquire()

    run(scenario())


def test_a_release_that_hangs_does_not_hold_up_the_end() -> None:
    async def scenario() -> None:
        loop, state = asyncio.get_running_loop(), a_state()
        verbs = Barriers(state)
        task = asyncio.create_task(a_cleanup(state).run())
        await asyncio.sleep(1)
        verbs.hold("lock_release")
        began = loop.time()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert loop.time() - began <= 1.0

    run(scenario())


def test_the_lock_changes_hands_after_its_time_and_then_the_old_holder_has_nothing() -> None:
    async def scenario() -> None:
        state = a_state()
        mine, theirs = RedisLock(state, "a lock", 10), RedisLock(state, "a lock", 10)
        assert await mine.acquire()
        assert await mine.acquire()
        assert mine.fence == 1
        assert not await theirs.acquire()
        await asyncio.sleep(9)
        assert await mine.renew()
        assert mine.fence == 1
        await asyncio.sleep(9)
        assert not await theirs.acquire()
        await asyncio.sleep(2)
        assert await theirs.acquire()
        assert theirs.fence == 2
        assert not await mine.renew()
        assert mine.fence is None
        assert not await mine.release()
        assert await theirs.release()
        assert await mine.acquire()
        assert mine.fence == 3

    run(scenario())


SAID = {
    "sweep": "models' use could not be cleaned up, trying again",
    "lock_acquire": "the cleanup lock is not to be had",
    "lock_renew": "the cleanup lock is not to be had",
    "lock_release": "the cleanup lock was left to expire",
}


@pytest.mark.parametrize("verb", list(SAID))
@pytest.mark.parametrize("error", [StateUnavailable("no"), ValueError("nobody foresaw this")])
def test_what_fails_is_said_with_a_traceback_only_if_nobody_foresaw_it(
    verb: str, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        state = a_state()
        Barriers(state).fail(verb, error=error)
        task = asyncio.create_task(a_cleanup(state, lock_timeout=3).run())
        await asyncio.sleep(1.5 if verb == "lock_renew" else 0.5)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run(scenario())
    assert {record.message for record in caplog.records} == {f"{SAID[verb]}: {error}"}
    assert all(bool(record.exc_info) == isinstance(error, ValueError) for record in caplog.records)


def test_who_could_not_renew_the_lock_asks_for_it_anew() -> None:
    async def scenario() -> None:
        state = a_state()
        verbs = Barriers(state)
        task = asyncio.create_task(a_cleanup(state, lock_timeout=3).run())
        await asyncio.sleep(0.1)
        assert verbs.counts["lock_acquire"] == 1
        verbs.fail("lock_renew")
        await asyncio.sleep(3)
        assert verbs.counts["lock_acquire"] > 1
        task.cancel()

    run(scenario())


# How often it looks, and how soon


async def _touched(state: MemoryState, seconds: float) -> dict[str, float]:
    """When each model ended, counted from the end of its use; ``m`` is in use for so long from now."""
    loop, late = asyncio.get_running_loop(), dict[str, float]()
    await sessions(state, "a")
    await state.touch("a", ["m"], ttl_ms=round(seconds * 1000))
    end = (await state.usage())["m"]["a"] / 1000
    state.listen(lambda change: late.update(dict.fromkeys(change.ended, loop.time() - end)), lambda: None)
    return late


def test_the_leader_ends_a_models_use_some_milliseconds_after_its_time() -> None:
    async def scenario() -> None:
        state = a_state()
        late = await _touched(state, 0.1)
        task = asyncio.create_task(a_cleanup(state).run())
        await asyncio.sleep(1)
        assert 0.002 <= late["m"] <= 0.02
        task.cancel()

    run(scenario())


def test_who_does_not_lead_leaves_the_leader_time_and_follows_all_the_same() -> None:
    async def scenario() -> None:
        state = a_state()
        assert await RedisLock(state, "usage-cleanup", LOCK).acquire()
        late = await _touched(state, 0.1)
        task = asyncio.create_task(a_cleanup(state).run())
        await asyncio.sleep(1)
        assert 0.03 <= late["m"] <= ANNOUNCED_WITHIN
        task.cancel()

    run(scenario())


@pytest.mark.parametrize("phase", [0.0, 0.2, 0.4, 0.6, 0.8])
def test_a_model_that_ends_earlier_because_its_longest_user_leaves_is_announced_in_time(phase: float) -> None:
    async def scenario() -> None:
        state = a_state()
        task = asyncio.create_task(a_cleanup(state).run())
        await asyncio.sleep(phase)
        late = await _touched(state, 1.5)
        await state.register("lease", [Session("b", User("b", "b", "user", ""))])
        await state.touch("b", ["m"], ttl_ms=60_000)
        await asyncio.sleep(1.45)
        await state.unregister(["b"])
        await asyncio.sleep(1)
        assert 0 <= late["m"] <= ANNOUNCED_WITHIN
        task.cancel()

    run(scenario())


def test_it_looks_no_more_often_than_it_must() -> None:
    async def scenario() -> None:
        state = a_state()
        verbs = Barriers(state)
        task = asyncio.create_task(a_cleanup(state).run())
        await asyncio.sleep(20)
        assert 20 <= verbs.counts["sweep"] <= 22
        await _touched(state, 3)
        before = verbs.counts["sweep"]
        await asyncio.sleep(3)
        assert verbs.counts["sweep"] - before <= 3 / 0.15 + 3
        task.cancel()

    run(scenario())


def test_the_lock_is_renewed_three_times_in_its_life() -> None:
    async def scenario() -> None:
        state = a_state()
        verbs = Barriers(state)
        task = asyncio.create_task(a_cleanup(state, lock_timeout=12).run())
        await asyncio.sleep(120)
        assert verbs.counts["lock_acquire"] == 1
        assert 25 <= verbs.counts["lock_renew"] <= 31
        task.cancel()

    run(scenario())


def test_a_release_that_takes_half_a_second_still_hands_the_lock_on() -> None:
    async def scenario() -> None:
        state = a_state()
        verbs = Barriers(state)
        task = asyncio.create_task(a_cleanup(state).run())
        await asyncio.sleep(1)
        slow = verbs.hold("lock_release")
        task.cancel()
        await asyncio.sleep(0.5)
        verbs.remove(slow)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await RedisLock(state, "usage-cleanup", LOCK).acquire()

    run(scenario())


def test_only_who_leads_shows_a_fencing_token() -> None:
    async def scenario() -> None:
        state = a_state()
        leader, follower = a_cleanup(state), a_cleanup(state)
        tasks = []
        for each in (leader, follower):
            tasks.append(asyncio.create_task(each.run()))
            await asyncio.sleep(0.1)
        assert (leader.leading, leader.fence) == (True, 1)
        assert (follower.leading, follower.fence) == (False, None)
        for task in tasks:
            task.cancel()

    run(scenario())
