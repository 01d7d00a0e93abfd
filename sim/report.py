"""Says in a line what a task waits for."""

from __future__ import annotations

import asyncio
from typing import Any

MOST_FRAMES = 4


def describe(task: asyncio.Task[Any]) -> str:
    """``scenario in hello:12 → Lab.on:163, which waits for a future``: the innermost frames, outermost first."""
    frames: list[str] = []
    waits: Any = task.get_coro()
    while waits is not None:
        frame = getattr(waits, "cr_frame", None) or getattr(waits, "gi_frame", None)
        frame = frame or getattr(waits, "ag_frame", None)
        if frame is None:
            break
        frames.append(f"{_name(frame.f_code)}:{frame.f_lineno}")
        waits = getattr(waits, "cr_await", None) or getattr(waits, "gi_yieldfrom", None)
    waits = getattr(task, "_fut_waiter", None) or waits
    shown = frames if len(frames) <= MOST_FRAMES else [frames[0], "…", *frames[1 - MOST_FRAMES :]]
    return f"{task.get_name()} in {' → '.join(shown) or 'nothing'}{_awaited(waits)}"


def _name(code: Any) -> str:
    return str(getattr(code, "co_qualname", code.co_name)).replace(".<locals>", "")


def _awaited(waits: Any) -> str:
    if isinstance(waits, asyncio.Task):
        return f", waits for the task {waits.get_name()}"
    if isinstance(waits, asyncio.Future):
        return ", which is ready" if waits.done() else ""
    return ""
