"""A pacer sends soon, not too often, not too much, and loses nothing. Time is virtual here."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realtime.pacing import LONGEST_DEBT, Pacer
from tests.support.virtual_time import run

INTERVAL = 0.25
RATE = 1000.0
TINY = 1e-6

PAUSES = st.floats(0, 1).map(lambda seconds: round(seconds, 3))
ACTIONS = st.tuples(PAUSES, st.sampled_from(["nudge", "charge", "nothing"]), st.integers(0, 3000))


@settings(max_examples=200, deadline=None)
@given(st.lists(ACTIONS, max_size=30), st.lists(st.integers(0, 10_000), max_size=5))
def test_sendings_keep_interval_and_rate_and_follow_every_change_within_a_bound(
    actions: list[tuple[float, str, int]], sizes: list[int]
) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        costs = itertools.chain(sizes, itertools.repeat(100))
        sendings: list[tuple[float, int]] = []
        nudges: list[float] = []

        async def send() -> int:
            sendings.append((loop.time(), next(costs)))
            return sendings[-1][1]

        pacer = Pacer(send, interval=INTERVAL, bytes_per_second=RATE)
        task = asyncio.create_task(pacer.run())
        for pause, action, size in actions:
            await asyncio.sleep(pause)
            if action == "nudge":
                nudges.append(loop.time())
                pacer.nudge()
            elif action == "charge":
                pacer.charge(size)
        await asyncio.sleep(60)
        task.cancel()
        for (before, cost), (after, _) in itertools.pairwise(sendings):
            assert after - before >= max(INTERVAL, cost / RATE) - TINY
        for at in nudges:
            followed = min(time for time, _ in sendings if time >= at - TINY)
            paid = max([at, *(time + max(INTERVAL, cost / RATE) for time, cost in sendings if time < at)])
            assert followed - paid <= LONGEST_DEBT + TINY
        assert len(sendings) <= len(nudges)

    run(scenario())


def test_what_is_charged_puts_a_sending_off_but_never_for_good() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        sent_at: list[float] = []

        async def send() -> int:
            sent_at.append(loop.time())
            return 0

        pacer = Pacer(send, interval=INTERVAL, bytes_per_second=RATE)
        task = asyncio.create_task(pacer.run())
        pacer.charge(1000)
        pacer.nudge()
        await asyncio.sleep(0.999)
        assert not sent_at
        await asyncio.sleep(0.01)
        assert len(sent_at) == 1

        async def storm() -> None:
            while True:
                pacer.charge(100_000)
                await asyncio.sleep(0.01)

        charging = asyncio.create_task(storm())
        await asyncio.sleep(1)
        pacer.nudge()
        await asyncio.sleep(LONGEST_DEBT + INTERVAL)
        assert len(sent_at) == 2
        charging.cancel()
        await asyncio.sleep(LONGEST_DEBT + 0.1)
        before = loop.time()
        await pacer.turn()
        assert loop.time() == before
        task.cancel()

    run(scenario())


def test_whoever_asks_waits_for_its_turn_and_not_for_ever() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()

        async def send() -> int:
            return 0

        pacer = Pacer(send, interval=INTERVAL, bytes_per_second=RATE)
        began = loop.time()
        for _ in range(10):
            await pacer.turn()
            pacer.charge(500)
        assert loop.time() - began == pytest.approx(4.5)
        pacer.charge(10**9)
        began = loop.time()
        await pacer.turn()
        assert loop.time() - began == pytest.approx(LONGEST_DEBT)

    run(scenario())


def test_what_could_not_be_sent_is_sent_when_the_task_is_started_again() -> None:
    async def scenario() -> None:
        failures = [RuntimeError("nobody foresaw this")]
        sent = 0

        async def send() -> int:
            nonlocal sent
            if failures:
                raise failures.pop()
            sent += 1
            return 0

        pacer = Pacer(send, interval=INTERVAL, bytes_per_second=RATE)
        pacer.nudge()
        with pytest.raises(RuntimeError):
            await pacer.run()
        task = asyncio.create_task(pacer.run())
        await asyncio.sleep(1)
        assert sent == 1
        task.cancel()

    run(scenario())
