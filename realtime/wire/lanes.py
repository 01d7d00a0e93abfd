"""A lane: jobs done strictly one after another by a task that exists only while there is work."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

Job = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class _Queued:
    run: Job
    tag: object
    weight: int


class Lane:
    """A bounded queue of jobs and at most one worker.

    A job that raises is reported and the next one goes on. A worker that ends with work left, because someone
    cancelled it, is reported and replaced. `limit` bounds the jobs that wait, `limit_weight` the sum of their
    weights (bytes, say); the running job counts in neither.
    """

    __slots__ = ("_limit", "_limit_weight", "_lost", "_queue", "_raised", "_stopped", "_weight", "_worker")

    def __init__(
        self,
        *,
        limit: int,
        limit_weight: int = 1 << 62,
        raised: Callable[[BaseException], None],
        lost: Callable[[], None],
    ) -> None:
        self._limit = limit
        self._limit_weight = limit_weight
        self._raised = raised
        self._lost = lost
        self._queue: deque[_Queued] | None = None  # made for work: an empty one is larger than all the rest
        self._weight = 0
        self._worker: asyncio.Task[None] | None = None
        self._stopped = False

    def __len__(self) -> int:
        return 0 if self._queue is None else len(self._queue)

    @property
    def busy(self) -> bool:
        """Whether a job runs or waits."""
        return self._worker is not None

    def put(self, job: Job, *, tag: object = None, weight: int = 0) -> bool:
        """Queue a job; False when too many wait already, and then it is not queued."""
        if len(self) >= self._limit or self._weight + weight > self._limit_weight:
            return False
        self.force(job, tag=tag, weight=weight)
        return True

    def force(self, job: Job, *, tag: object = None, weight: int = 0) -> None:
        """Queue a job whatever waits: for the few that must not be lost, such as a disconnect."""
        if self._stopped:
            return
        if self._queue is None:
            self._queue = deque()
        self._queue.append(_Queued(job, tag, weight))
        self._weight += weight
        if self._worker is None:
            self._start()

    def drop(self, tag: object) -> int:
        """Take the waiting jobs with this tag out and say how many there were."""
        if self._queue is None:
            return 0
        kept = deque(job for job in self._queue if job.tag is not tag)
        dropped = len(self._queue) - len(kept)
        self._queue = kept
        self._weight = sum(job.weight for job in kept)
        return dropped

    async def stop(self, timeout: float) -> None:
        """Take no more jobs, give those there `timeout` seconds, then cancel."""
        self._stopped = True
        worker = self._worker
        if worker is None or worker is asyncio.current_task():
            return
        _, pending = await asyncio.wait([worker], timeout=timeout)
        if pending:
            self._queue = None
            worker.cancel()
            # Bounded again: a job may refuse to be cancelled, and then it is left to the loop's end.
            await asyncio.wait([worker], timeout=timeout)

    def _start(self) -> None:
        self._worker = asyncio.get_running_loop().create_task(self._work())
        self._worker.add_done_callback(self._ended)

    async def _work(self) -> None:
        while self._queue:
            job = self._queue.popleft()
            self._weight -= job.weight
            try:
                await job.run()
            except asyncio.CancelledError as error:
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise
                # The job awaited something that others cancelled: its failure, not this worker's end.
                self._raised(error)
            except Exception as error:
                self._raised(error)

    def _ended(self, worker: asyncio.Task[None]) -> None:
        self._worker = None
        if not worker.cancelled() and worker.exception() is None:
            self._go_on()
            return
        if self._stopped:
            return
        self._lost()
        self._go_on()

    def _go_on(self) -> None:
        if self._queue:
            self._start()
        else:
            self._queue = None
