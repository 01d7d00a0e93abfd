"""The simulated world: one virtual clock, one heap of timed events, and the nodes that live in it.

Time stands still while a node runs and moves on when no node has anything left to do. So a run is a pure function of
the program, the seed and the schedule.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import greenlet

from sim.errors import Deadlock, Livelock

if TYPE_CHECKING:
    from sim.node import Node

START = 1_700_000_000.0
"""Wall clock of every world at its beginning, unix seconds."""

MOST_TURNS = 200_000
"""Turns that one node may take at one instant before that counts as a livelock."""


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
    """Owns time and order. Nodes are made with ``sim.node.Node(world, name)``."""

    def __init__(self) -> None:
        self.now = 0.0
        self.nodes: dict[str, Node] = {}
        self.current: Node | None = None
        self.steps = 0
        self.greenlet = greenlet.getcurrent()
        self._heap: list[tuple[float, int, Timed]] = []
        self._order = itertools.count()
        self._runnable: deque[Node] = deque()

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
        ``Livelock`` when a node goes on for ever without time moving.
        """
        self.greenlet = greenlet.getcurrent()
        while not done():
            if self._runnable:
                node = self._runnable.popleft()
                node.queued = False
                self._turns(node)
            else:
                self._advance(limit)

    def _turns(self, node: Node) -> None:
        """Lets a node run until it has nothing to do, or until it blocks, stalls or dies."""
        turns = 0
        self.current = node
        try:
            while node.can_run and node.has_work():
                node.turn()
                turns += 1
                if turns > MOST_TURNS:
                    raise Livelock(f"{node.name} has taken {turns} turns at {self.now:.6f} s", self.waiting())
        finally:
            self.current = None
            self.steps += turns
        node.plan_wake()

    def _advance(self, limit: float) -> None:
        heap = self._heap
        while heap and heap[0][2].cancelled:
            heapq.heappop(heap)
        if not heap:
            raise Deadlock("nothing is left to happen", self.waiting())
        when = heap[0][0]
        if when > limit:
            raise Deadlock(f"not done after {limit:g} virtual seconds", self.waiting())
        self.now = when
        while heap and heap[0][0] <= when:
            timed = heapq.heappop(heap)[2]
            if not timed.cancelled:
                timed.act()

    def waiting(self) -> str:
        """Who waits for what, a line per task, for the report of a run that does not end."""
        return "\n".join(line for node in self.nodes.values() for line in node.waiting())
