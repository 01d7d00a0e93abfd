"""A real Redis Cluster: three nodes, no replicas, every slot served."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

from sim.processes.process import LOOPBACK, START_SECONDS, ProcessError, Resource, free_port, wait_until
from sim.processes.redis import RedisServer, find_server

_SLOTS = 16_384  # Redis Cluster specification, "Key distribution model".


class RedisCluster(Resource):
    """Three cluster nodes on free ports of 127.0.0.1."""

    def __init__(
        self, *, binary: Path | str | None = None, options: Mapping[str, str] | None = None, size: int = 3
    ) -> None:
        self._binary = Path(binary) if binary is not None else find_server()
        self._options = dict(options or {})
        self._size = size
        self.nodes: list[RedisServer] = []

    @property
    def url(self) -> str:
        """One node's address; cluster clients learn the others from it."""
        if not self.nodes:
            raise ProcessError("the cluster was not started")
        return self.nodes[0].url

    def start(self) -> None:
        for number in range(self._size):
            # Given by us, because the default bus port (port + 10000) may be taken.
            bus = free_port()
            options = {
                "cluster-enabled": "yes",
                "cluster-config-file": "nodes.conf",
                "cluster-node-timeout": "5000",
                "cluster-port": str(bus),
            }
            node = RedisServer(
                binary=self._binary, options=options | self._options, name=f"redis-node-{number}"
            )
            self.nodes.append(node)
            node.start()
            # Distinct from the start, so that the nodes need not settle them among each other; only a node that knows
            # no other yet takes one.
            node.execute("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            if number:
                self.nodes[0].execute("CLUSTER", "MEET", LOOPBACK, node.port, bus)
        bounds = [_SLOTS * number // self._size for number in range(self._size + 1)]
        for node, (first, end) in zip(self.nodes, itertools.pairwise(bounds), strict=True):
            node.execute("CLUSTER", "ADDSLOTSRANGE", first, end - 1)
        wait_until("cluster_state:ok on every node", self.healthy, timeout=START_SECONDS)

    def healthy(self) -> bool:
        """Whether every node sees every other and all slots served."""
        return all(
            node.running
            and (info := str(node.execute("CLUSTER", "INFO"))).find("cluster_state:ok") >= 0
            and f"cluster_known_nodes:{self._size}" in info
            and f"cluster_slots_ok:{_SLOTS}" in info
            for node in self.nodes
        )

    def close(self) -> None:
        for node in self.nodes:
            node.close()
