"""A node: one simulated host, with an event loop, a wall clock, a processor that costs time, and an end.

Each node runs in a greenlet of its own: a blocking call inside a handler parks that node alone.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio import events
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import greenlet

from sim.errors import HostGone, SimulatorError
from sim.loop import NodeLoop, NumberedTask
from sim.report import describe
from sim.sockets import SimSocket
from sim.world import START, Timed, World

if TYPE_CHECKING:
    from sim.isolation import Modules
    from sim.network import Network
    from sim.tcp import Endpoint

T = TypeVar("T")

MOST_TURNS = 1000
"""Turns that a node takes in a row before the world looks after it."""

MOST_WAITS = 20
"""In the ``finally`` of a coroutine that is ended."""


@dataclass(slots=True, eq=False)
class Parked:
    """A blocking call that waits. ``until`` is None where it waits for ever."""

    greenlet: greenlet.greenlet
    ready: Callable[[], bool]
    until: float | None
    what: str
    timer: Timed | None = None


class Node:
    """A host of the world. Work comes to it through its sockets, and by ``spawn`` and ``deliver`` from a scenario."""

    def __init__(self, world: World, network: Network, name: str) -> None:
        self.world = world
        self.name = name
        self.alive = True
        self.silent = False
        """Dead in a way that nobody can notice: nothing answers at its address."""
        self.queued = False
        self.turn_seconds = 0.0
        """CPU time that each turn costs on the virtual clock."""
        self.clock_skew = 0.0
        """How far this host's wall clock is off, seconds."""
        self.stalled_seconds = 0.0
        """All its stalls together."""
        self.looks = 0
        """At the clock, in this turn."""
        self.errors: list[str] = []
        self.files: dict[int, SimSocket] = {}
        self.modules: Modules | None = None
        """Copies of an application's modules that this host alone sees, where it has them."""
        self.network = network
        self._busy_until = 0.0
        self._blocked: Parked | None = None
        self._threads: list[Parked] = []
        self._thread_greenlets: set[greenlet.greenlet] = set()
        self._written: dict[Endpoint, None] = {}
        self._wake: Timed | None = None
        self._kept: list[object] = []
        self.loop = NodeLoop(self, network)
        self._main = greenlet.greenlet(self._live, parent=world.greenlet)
        self._inside = self._main
        """Where to go on: the main greenlet, or one that its code made and that blocks now (SQLAlchemy makes some)."""
        self._goes_on = False
        """Whether a blocking call of the loop's own code has what it waited for."""
        world.add(self)

    @property
    def busy_until(self) -> float:
        """When the last stall that was asked for ends, or ended."""
        return self._busy_until

    # What the world asks

    @property
    def can_run(self) -> bool:
        return self.alive and self._blocked is None and self.world.now >= self._busy_until

    def has_work(self) -> bool:
        loop = self.loop
        if loop._ready or self._goes_on or loop._selector.any():
            return True
        scheduled = loop._scheduled
        return bool(scheduled) and scheduled[0]._when <= self.world.now

    def turn(self) -> int:
        """Some turns of the loop, in this node's greenlet; comes back when one has written or blocks. How many."""
        return int(self._inside.switch())

    def flush(self) -> None:
        """Sends what the last turn wrote, outside of all nodes; one that is killed meanwhile sends no more."""
        while self._written and self.alive:
            end = next(iter(self._written))
            del self._written[end]
            end.flush()

    def plan_wake(self) -> None:
        """Asks the world to come back when the next timer is due, or when the node can run again."""
        if not self.alive or self._blocked is not None:
            return
        when = self._busy_until
        if when <= self.world.now:
            scheduled = self.loop._scheduled
            if not scheduled:
                return
            when = scheduled[0]._when
        wake = self._wake
        if wake is not None:
            if wake.when == when:
                return
            wake.cancel()
        self._wake = self.world.at(when, self._woken)

    def _woken(self) -> None:
        self._wake = None
        self.world.wake(self)

    # Its own life

    def _live(self) -> int:
        turns = 0
        while self.alive:
            turns = 0
            self._enter()
            try:
                turns = self._some_turns()
            except SystemExit as exit_:
                self.errors.append(f"{self.world.now:.6f} the process exits: {exit_}")
                self.network.exit(self)
            self._leave()
            if self.alive:
                if self.turn_seconds:
                    self._busy_until = max(self._busy_until, self.world.now + self.turn_seconds)
                self.world.greenlet.switch(turns)
        return turns

    def _some_turns(self) -> int:
        """Until there is something for the world to do; how many."""
        turns = 0
        while True:
            turns += 1
            self.looks = 0
            self.loop._run_once()
            if self._written or self.turn_seconds or turns >= MOST_TURNS:
                return turns
            if not (self.can_run and self.has_work()):
                return turns

    def _enter(self) -> None:
        events._set_running_loop(self.loop)
        hooks = self.loop
        sys.set_asyncgen_hooks(hooks._asyncgen_firstiter_hook, hooks._asyncgen_finalizer_hook)  # type: ignore[attr-defined]

    def _leave(self) -> None:
        events._set_running_loop(None)
        sys.set_asyncgen_hooks(None, None)

    # Blocking calls

    def park(self, ready: Callable[[], bool], seconds: float | None, what: str) -> bool:
        """Waits inside a blocking call of this node's own code; False when the time was over first."""
        if not self.alive:
            raise HostGone
        if self.world.current is not self:
            raise SimulatorError(f"{what}: a blocking call on {self.name} from outside of it")
        until = None if seconds is None else self.world.now + seconds
        parked = Parked(greenlet.getcurrent(), ready, until, what)
        if until is not None:
            parked.timer = self.world.at(until, self._reconsider)
        if self._on_thread(parked.greenlet):
            self._threads.append(parked)
            self._main.switch()
        else:
            self._blocked = parked
            self._inside = parked.greenlet
            self._leave()
            self.world.greenlet.switch(1)
            self._inside = self._main
            self._goes_on = False
            self._enter()
        if parked.timer is not None:
            parked.timer.cancel()
        return ready()

    def run_thread(self, work: Callable[[], None]) -> None:
        """Runs work that may block without blocking the loop, as a thread would; called by the loop."""
        thread = greenlet.greenlet(work, parent=self._main)
        self._thread_greenlets.add(thread)
        self._resume(thread)
        self._thread_greenlets = {each for each in self._thread_greenlets if not each.dead}

    def _on_thread(self, current: greenlet.greenlet | None) -> bool:
        while current is not None and current is not self._main:
            if current in self._thread_greenlets:
                return True
            current = current.parent
        return False

    def _resume(self, thread: greenlet.greenlet) -> None:
        events._set_running_loop(None)
        try:
            thread.switch()
        finally:
            events._set_running_loop(self.loop)

    def _reconsider(self) -> None:
        """Lets go on which parked calls have what they wait for, or no time left."""
        parked = self._blocked
        if parked is not None and self._is_over(parked):
            self._blocked = None
            self._goes_on = True
            self.world.wake(self)
            self.plan_wake()
        for thread in [thread for thread in self._threads if self._is_over(thread)]:
            self._threads.remove(thread)
            self.deliver(self._resume, thread.greenlet)

    def _is_over(self, parked: Parked) -> bool:
        return parked.ready() or (parked.until is not None and self.world.now >= parked.until)

    # What its sockets tell

    def wrote(self, end: Endpoint) -> None:
        if not self.alive:
            return
        if self.world.current is self:
            self._written[end] = None
        else:
            end.flush()

    def touched(self, number: int) -> None:
        """A socket may have become ready."""
        if self.alive:
            self.loop._selector.touch(number)
            if self._blocked is not None or self._threads:
                self._reconsider()
            self.world.wake(self)

    # What a scenario asks

    def wall_time(self) -> float:
        return START + self.world.now + self.clock_skew

    def serve(self, factory: Callable[[], asyncio.BaseProtocol], port: int) -> None:
        """Listens from now on, as a server that this host starts with."""
        sock: Any = SimSocket(self, self.network)
        sock.bind((self.name, port))
        sock.listen()
        sock.setblocking(False)
        self.spawn(self.loop.create_server(factory, sock=sock), name=f"server on {port}")

    def deliver(self, callback: Callable[..., Any], *args: Any) -> None:
        """Calls something on this node, from outside of it."""
        if self.alive:
            self.loop._ready.append(events.Handle(callback, args, self.loop))
            self.world.wake(self)

    def spawn(self, coroutine: Coroutine[Any, Any, T], *, name: str | None = None) -> asyncio.Task[T]:
        """Starts a task on this node."""
        task: asyncio.Task[T] = NumberedTask(coroutine, loop=self.loop, name=name)
        self._kept.append(task)
        task.add_done_callback(self._kept.remove)
        self.world.wake(self)
        return task

    def pause(self, seconds: float) -> None:
        """The host stands still; what arrives meanwhile is found at once when it goes on."""
        until = max(self._busy_until, self.world.now + seconds)
        self.stalled_seconds += until - max(self._busy_until, self.world.now)
        self._busy_until = until
        self.plan_wake()

    def kill(self, *, silent: bool = False) -> None:
        """No code of the node runs any more; ``Network.crash`` tells its peers."""
        if not self.alive:
            return
        self.alive = False
        self.silent = silent
        self._written.clear()
        # Collecting a suspended task would run its ``finally``.
        self._kept += asyncio.all_tasks(self.loop)
        if self._wake is not None:
            self._wake.cancel()

    def dispose(self) -> None:
        """Ends what was left of it when its world is over; see ``World.close``.

        What code tries on its way out finds this dead host, where nothing it waits for ever comes.
        """
        self.alive = False
        loop = self.loop
        loop._ready.clear()
        loop._scheduled.clear()
        for transport in list(loop._transports.values()):
            transport._closing = True  # stream writers complain of open ones when they are collected
        self.world.current = self
        events._set_running_loop(loop)
        for parked in self._threads:
            _end(parked.greenlet)
        _end(self._main)
        ended: set[asyncio.Task[Any]] = set()
        while left := asyncio.all_tasks(loop) - ended:
            for task in sorted(left, key=lambda task: getattr(task, "number", 0)):
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                _close(task)
            ended |= left
        events._set_running_loop(None)
        self.world.current = None
        loop.dispose()
        self.files.clear()
        self._threads.clear()
        self._kept.clear()
        self._written.clear()
        # The collector does not look into greenlets, and each holds its node.
        del self._main, self._inside

    def on_loop_error(self, _loop: Any, context: dict[str, Any]) -> None:
        if self.alive:
            error = context.get("exception")
            self.errors.append(f"{self.world.now:.6f} {context.get('message')}: {error!r}")

    def waiting(self) -> Iterator[str]:
        """Lines that say what it does not do and why, and a line for each unfinished task."""
        if not self.alive:
            return
        if self._busy_until > self.world.now:
            yield f"  {self.name} stands still until {self._busy_until:.3f} s"
        for parked in [*([self._blocked] if self._blocked else []), *self._threads]:
            who = "is blocked" if parked is self._blocked else "has a thread that is blocked"
            until = "" if parked.until is None else f", until {parked.until:.3f} s at the latest"
            yield f"  {self.name} {who}: {parked.what}{until}"
        for task in sorted(asyncio.all_tasks(self.loop), key=lambda task: getattr(task, "number", 0)):
            yield f"  {self.name}: {describe(task)}"


def _end(parked: greenlet.greenlet) -> None:
    """Unwinds a greenlet; what its code does on the way out is of no interest any more."""
    if parked:
        try:
            parked.throw(greenlet.GreenletExit)
        except BaseException:
            return


def _close(task: asyncio.Task[Any]) -> None:
    """Ends a suspended coroutine, though its ``finally`` may wait for something again and again."""
    coroutine: Any = task.get_coro()
    loop = task.get_loop()
    for _ in range(MOST_WAITS):
        asyncio.tasks._enter_task(loop, task)
        try:
            coroutine.close()
        except BaseException:
            continue
        else:
            return
        finally:
            asyncio.tasks._leave_task(loop, task)
