"""The rows of the wire benchmark: what is run, what is compared, and which goal it has."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tests.bench.report import Figure, Line, at_most
from tests.bench.wire.fan_out import FanOut, fan_out
from tests.bench.wire.peers import Node, Ours, Peer, Stock, user

OFFERS = {False: "no compression offered", True: "compression offered"}


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is run. ``node``: whether Node is here."""

    clients: int = 500
    rounds: int = 7
    events: int = 200
    node: bool = True


@dataclass(slots=True)
class Findings:
    """What the rows found: goals, and the same measured of every peer."""

    figures: list[Figure] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)

    def compare(
        self, what: str, unit: str, by_peer: Mapping[str, Sequence[float]], limits: Mapping[str, float]
    ) -> None:
        """Medians of the rounds; and ours in proportion to each peer of ``limits``, which it must not exceed.

        Proportions are taken round by round, since what else the machine does disturbs a whole round.
        """
        self.lines.append(Line(what, unit, {name: statistics.median(it) for name, it in by_peer.items()}))
        for name, limit in limits.items():
            if name in by_peer:
                pairs = zip(by_peer["ours"], by_peer[name], strict=True)
                ratio = statistics.median(ours / other for ours, other in pairs)
                self.figures.append(at_most(f"{what}: ours to {name}", ratio, limit, ""))


def _one_room(scale: Scale, findings: Findings) -> None:
    users = [user(number) for number in range(scale.clients)]
    for deflate, offer in OFFERS.items():
        groups: dict[str, Sequence[Peer]] = {"bare": [Stock(name="bare")], "ours": [Ours(users=users)]}
        if scale.node:
            groups["node"] = [Node()]
        groups["stock"] = [Stock()]
        found = fan_out(
            groups, clients=scale.clients, rounds=scale.rounds, events=scale.events, deflate=deflate
        )
        room = f"one room, {scale.clients} clients, {offer}"
        findings.compare(
            f"{room}, one event: CPU per delivery",
            "µs",
            _of(found, lambda it: it.single_us),
            {"node": 0.75, "stock": 1 / 6, "bare": 1.25},
        )
        findings.compare(
            f"{room}, ten events at a time: CPU per delivery",
            "µs",
            _of(found, lambda it: it.burst_us),
            {"node": 0.5},
        )
        findings.compare(
            f"{room}, one event: median wait", "ms", _of(found, lambda it: it.latency_ms), {"stock": 1.0}
        )


def _of(found: Mapping[str, FanOut], take: Callable[[FanOut], list[float]]) -> dict[str, list[float]]:
    return {name: take(it) for name, it in found.items()}


ROWS: dict[str, Callable[[Scale, Findings], None]] = {"fan-out": _one_room}
