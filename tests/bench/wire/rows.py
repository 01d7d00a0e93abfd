"""The rows of the wire benchmark: what is run, what is compared, and which goal it has."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from sim.processes.redis import RedisServer
from tests.bench.report import Figure, Line, at_least, at_most
from tests.bench.wire.acks import ack_waits, percentile
from tests.bench.wire.connects import connects_per_second
from tests.bench.wire.fan_out import BURST, FanOut, fan_out
from tests.bench.wire.machine import LOAD_CORE, on_core
from tests.bench.wire.memory import kilobytes_per_idle_connection
from tests.bench.wire.peers import Node, Ours, Peer, Plain, user
from tests.bench.wire.profile import profile

OFFERED = {False: "no compression offered", True: "compression offered"}
"""By whether the load offers permessage-deflate, as every browser does."""
INSTANCES = 3


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is run. ``clients`` of one instance get ``events`` a round; ``node``: whether Node is here."""

    clients: int = 500
    rounds: int = 7
    events: int = 150
    few_idle: int = 200
    many_idle: int = 3000
    quiet_seconds: float = 5.0
    askers: int = 1000
    asking_seconds: int = 5
    profile_seconds: float = 5.0
    offers: Sequence[bool] = (False, True)
    node: bool = True


@dataclass(slots=True)
class Findings:
    """What the rows found: goals, the same measured of every peer, and a profile in words."""

    figures: list[Figure] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    profile: str = ""

    def compare(
        self,
        what: str,
        unit: str,
        by_peer: Mapping[str, Sequence[float]],
        *,
        most: Mapping[str, float] | None = None,
        least: Mapping[str, float] | None = None,
    ) -> None:
        """Medians of the rounds; and ours in proportion to a peer: at ``most``, or at ``least``, so much."""
        medians = {name: statistics.median(it) for name, it in by_peer.items()}
        self.lines.append(Line(what, unit, medians))
        for goals, goal in ((most or {}, at_most), (least or {}, at_least)):
            for name, limit in goals.items():
                if name in medians:
                    ratio = medians["ours"] / medians[name]
                    self.figures.append(goal(f"{what}: ours to {name}", ratio, limit, "×"))


def one_room(scale: Scale, findings: Findings) -> None:
    users = _users(scale.clients)
    for deflate in scale.offers:
        groups: dict[str, Sequence[Peer]] = {"bare": [Plain("bare")], "ours": [Ours(users=users)]}
        if scale.node:
            groups["node"] = [Node()]
        groups["stock"] = [Plain("stock")]
        found = fan_out(
            groups, clients=scale.clients, rounds=scale.rounds, events=scale.events, deflate=deflate
        )
        what = f"1 room, {scale.clients} clients, {OFFERED[deflate]}"
        findings.compare(
            f"{what}, 1 event: CPU per delivery",
            "µs",
            _of(found, lambda it: it.single_us),
            most={"node": 0.75, "stock": 1 / 6, "bare": 1.25},
        )
        burst = _of(found, lambda it: it.burst_us)
        findings.compare(f"{what}, 10 events at a time: CPU per delivery", "µs", burst, most={"node": 0.5})
        waits = _of(found, lambda it: it.latency_ms)
        findings.compare(f"{what}, 1 event: median wait", "ms", waits, most={"stock": 1.0})


def fleet(scale: Scale, findings: Findings) -> None:
    for deflate in scale.offers:
        with ExitStack() as ends, on_core(LOAD_CORE):
            # One for each, as ours and the stock server would hear each other.
            redis = {name: ends.enter_context(RedisServer()).url for name in ("ours", "node", "stock")}
            first = Ours(users=_users(INSTANCES * scale.clients), redis_url=redis["ours"])
            others = [
                Ours(users=(), redis_url=redis["ours"], database_url=first.database_url)
                for _ in range(INSTANCES - 1)
            ]
            groups: dict[str, Sequence[Peer]] = {"ours": [first, *others]}
            if scale.node:
                groups["node"] = [Node(redis_url=redis["node"]) for _ in range(INSTANCES)]
            groups["stock"] = [Plain("stock", redis_url=redis["stock"]) for _ in range(INSTANCES)]
            found = fan_out(
                groups,
                clients=scale.clients,
                rounds=scale.rounds,
                events=max(BURST, scale.events // INSTANCES),
                deflate=deflate,
            )
        what = f"{INSTANCES} instances over Redis, {scale.clients} clients each, {OFFERED[deflate]}"
        single, burst = _of(found, lambda it: it.single_us), _of(found, lambda it: it.burst_us)
        findings.compare(f"{what}, 1 event: CPU per delivery", "µs", single, most={"node": 0.7})
        findings.compare(f"{what}, 10 events at a time: CPU per delivery", "µs", burst)


def memory(scale: Scale, findings: Findings) -> None:
    few, many = scale.few_idle, scale.many_idle
    for deflate in scale.offers:
        peers = _peers(scale, _users(many))
        slopes = {
            name: kilobytes_per_idle_connection(
                peer, few, many, quiet_seconds=scale.quiet_seconds, deflate=deflate
            )
            for name, peer in peers.items()
        }
        what = f"memory of an idle websocket, {few} to {many} clients, {OFFERED[deflate]}"
        findings.lines.append(Line(what, "KB", slopes))
        findings.figures.append(at_most(f"{what}: ours", slopes["ours"], 22, "KB"))


def connects(scale: Scale, findings: Findings) -> None:
    users = _users(scale.clients)
    peers = _peers(scale, users)
    peers |= {"stock": Plain("stock", users=users), "stock, token only": peers["stock"]}
    rates = connects_per_second(peers, clients=scale.clients, rounds=scale.rounds)
    what = f"connects with token, {scale.clients} clients: per second of CPU"
    findings.compare(what, "/s", rates, least={"stock": 1.4})


def acks(scale: Scale, findings: Findings) -> None:
    clients = scale.askers
    waits = ack_waits(
        _peers(scale, _users(clients)), clients=clients, rounds=scale.rounds, seconds=scale.asking_seconds
    )
    for share in (0.5, 0.99):
        by_peer = {name: [percentile(it, share) for it in rounds] for name, rounds in waits.items()}
        what = f"ack round trip, {clients} clients × 1 a second: p{share * 100:g}"
        findings.compare(what, "ms", by_peer, most={"stock": 1.0} if share == 0.99 else None)


def where_time_goes(scale: Scale, findings: Findings) -> None:
    findings.profile = profile(clients=scale.clients, seconds=scale.profile_seconds)


ROWS: dict[str, Callable[[Scale, Findings], None]] = {
    "fan-out": one_room,
    "fleet": fleet,
    "memory": memory,
    "connects": connects,
    "acks": acks,
    "profile": where_time_goes,
}


def _users(count: int) -> list[str]:
    return [user(number) for number in range(count)]


def _peers(scale: Scale, users: Sequence[str]) -> dict[str, Peer]:
    peers: dict[str, Peer] = {"ours": Ours(users=users)}
    if scale.node:
        peers["node"] = Node()
    return peers | {"stock": Plain("stock")}


def _of(found: Mapping[str, FanOut], take: Callable[[FanOut], list[float]]) -> dict[str, list[float]]:
    return {name: take(it) for name, it in found.items()}
