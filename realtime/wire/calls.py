"""Who waits for an acknowledgement: callbacks, calls, and askers on other instances."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from realtime.errors import RealtimeError, SessionGone


class Asker(Protocol):
    """Is told once how its question ended."""

    def answer(self, args: Sequence[Any]) -> None: ...

    def gone(self, sid: str, error: RealtimeError | None = None) -> None:
        """No answer comes: a socket that was asked has closed, the asker has to give way, or `error`."""


class CallWaiter:
    """A `call`: the answer ends its future, the loss of the socket fails it."""

    __slots__ = ("future",)

    def __init__(self) -> None:
        self.future: asyncio.Future[Sequence[Any]] = asyncio.get_running_loop().create_future()

    def answer(self, args: Sequence[Any]) -> None:
        if not self.future.done():
            self.future.set_result(args)

    def gone(self, sid: str, error: RealtimeError | None = None) -> None:
        if not self.future.done():
            self.future.set_exception(error or SessionGone())
            # Whoever called may have been cancelled: then nobody looks, and that is no news.
            self.future.exception()


@dataclass(frozen=True, slots=True)
class CallbackAsker:
    """The `callback=` of an emit; a coroutine function's result goes to `spawn`, so that reading is not held
    up.
    """

    callback: Callable[..., object]
    spawn: Callable[[Any], None]

    def answer(self, args: Sequence[Any]) -> None:
        result = self.callback(*args)
        if inspect.iscoroutine(result):
            self.spawn(result)

    def gone(self, sid: str, error: RealtimeError | None = None) -> None:
        """Stock semantics: a callback that is never answered is never called."""


@dataclass(frozen=True, slots=True)
class Question:
    """How a question is named between instances: the asking host, what it asked, and its number there."""

    host_id: str
    room: str
    namespace: str
    id: int


@dataclass(frozen=True, slots=True)
class RemoteAsker:
    """Someone on another instance, or a waiter of this one that was reached through a room."""

    question: Question
    answered: Callable[[Question, Sequence[Any]], None]
    lost: Callable[[Question], None]

    def answer(self, args: Sequence[Any]) -> None:
        self.answered(self.question, args)

    def gone(self, sid: str, error: RealtimeError | None = None) -> None:
        if sid == self.question.room:  # in a room of several the others may still answer
            self.lost(self.question)


class Waiting:
    """Questions asked of rooms or of sids elsewhere, by number. Bounded: the oldest gives way and is told."""

    def __init__(self, *, limit: int, evicted: Callable[[], None]) -> None:
        self._limit = limit
        self._evicted = evicted
        self._entries: dict[int, tuple[str, Asker]] = {}
        self._of_room: dict[str, set[int]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, number: int, room: str, asker: Asker) -> None:
        while len(self._entries) >= self._limit:
            oldest = next(iter(self._entries))
            asked, evicted = self._entries[oldest]
            self.take(oldest, asked)
            self._evicted()
            evicted.gone(asked)
        self._entries[number] = (room, asker)
        self._of_room.setdefault(room, set()).add(number)

    def take(self, number: int, room: str) -> Asker | None:
        """The asker, no longer kept; None for an unknown number or one that was asked of another room."""
        entry = self._entries.get(number)
        if entry is None or entry[0] != room:
            return None
        del self._entries[number]
        numbers = self._of_room[room]
        numbers.discard(number)
        if not numbers:
            del self._of_room[room]
        return entry[1]

    def take_all(self, room: str) -> list[Asker]:
        numbers = sorted(self._of_room.get(room, ()))
        return [asker for number in numbers if (asker := self.take(number, room)) is not None]
