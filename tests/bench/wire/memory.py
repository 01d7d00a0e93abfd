"""What one more idle websocket costs a server in memory."""

from __future__ import annotations

from tests.bench.wire.machine import LOAD_CORE, memory_bytes, on_core
from tests.bench.wire.peers import Peer, auth, running
from tests.bench.wire.swarm import Swarm


def kilobytes_per_idle_connection(
    peer: Peer, few: int, many: int, *, quiet_seconds: float, deflate: bool
) -> float:
    """The slope between so many clients that have connected, been told what a new client is told, and fallen silent."""
    with running([peer]), on_core(LOAD_CORE):
        swarm = Swarm([peer.port], deflate=deflate, auth=auth)
        try:
            held = []
            for wanted in (few, many):
                swarm.connect(wanted - len(swarm))
                swarm.settle(quiet_seconds, limit=300)
                held.append(memory_bytes(peer.pid))
        finally:
            swarm.close()
    return (held[1] - held[0]) / (many - few) / 1024
