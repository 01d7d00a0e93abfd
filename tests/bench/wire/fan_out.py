"""One room, many websocket clients: what the server spends on each delivery, and how long a client waits."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from tests.bench.wire import event
from tests.bench.wire.machine import LOAD_CORE, cpu_seconds, no_collections, on_core
from tests.bench.wire.peers import DoorKey, Peer, auth, running
from tests.bench.wire.swarm import Swarm

BURST = 10
QUIET_SECONDS = 1.0
DONE_SECONDS = 0.02


@dataclass(slots=True)
class Audience:
    """A peer's clients, and its figures round by round, in µs of CPU per delivery and in seconds of latency."""

    peers: Sequence[Peer]
    swarm: Swarm
    door: DoorKey
    number: int = event.FIRST
    single: list[float] = field(default_factory=list)
    burst: list[float] = field(default_factory=list)
    latency: list[float] = field(default_factory=list)

    def emit(self, count: int) -> list[float]:
        """So many events at a time; how long each client waited for the last."""
        first = self.number
        self.number += count
        packets = [event.packet(number, event.TEXT) for number in range(first, first + count)]
        return self.swarm.collect(packets, lambda: self.door.emit(first, count))

    def emit_singly(self, events: int) -> None:
        self.emit(1)  # what was put off meanwhile is not this round's
        waits: list[float] = []
        spent = self._cpu()
        for _ in range(events):
            waits += self.emit(1)
        self.single.append((self._cpu() - spent) / (events * len(self.swarm)) * 1e6)
        self.latency.append(statistics.median(waits))

    def emit_in_bursts(self, events: int) -> None:
        self.emit(BURST)
        bursts = events // BURST
        spent = self._cpu()
        for _ in range(bursts):
            self.emit(BURST)
        self.burst.append((self._cpu() - spent) / (bursts * BURST * len(self.swarm)) * 1e6)

    def _cpu(self) -> float:
        # A server may not be done when the last client is, and the kernel counts what ran when it stops.
        time.sleep(DONE_SECONDS)
        return sum(cpu_seconds(peer.pid) for peer in self.peers)


@dataclass(frozen=True, slots=True)
class FanOut:
    """Round by round: µs of server CPU per delivery of events one after the other and ten at a time, and what the
    median client waited for a single event, in ms."""

    single_us: list[float]
    burst_us: list[float]
    latency_ms: list[float]


def fan_out(
    groups: Mapping[str, Sequence[Peer]], *, clients: int, rounds: int, events: int, deflate: bool
) -> dict[str, FanOut]:
    """Every group's peers with ``clients`` each in one room; the groups' rounds are interleaved."""
    with ExitStack() as ends, on_core(LOAD_CORE):
        audiences: dict[str, Audience] = {}
        company: list[Swarm] = []
        for peers in groups.values():
            ends.enter_context(running(peers))
        for name, peers in groups.items():
            swarm = Swarm([peer.port for peer in peers], deflate=deflate, auth=auth, company=company)
            ends.callback(swarm.close)
            swarm.connect(clients * len(peers))
            door = DoorKey(peers[0].folder)
            ends.callback(door.close)
            audiences[name] = Audience(peers, swarm, door)
        for audience in audiences.values():
            audience.swarm.settle(QUIET_SECONDS, limit=120)
            audience.emit(BURST)
        ends.enter_context(no_collections())
        order = list(audiences)
        for number in range(rounds):
            at = number % len(order)
            for step in (Audience.emit_singly, Audience.emit_in_bursts):
                for name in order[at:] + order[:at]:
                    step(audiences[name], events)
    return {
        name: FanOut(it.single, it.burst, [seconds * 1e3 for seconds in it.latency])
        for name, it in audiences.items()
    }
