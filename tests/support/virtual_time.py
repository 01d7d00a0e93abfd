"""An event loop whose time passes only when everything waits: hours in a moment, and exact."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """For tests without sockets and threads. When nothing is left to wait for, that is a dead end and raises."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 1000.0
        select = self._selector.select  # type: ignore[attr-defined]

        def skip(timeout: float | None = None) -> Any:
            if timeout is None:
                raise RuntimeError("every task waits for something that will never happen")
            self._now += max(0.0, timeout)
            return select(0)

        self._selector.select = skip  # type: ignore[attr-defined]

    def time(self) -> float:
        return self._now


def run(scenario: Coroutine[Any, Any, _T]) -> _T:
    """Runs a scenario to its end in virtual time; it may take an hour of that."""

    async def bounded() -> _T:
        async with asyncio.timeout(3600):
            return await scenario

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(bounded())
