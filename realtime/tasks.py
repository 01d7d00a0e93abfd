"""Background tasks that survive everything but cancellation, and whose failures are seen."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

log = logging.getLogger(__name__)

LONGEST_PAUSE = 5.0


class Supervisor:
    """Starts tasks, starts them again when they fail, ends them all together."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self.failures: Counter[str] = Counter()
        """How often each task failed and was started again."""

    def spawn(self, name: str, run: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        """Runs ``run`` for ever: whenever it raises or returns it is called again, after a growing pause."""
        return self._own(asyncio.create_task(self._keep_running(name, run), name=name))

    def once(self, name: str, run: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Runs one piece of work; a failure is logged and counted."""
        task = self._own(asyncio.create_task(self._run_once(name, run), name=name))
        task.add_done_callback(lambda _task: run.close())  # cancelled before its first step, it never began
        return task

    async def close(self) -> None:
        """Cancels every task, and those that they start meanwhile, and waits for their end."""
        while tasks := self._tasks - {asyncio.current_task()}:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    def _own(self, task: asyncio.Task[None]) -> asyncio.Task[None]:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _keep_running(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        pause = 0.05
        while True:
            started = asyncio.get_running_loop().time()
            try:
                await run()
                log.error("the task %s ended, which it never should: starting it again", name)
            except asyncio.CancelledError:
                # Nobody cancelled this task: something that it awaited was cancelled under it.
                if _cancelled():
                    raise
                log.exception("the task %s met a cancelled one: starting it again", name)
            except Exception:
                log.exception("the task %s failed: starting it again", name)
            if _cancelled():
                raise asyncio.CancelledError  # whatever its clean-up raised instead
            self.failures[name] += 1
            if asyncio.get_running_loop().time() - started > LONGEST_PAUSE:
                pause = 0.05
            await asyncio.sleep(pause)
            pause = min(LONGEST_PAUSE, pause * 2)

    async def _run_once(self, name: str, run: Coroutine[Any, Any, None]) -> None:
        try:
            await run
        except Exception:
            self.failures[name] += 1
            log.exception("the task %s failed", name)


def _cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
