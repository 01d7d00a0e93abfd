"""When messages arrive: a base latency, and a short list of holds and faults at message boundaries.

A message is what a node sent on one connection in one turn. Its name is its link and its number on that link
(``api-1→redis #7``), and its delay a pure function of the seed and the name: taking one client action away leaves the
delays of the others as they were.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

BASE_LATENCY = 0.0005


@dataclass(frozen=True, slots=True)
class Message:
    """What travels: ``data`` is empty for the opening and the end of a connection; ``kind`` says which it is."""

    name: str
    source: str
    target: str
    kind: str
    data: bytes
    sent_at: float


@dataclass(frozen=True, slots=True)
class Hold:
    """Keep one message back for some seconds; what follows it on its connection waits with it."""

    message: str
    seconds: float


class Schedule(Protocol):
    """Decides when a message arrives.

    It may also have a method ``pieces(message)``: the sizes of the parts that the message's bytes travel in, each of
    them a message with a delay of its own (``a→b #7.1``, ``a→b #7.2``), or nothing to leave it whole.
    """

    @property
    def bitten(self) -> Collection[str]:
        """Messages that were held so far."""

    def delay(self, message: Message) -> float:
        """Seconds from sending to arrival."""


@dataclass
class PlainSchedule:
    """Base latency, and holds by the names of messages. ``bitten`` collects the holds that took effect."""

    holds: Mapping[str, float] = field(default_factory=dict)
    latency: float = BASE_LATENCY
    bitten: list[str] = field(default_factory=list)

    def delay(self, message: Message) -> float:
        held = self.holds.get(message.name)
        if held is None:
            return self.latency
        self.bitten.append(message.name)
        return self.latency + held


@dataclass
class JitterSchedule:
    """A delay for every message, drawn from the seed and the message's name."""

    seed: int
    spread: float = 0.004
    latency: float = BASE_LATENCY
    splits: float = 0.0
    """How many of the messages travel in two pieces, from 0 to 1."""
    bitten: tuple[()] = ()

    def delay(self, message: Message) -> float:
        if not self.spread:
            return self.latency
        return self.latency + self.spread * unit(self.seed, message.name)

    def pieces(self, message: Message) -> Sequence[int]:
        if not self.splits or unit(self.seed, f"split {message.name}") >= self.splits:
            return ()
        first = 1 + int(unit(self.seed, f"size {message.name}") * (len(message.data) - 1))
        return first, len(message.data) - first


def unit(seed: int, name: str) -> float:
    """A number in [0, 1) that is the same for this seed and name in every process."""
    digest = hashlib.blake2b(f"{seed} {name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
