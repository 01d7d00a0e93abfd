"""Verbs of the shared state that a test holds, lets go or makes fail: interleavings by order, never by sleeping."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Literal

from realtime.errors import StateUnavailable
from realtime.server import RealtimeServer
from realtime.state import State

When = Literal["before", "after"]
Matches = Callable[..., bool]

VERBS = [
    name
    for name, verb in vars(State).items()
    if inspect.iscoroutinefunction(verb) and name not in ("start", "close")
]


class Gate:
    """Where calls of one verb wait. ``before``: nothing was sent yet; ``after``: it is done, and its reply is held."""

    def __init__(self, when: When, matches: Matches) -> None:
        self.when = when
        self.matches = matches
        self.reached = asyncio.Event()
        """Set as soon as a call waits here."""
        self.calls = 0
        self._open = asyncio.Event()
        self._error: BaseException | None = None

    def open(self) -> None:
        """Lets the calls that wait here go on, and those to come pass."""
        self._open.set()

    def fail(self, error: BaseException | None = None) -> None:
        """Makes the calls that wait here raise, and those to come: ``StateUnavailable`` unless given."""
        self._error = error or StateUnavailable("the test cut this call off")
        self._open.set()

    async def waiting(self, within: float = 5.0) -> None:
        """Returns when a call waits here."""
        async with asyncio.timeout(within):
            await self.reached.wait()

    async def pass_through(self) -> None:
        self.calls += 1
        self.reached.set()
        await self._open.wait()
        if self._error is not None:
            raise self._error


class Barriers:
    """Gates in front of, and behind, the verbs of one state object; every user of that object meets them."""

    def __init__(self, state: Any) -> None:
        self._gates: dict[str, list[Gate]] = {}
        self.counts: dict[str, int] = dict.fromkeys(VERBS, 0)
        """Calls that were sent, by verb."""
        for verb in VERBS:
            setattr(state, verb, self._guarded(verb, getattr(state, verb)))

    def hold(
        self, *verbs: str, when: When = "before", matches: Matches = lambda *_args, **_options: True
    ) -> Gate:
        """A closed gate at these verbs (all, if none is named), for calls whose arguments match."""
        gate = Gate(when, matches)
        for verb in verbs or VERBS:
            self._gates.setdefault(verb, []).append(gate)
        return gate

    def fail(self, *verbs: str, when: When = "before", error: BaseException | None = None) -> Gate:
        """A gate at which every call fails until ``remove``d; with ``when="after"`` only the reply is lost."""
        gate = self.hold(*verbs, when=when)
        gate.fail(error)
        return gate

    def remove(self, gate: Gate) -> None:
        """Takes a gate away; calls that wait at it go on."""
        for gates in self._gates.values():
            if gate in gates:
                gates.remove(gate)
        gate.open()

    def _guarded(self, verb: str, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def guarded(*args: Any, **options: Any) -> Any:
            await self._pass(verb, "before", args, options)
            self.counts[verb] += 1
            result = await call(*args, **options)
            await self._pass(verb, "after", args, options)
            return result

        return guarded

    async def _pass(self, verb: str, when: When, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        for gate in list(self._gates.get(verb, ())):
            if gate.when == when and gate.matches(*args, **options):
                await gate.pass_through()


class Changes:
    """What an instance over Redis hears on the channel of changes, to be counted, held back or lost."""

    def __init__(self, server: RealtimeServer) -> None:
        link = server._link
        assert link is not None, "only instances over Redis hear changes from outside"
        channel: bytes = f"{server.state.root}:changes".encode()  # type: ignore[attr-defined]
        receivers = link.subscriber._receivers[channel]
        self._receive = list(receivers)
        self._held: list[bytes] = []
        self._holding = False
        self._to_drop = 0
        self.seen: list[bytes] = []
        """All that came, whatever became of it."""
        self.dropped: list[bytes] = []
        receivers[:] = [self._on_message]

    def drop(self, count: int) -> None:
        """Loses the next messages."""
        self._to_drop = count

    def hold(self) -> None:
        """Keeps messages back until ``release``."""
        self._holding = True

    def release(self) -> None:
        self._holding = False
        held, self._held = self._held, []
        for message in held:
            self._deliver(message)

    def _on_message(self, message: bytes) -> None:
        self.seen.append(message)
        if self._to_drop:
            self._to_drop -= 1
            self.dropped.append(message)
        elif self._holding:
            self._held.append(message)
        else:
            self._deliver(message)

    def _deliver(self, message: bytes) -> None:
        for receive in self._receive:
            receive(message)
