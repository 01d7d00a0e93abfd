"""The simulated world: one virtual clock, one heap of timed events, and the nodes that live in it.

Time stands still while a node runs and moves on when no node has anything left to do. So a run is a pure function of
the program, the seed and the schedule.
"""

from __future__ import annotations

import gc
import heapq
import itertools
import logging
import sys
import warnings
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Self

import greenlet

from sim.errors import Deadlock, Livelock
from sim.memory import set_modules_aside

if TYPE_CHECKING:
    from sim.node import Node

START = 1_700_000_000.0
"""Wall clock of every world at its beginning, unix seconds."""

MOST_TURNS = 200_000
"""Turns that all nodes together may take at one instant before that counts as a livelock."""


class Timed:
    """An event of the world's heap; ``cancel`` takes it out."""

    __slots__ = ("act", "cancelled", "when")

    def __init__(self, when: float, act: Callable[[], None]) -> None:
        self.when = when
        self.act = act
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class World:
    """Owns time and order. Nodes are made with ``sim.node.Node(world, network, name)``."""

    def __new__(cls) -> Self:
        set_modules_aside()
        return super().__new__(cls)

    def __init__(self) -> None:
        self.now = 0.0
        self.nodes: dict[str, Node] = {}
        """The hosts by name; one that is started again takes the place of the one that died."""
        self.current: Node | None = None
        self.steps = 0
        """Turns that nodes have taken."""
        self.on_switch: Callable[[Node], None] | None = None
        """Called before a node runs that is not the one that ran last."""
        self.greenlet = greenlet.getcurrent()
        self._every: list[Node] = []
        self._last: Node | None = None
        self._heap: list[tuple[float, int, Timed]] = []
        self._order = itertools.count()
        self._runnable: deque[Node] = deque()
        self._turns_now = 0
        self._reports: list[Callable[[], list[str]]] = []
        self._endings: list[Callable[[], None]] = []
        self._closed = False

    def add(self, node: Node) -> None:
        """Raises ``ValueError`` when a living node has that name."""
        former = self.nodes.get(node.name)
        if former is not None and former.alive:
            raise ValueError(f"there is a node {node.name} already")
        self.nodes[node.name] = node
        self._every.append(node)

    def on_report(self, report: Callable[[], list[str]]) -> None:
        """Adds lines to what a run that does not end says of who waits for what."""
        self._reports.append(report)

    def on_close(self, act: Callable[[], None]) -> None:
        """Called when the world is taken apart: for what the garbage collector cannot see through."""
        self._endings.append(act)

    def at(self, when: float, act: Callable[[], None]) -> Timed:
        """Calls ``act`` at a virtual time, outside of all nodes; events of one instant in the order they were made."""
        timed = Timed(max(when, self.now), act)
        heapq.heappush(self._heap, (timed.when, next(self._order), timed))
        return timed

    def later(self, delay: float, act: Callable[[], None]) -> Timed:
        return self.at(self.now + delay, act)

    def wake(self, node: Node) -> None:
        """Puts a node into the run queue, unless it is there, cannot run now, or is gone."""
        if not node.queued and node.can_run:
            node.queued = True
            self._runnable.append(node)

    def run(self, done: Callable[[], bool], *, limit: float) -> None:
        """Runs until ``done()``.

        Raises ``Deadlock`` when nothing is left to happen, or when the virtual clock passes ``limit`` seconds;
        ``Livelock`` when nodes go on for ever without time moving.
        """
        if greenlet.getcurrent() is not self.greenlet:
            raise RuntimeError("a world runs where it was made")
        while not done():
            if self._runnable:
                node = self._runnable.popleft()
                node.queued = False
                self._turns(node)
            else:
                self._advance(limit)

    def _turns(self, node: Node) -> None:
        """Lets a node run until it has nothing to do, or until it blocks, stalls or dies."""
        if node is not self._last:
            self._last = node
            if self.on_switch is not None:
                self.on_switch(node)
        while node.can_run and node.has_work():
            self.current = node
            try:
                turns = node.turn()
            finally:
                self.current = None
            self.steps += turns
            self._turns_now += turns
            node.flush()
            if self._turns_now > MOST_TURNS:
                what = f"time stands still at {self.now:.6f} s while {node.name} goes on and on"
                raise Livelock(what, self.waiting())
        node.plan_wake()

    def _advance(self, limit: float) -> None:
        heap = self._heap
        while heap and heap[0][2].cancelled:
            heapq.heappop(heap)
        if not heap:
            raise Deadlock(f"at {self.now:.6f} s nothing is left to happen", self.waiting())
        when = heap[0][0]
        if when > limit:
            raise Deadlock(f"not done after {limit:g} virtual seconds", self.waiting())
        if when > self.now:
            self._turns_now = 0
            self.now = when
        while heap and heap[0][0] <= when:
            timed = heapq.heappop(heap)[2]
            if not timed.cancelled:
                timed.act()

    def waiting(self) -> str:
        """Who waits for what, a line each, for the report of a run that does not end."""
        lines = [line for node in self._every for line in node.waiting()]
        return "\n".join([*lines, *(line for report in self._reports for line in report())])

    def close(self) -> None:
        """Takes the world apart, so that it can be collected: no node's code is resumed by that, and nothing is said.

        What nodes left behind (errors, applications) may still be looked at.
        """
        if self._closed:
            return
        self._closed = True
        self._heap.clear()
        self._runnable.clear()
        hook, sys.unraisablehook = sys.unraisablehook, lambda _unraisable: None
        level = logging.root.manager.disable
        logging.disable(logging.CRITICAL)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                for node in self._every:
                    node.dispose()
                for act in self._endings:
                    act()
                self._endings.clear()
                self._reports.clear()
                self._every.clear()
                gc.collect()
        finally:
            sys.unraisablehook = hook
            logging.disable(level)
