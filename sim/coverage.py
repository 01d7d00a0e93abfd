"""What exploring has covered: in how many orders conflicting commands came to Redis, and which disturbances bit."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from sim.commands import commands
from sim.plan import Plan
from sim.schedule import Message


@dataclass
class Orders:
    """Observes a run: for each key, in which order the hosts' commands came to Redis; reads of between two writes count
    as unordered. Keys have no names in it, those may be drawn from the seed.
    """

    redis: str = "redis"
    _by_key: dict[str, list[tuple[str, bool]]] = field(default_factory=dict)

    def sent(self, message: Message, arrives_at: float) -> None:
        return None

    def arrived(self, message: Message, now: float) -> None:
        if message.target != self.redis or message.kind != "data":
            return
        for command in commands(message.data):
            if command.key:
                said = self._by_key.setdefault(command.key, [])
                said.append((f"{message.source} {command.name}", command.writes))

    def digest(self) -> str:
        """Equal for two runs iff conflicting commands came in the same order."""
        keys = sorted(" ".join(_without_order_of_reads(said)) for said in self._by_key.values())
        return hashlib.blake2b("\n".join(keys).encode(), digest_size=8).hexdigest()


def _without_order_of_reads(said: list[tuple[str, bool]]) -> Iterator[str]:
    reads: list[str] = []
    for text, writes in said:
        if not writes:
            reads.append(text)
            continue
        yield from sorted(reads)
        reads.clear()
        yield text
    yield from sorted(reads)


@dataclass
class Coverage:
    """Adds runs up, in their order. ``planned`` and ``bitten`` count by kind (hold, crash, pause, reset); ``unbitten``
    counts by name the disturbances that never took effect; ``growth``: how many orders were known after each run.
    """

    growth: list[int] = field(default_factory=list)
    planned: Counter[str] = field(default_factory=Counter)
    bitten: Counter[str] = field(default_factory=Counter)
    unbitten: Counter[str] = field(default_factory=Counter)
    _orders: set[str] = field(default_factory=set)

    def add(self, plan: Plan, orders: str, bitten: frozenset[str]) -> None:
        self._orders.add(orders)
        self.growth.append(len(self._orders))
        for kind, message in _disturbances(plan):
            self.planned[kind] += 1
            if message in bitten:
                self.bitten[kind] += 1
            else:
                self.unbitten[f"{kind} at {message}"] += 1

    @property
    def orders(self) -> int:
        """How many distinct orders were seen."""
        return len(self._orders)

    def orders_by_quarter(self) -> list[int]:
        """Distinct orders after 25, 50, 75 and 100 % of the runs: whether their number levels off."""
        runs = len(self.growth)
        return [self.growth[max(0, runs * quarter // 4 - 1)] for quarter in (1, 2, 3, 4)] if runs else []


def _disturbances(plan: Plan) -> Iterator[tuple[str, str]]:
    yield from (("hold", hold.message) for hold in plan.holds)
    yield from ((fault.kind, fault.message) for fault in plan.faults)
