"""How long an acknowledgement takes when many clients ask steadily.

Counted from the moment a client was to ask: a server that stalls is charged for the questions that it delayed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from contextlib import ExitStack

from tests.bench.wire.connection import Connection, LoadError
from tests.bench.wire.machine import LOAD_CORE, no_collections, on_core
from tests.bench.wire.peers import Peer, auth, running
from tests.bench.wire.swarm import Swarm

LAST_SECONDS = 10.0


def ack_waits(
    peers: Mapping[str, Peer], *, clients: int, rounds: int, seconds: int
) -> dict[str, list[list[float]]]:
    """By peer, round by round: the waits of ``clients`` that ask once a second for so many seconds, in ms, sorted."""
    found: dict[str, list[list[float]]] = {name: [] for name in peers}
    with ExitStack() as ends, on_core(LOAD_CORE):
        ends.enter_context(running(list(peers.values())))
        company: list[Swarm] = []
        swarms = {
            name: Swarm([peer.port], deflate=False, auth=auth, company=company)
            for name, peer in peers.items()
        }
        for swarm in swarms.values():
            ends.callback(swarm.close)
            swarm.connect(clients)
        for swarm in swarms.values():
            swarm.settle(1.0, limit=120)
        ends.enter_context(no_collections())
        for _ in range(rounds):
            for name, swarm in swarms.items():
                found[name].append(sorted(_round(swarm, seconds)))
                swarm.pump(0)
    return found


def percentile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)]


def _round(swarm: Swarm, seconds: int) -> list[float]:
    askers = list(swarm.connections.values())
    pause = 1 / len(askers)
    wanted, asked = seconds * len(askers), 0
    waiting: dict[tuple[Connection, bytes], float] = {}
    waits: list[float] = []
    began = time.perf_counter()
    while len(waits) < wanted:
        now = time.perf_counter()
        while asked < wanted and (due := began + asked * pause) <= now:
            asker, number = askers[asked % len(askers)], b"%d" % (asked // len(askers))
            asker.send(b'42%s["echo",{"n":%s}]' % (number, number))
            waiting[asker, b'43%s[{"n":%s}]' % (number, number)] = due
            asked += 1
        # Without waiting: a timer of a millisecond is longer than most answers take.
        for connection, packets in swarm.ready(0):
            for packet in packets:
                intended = waiting.pop((connection, packet), None)
                if intended is not None:
                    waits.append((time.perf_counter() - intended) * 1e3)
                elif packet.startswith(b"43"):
                    raise LoadError(f"not the answer that was due: {packet!r}")
        if now > began + seconds + LAST_SECONDS:
            raise LoadError(f"{wanted - len(waits)} of {wanted} questions were not answered")
    return waits
