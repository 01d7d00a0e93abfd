"""Many look-ups at once, few queries: what is asked while a query is under way goes into the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping
from typing import Generic, TypeVar

from realtime.errors import DirectoryUnavailable, RealtimeError

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Batcher(Generic[K, V]):
    """Answers `load(key)` from `fetch(keys)`, with one fetch under way at any time.

    `fetch` gets at most `max_batch` distinct keys and returns what it found; it must be bounded in time. Each
    caller waits at most `timeout` seconds whatever `fetch` does, at most `max_waiting` callers wait, and a
    fetch that fails fails exactly the callers whose keys were in it. A key asked for while nothing is under
    way is fetched at once; fetches that follow each other are `pause` seconds apart, unless a batch is full.
    """

    def __init__(
        self,
        fetch: Callable[[list[K]], Awaitable[Mapping[K, V]]],
        *,
        timeout: float,
        max_batch: int = 512,
        max_waiting: int = 50_000,
        pause: float = 0.01,
    ) -> None:
        self._fetch = fetch
        self._timeout = timeout
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._pause = pause
        self._pending: dict[K, list[asyncio.Future[V | None]]] = {}
        self._waiting = 0
        self._runner: asyncio.Task[None] | None = None
        self._closed = False

    async def load(self, key: K) -> V | None:
        """What `fetch` found for `key`, or None.

        Raises:
            DirectoryUnavailable: the fetch failed or took too long, too many callers wait, or this is closed.
        """
        if self._closed:
            raise DirectoryUnavailable("The user directory is closed: this instance is shutting down.")
        if self._waiting >= self._max_waiting:
            raise DirectoryUnavailable("Too many look-ups wait for the database: try again in a moment.")
        loop = asyncio.get_running_loop()
        # One future for each caller: a caller that is cancelled must not take the others along.
        future: asyncio.Future[V | None] = loop.create_future()
        self._pending.setdefault(key, []).append(future)
        if self._runner is None:
            self._runner = loop.create_task(self._run(), name="directory-batches")
        self._waiting += 1
        timer = loop.call_later(self._timeout, self._give_up, future)
        try:
            return await future
        finally:
            timer.cancel()
            self._waiting -= 1

    async def close(self) -> None:
        """Fail whoever waits, and end."""
        self._closed = True
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.wait({self._runner}, timeout=self._timeout)

    async def _run(self) -> None:
        batch: dict[K, list[asyncio.Future[V | None]]] = {}
        try:
            while batch := self._take():
                try:
                    found = await self._fetch(list(batch))
                except Exception as error:
                    _fail(batch, error)
                else:
                    for key, futures in batch.items():
                        for future in futures:
                            if not future.done():
                                future.set_result(found.get(key))
                # A query costs milliseconds of CPU however little it asks for: let more come together.
                if 0 < len(self._pending) < self._max_batch:
                    await asyncio.sleep(self._pause)
        finally:
            # However this task ends, nobody waits for it any more, and the next call starts another.
            self._runner = None
            _fail(batch, None)
            _fail(self._pending, None)
            self._pending = {}

    def _take(self) -> dict[K, list[asyncio.Future[V | None]]]:
        batch: dict[K, list[asyncio.Future[V | None]]] = {}
        while self._pending and len(batch) < self._max_batch:
            key = next(iter(self._pending))
            futures = self._pending.pop(key)
            # Callers that gave up while they waited need no query.
            if not all(future.done() for future in futures):
                batch[key] = futures
        return batch

    def _give_up(self, future: asyncio.Future[V | None]) -> None:
        if not future.done():
            future.set_exception(
                DirectoryUnavailable(f"The database did not answer within {self._timeout:g} s.")
            )


def _fail(batch: Mapping[K, list[asyncio.Future[V | None]]], cause: Exception | None) -> None:
    for futures in batch.values():
        for future in futures:
            if not future.done():
                # One error object for each caller: a shared one would collect all their tracebacks.
                error = (
                    type(cause)(str(cause)) if isinstance(cause, RealtimeError) else DirectoryUnavailable()
                )
                error.__cause__ = cause
                future.set_exception(error)
