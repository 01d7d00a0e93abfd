"""Supervised tasks go on whatever happens to them, and end when they are told to. Time is virtual here."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging

import pytest

from realtime.errors import StateUnavailable
from realtime.tasks import LONGEST_PAUSE, Supervisor
from tests.support.virtual_time import run


def test_a_task_that_raises_or_returns_is_started_again_after_a_growing_pause() -> None:
    async def scenario() -> None:
        loop, tasks = asyncio.get_running_loop(), Supervisor()
        starts: list[float] = []

        async def work() -> None:
            starts.append(loop.time())
            if len(starts) % 2:
                raise ValueError("nobody foresaw this")

        tasks.spawn("work", work)
        await asyncio.sleep(60)
        pauses = [round(later - earlier, 3) for earlier, later in itertools.pairwise(starts)]
        assert pauses[0] == pytest.approx(0.05)
        assert max(pauses) == pytest.approx(LONGEST_PAUSE)
        assert pauses == sorted(pauses)
        assert tasks.failures["work"] == len(starts)
        await tasks.close()

    run(scenario())


def test_a_cancelled_thing_that_a_task_awaited_does_not_end_the_task() -> None:
    async def scenario() -> None:
        tasks = Supervisor()
        runs = 0

        async def work() -> None:
            nonlocal runs
            runs += 1
            gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            gone.cancel()
            await gone

        task = tasks.spawn("work", work)
        await asyncio.sleep(1)
        assert runs > 1
        assert not task.done()
        await tasks.close()
        assert task.cancelled()

    run(scenario())


def test_a_task_whose_clean_up_fails_ends_all_the_same_when_cancelled() -> None:
    async def scenario() -> None:
        tasks = Supervisor()

        async def work() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                raise StateUnavailable("nothing can be given back now")

        task = tasks.spawn("work", work)
        await asyncio.sleep(0)
        async with asyncio.timeout(1):
            await tasks.close()
        assert task.done()

    run(scenario())


def test_closing_ends_also_what_is_started_meanwhile_and_may_be_asked_for_by_one_of_the_tasks() -> None:
    async def scenario() -> None:
        tasks = Supervisor()
        late: list[asyncio.Task[None]] = []

        async def work() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                late.append(tasks.spawn("late", asyncio.Event().wait))  # type: ignore[arg-type]

        tasks.spawn("work", work)
        await asyncio.sleep(0)
        closing = tasks.once("close", tasks.close())
        await closing
        assert late
        assert all(task.done() for task in late)

    run(scenario())


def test_one_piece_of_work_that_fails_is_logged_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        tasks = Supervisor()

        async def work() -> None:
            raise ValueError("nobody foresaw this")

        await tasks.once("work", work())
        assert tasks.failures == {"work": 1}

    with caplog.at_level(logging.ERROR):
        run(scenario())
    assert "the task work failed" in caplog.text


@pytest.mark.filterwarnings("error")
def test_one_piece_of_work_that_never_began_leaves_no_warning() -> None:
    async def scenario() -> None:
        tasks = Supervisor()

        async def work() -> None:
            raise AssertionError("this never runs")

        coroutine = work()
        task = tasks.once("work", coroutine)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="reuse"):
            coroutine.send(None)

    run(scenario())
