"""How many clients a server can let in per second of CPU: websocket, token in CONNECT."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack

from tests.bench.wire.connection import LoadError
from tests.bench.wire.machine import LOAD_CORE, cpu_seconds, no_collections, on_core
from tests.bench.wire.peers import Peer, auth, running
from tests.bench.wire.swarm import Swarm

IDLE_SHARE = 0.05
CALM_SECONDS = 0.5


def connects_per_second(peers: Mapping[str, Peer], *, clients: int, rounds: int) -> dict[str, list[float]]:
    """Round by round, from the first request until the last CONNECT was answered; the peers' rounds are interleaved.

    Every round's clients come to a process that has had such rounds before and is idle.
    """
    found: dict[str, list[float]] = {name: [] for name in peers}
    with ExitStack() as ends, on_core(LOAD_CORE):
        ends.enter_context(running(list(peers.values())))
        ends.enter_context(no_collections())
        for number in range(rounds + 1):
            for name, peer in peers.items():
                rate = _round(peer, clients)
                if number:  # the first one warms up
                    found[name].append(rate)
    return found


def _round(peer: Peer, clients: int) -> float:
    swarm = Swarm([peer.port], deflate=False, auth=auth)
    try:
        spent = cpu_seconds(peer.pid)
        swarm.connect(clients)
        rate = clients / (cpu_seconds(peer.pid) - spent)
        swarm.settle(CALM_SECONDS, limit=60)
    finally:
        swarm.close()
    _until_idle(peer)
    return rate


def _until_idle(peer: Peer) -> None:
    """Until the server has done with those who left."""
    end = time.monotonic() + 30
    while True:
        spent = cpu_seconds(peer.pid)
        time.sleep(CALM_SECONDS)
        if cpu_seconds(peer.pid) - spent < IDLE_SHARE * CALM_SECONDS:
            return
        if time.monotonic() > end:
            raise LoadError(f"{peer.name} was not idle 30 s after its clients had left")
