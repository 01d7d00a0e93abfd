"""The batcher: few fetches, and nobody waits for ever or suffers for another."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from realtime.directory.batching import Batcher
from realtime.errors import DirectoryUnavailable


class Source:
    """A fetch that notes its batches and waits for `gate` before it answers, or fails."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.gate = asyncio.Event()
        self.failing = False

    async def fetch(self, keys: list[str]) -> Mapping[str, str]:
        self.batches.append(keys)
        await self.gate.wait()
        if self.failing:
            raise OSError("no database")
        return {key: key.upper() for key in keys if key != "nobody"}


async def until_fetching(source: Source, batches: int = 1) -> None:
    async with asyncio.timeout(10):
        while len(source.batches) < batches:
            await asyncio.sleep(0)


async def test_what_is_asked_at_once_is_one_fetch_and_each_key_is_asked_once() -> None:
    source = Source()
    source.gate.set()
    batcher = Batcher(source.fetch, timeout=10)
    answers = await asyncio.gather(*(batcher.load(key) for key in ["a", "b", "a", "nobody"]))
    assert answers == ["A", "B", "A", None]
    assert source.batches == [["a", "b", "nobody"]]


async def test_what_is_asked_during_a_fetch_goes_together_into_the_next() -> None:
    source = Source()
    batcher = Batcher(source.fetch, timeout=10)
    first = asyncio.create_task(batcher.load("a"))
    await until_fetching(source)
    rest = [asyncio.create_task(batcher.load(key)) for key in ["a", "b", "c"]]
    await asyncio.sleep(0)
    source.gate.set()
    assert await asyncio.gather(first, *rest) == ["A", "A", "B", "C"]
    assert source.batches == [["a"], ["a", "b", "c"]]


async def test_no_batch_is_larger_than_the_limit() -> None:
    source = Source()
    source.gate.set()
    batcher = Batcher(source.fetch, timeout=10, max_batch=3)
    await asyncio.gather(*(batcher.load(str(number)) for number in range(8)))
    assert list(map(len, source.batches)) == [3, 3, 2]


async def test_a_cancelled_caller_takes_nobody_along() -> None:
    source = Source()
    batcher = Batcher(source.fetch, timeout=10)
    callers = [asyncio.create_task(batcher.load("a")) for _ in range(3)]
    await until_fetching(source)
    callers[0].cancel()
    source.gate.set()
    assert await asyncio.gather(*callers[1:]) == ["A", "A"]
    assert await batcher.load("b") == "B"


async def test_a_failed_fetch_fails_each_of_its_callers_with_an_error_of_its_own_and_nobody_else() -> None:
    source = Source()
    source.failing = True
    batcher = Batcher(source.fetch, timeout=10)
    failing = [asyncio.create_task(batcher.load(key)) for key in ["a", "a", "b"]]
    await until_fetching(source)
    later = asyncio.create_task(batcher.load("a"))
    await asyncio.sleep(0)
    source.gate.set()
    errors = await asyncio.gather(*failing, return_exceptions=True)
    source.failing = False
    assert all(type(error) is DirectoryUnavailable for error in errors)
    assert len({id(error) for error in errors}) == 3
    assert await later == "A"


async def test_nobody_waits_longer_than_the_time_out_for_a_fetch_that_hangs() -> None:
    source = Source()
    batcher = Batcher(source.fetch, timeout=0.05)
    in_the_fetch = asyncio.create_task(batcher.load("a"))
    await until_fetching(source)
    behind_it = asyncio.create_task(batcher.load("b"))
    async with asyncio.timeout(10):
        errors = await asyncio.gather(in_the_fetch, behind_it, return_exceptions=True)
    assert all(type(error) is DirectoryUnavailable for error in errors)
    source.gate.set()
    assert await batcher.load("c") == "C"
    assert source.batches == [["a"], ["c"]]


async def test_callers_beyond_the_limit_are_refused_at_once() -> None:
    source = Source()
    batcher = Batcher(source.fetch, timeout=10, max_waiting=2)
    waiting = [asyncio.create_task(batcher.load("a")) for _ in range(2)]
    await until_fetching(source)
    with pytest.raises(DirectoryUnavailable, match="Too many"):
        await batcher.load("a")
    source.gate.set()
    assert await asyncio.gather(*waiting) == ["A", "A"]
    assert await batcher.load("a") == "A"


async def test_closing_fails_whoever_waits_and_whoever_comes_later() -> None:
    source = Source()
    batcher = Batcher(source.fetch, timeout=10)
    in_the_fetch = asyncio.create_task(batcher.load("a"))
    await until_fetching(source)
    behind_it = asyncio.create_task(batcher.load("b"))
    await asyncio.sleep(0)
    await batcher.close()
    async with asyncio.timeout(10):
        errors = await asyncio.gather(in_the_fetch, behind_it, batcher.load("c"), return_exceptions=True)
    assert all(type(error) is DirectoryUnavailable for error in errors)


async def test_look_ups_go_on_after_the_batching_task_was_killed() -> None:
    source = Source()
    batcher = Batcher(source.fetch, timeout=10)
    caller = asyncio.create_task(batcher.load("a"))
    await until_fetching(source)
    (task,) = (task for task in asyncio.all_tasks() if task.get_name() == "directory-batches")
    task.cancel()
    async with asyncio.timeout(10):
        with pytest.raises(DirectoryUnavailable):
            await caller
    source.gate.set()
    assert await batcher.load("b") == "B"
