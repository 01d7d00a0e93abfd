"""A real Sentinel set: one primary, one replica, one sentinel, and failovers that lose the last writes."""

from __future__ import annotations

from pathlib import Path

import redis

from sim.processes.process import LOOPBACK, START_SECONDS, Resource, wait_until
from sim.processes.redis import RedisServer, find_server

SERVICE = "mymaster"
"""The name under which clients ask the sentinel for the primary."""

_LINK_USER = "replica-link"
# A user of its own for the replication link, so that the link alone can be cut: the replica reconnects at once to a
# primary that lets it, and what is already in a socket's buffer still arrives after SIGSTOP.
_LINK = {
    "user": f"{_LINK_USER} on nopass +psync +replconf +ping",
    "masteruser": _LINK_USER,
    "masterauth": "any",
    "repl-diskless-sync-delay": "0",
}


class _SentinelServer(RedisServer):
    """The same binary as a sentinel."""

    def __init__(self, primary: RedisServer, *, binary: Path) -> None:
        super().__init__(binary=binary, name="redis-sentinel")
        self._watched = primary

    def _flags(self) -> tuple[str, ...]:
        return ("--sentinel",)

    def configuration(self) -> dict[str, str]:
        # Long enough that a busy machine brings about no failover that the test did not ask for.
        return {
            "sentinel monitor": f"{SERVICE} {LOOPBACK} {self._watched.port} 1",
            "sentinel down-after-milliseconds": f"{SERVICE} 30000",
            "sentinel failover-timeout": f"{SERVICE} 10000",
        }


class RedisSentinelSet(Resource):
    """A primary with a replica, watched by one sentinel.

    To lose writes: `cut_replication()`, write to `primary`, `fail_over()`. The primary acknowledged those writes, and
    the server that is primary afterwards never saw them.
    """

    def __init__(self, *, binary: Path | str | None = None) -> None:
        chosen = Path(binary) if binary is not None else find_server()
        self._servers = [
            RedisServer(binary=chosen, options=_LINK, name=f"redis-{letter}") for letter in ("a", "b")
        ]
        self.sentinel = _SentinelServer(self._servers[0], binary=chosen)

    @property
    def service(self) -> str:
        return SERVICE

    @property
    def primary(self) -> RedisServer:
        """The server that the sentinel names now."""
        return self._at(self._primary_port())

    @property
    def replica(self) -> RedisServer:
        """The other one; after a failover, the killed one."""
        primary = self.primary
        return next(server for server in self._servers if server is not primary)

    def start(self) -> None:
        first, second = self._servers
        first.start()
        second.start()
        second.execute("REPLICAOF", LOOPBACK, first.port)
        wait_until("replica in sync", lambda: _in_sync(first, second), timeout=START_SECONDS)
        self.sentinel.start()
        wait_until("sentinel knows the replica", self._replica_known, timeout=START_SECONDS)

    def cut_replication(self) -> None:
        """Let the replica catch up, then keep it from the primary: from now on the primary's writes stay its own."""
        primary, replica = self.primary, self.replica
        wait_until("replica in sync", lambda: _in_sync(primary, replica), timeout=START_SECONDS)
        primary.execute("ACL", "SETUSER", _LINK_USER, "off")
        primary.execute("CLIENT", "KILL", "TYPE", "replica")
        wait_until("replica cut off", lambda: _role(replica)[3] != "connected", timeout=START_SECONDS)

    def fail_over(self, *, timeout: float = START_SECONDS) -> RedisServer:
        """Kill the primary and wait until the sentinel has put the replica in its place; returns the new primary."""
        lost, promoted = self.primary, self.replica
        lost.kill()
        wait_until("sentinel begins a failover", self._begin_failover, timeout=timeout)
        wait_until(
            "sentinel names the promoted replica",
            lambda: self._primary_port() == promoted.port and _role(promoted)[0] == "master",
            timeout=timeout,
        )
        return promoted

    def close(self) -> None:
        for server in (self.sentinel, *self._servers):
            server.close()

    def _begin_failover(self) -> bool:
        # Said to the sentinel, because with one sentinel and a long down-after nothing else would begin it soon.
        try:
            self.sentinel.execute("SENTINEL", "FAILOVER", SERVICE)
        except redis.ResponseError as refused:
            if "NOGOODSLAVE" in str(refused):  # It has not heard from the replica just now.
                return False
            if "INPROG" not in str(refused):
                raise
        return True

    def _primary_port(self) -> int:
        # Not GET-MASTER-ADDR-BY-NAME: that names the promoted one before MASTER and MASTERS, which clients ask, do.
        return int(_pairs(self.sentinel.execute("SENTINEL", "MASTER", SERVICE))["port"])

    def _replica_known(self) -> bool:
        replicas = self.sentinel.execute("SENTINEL", "REPLICAS", SERVICE)
        if not isinstance(replicas, list) or not replicas:
            return False
        replica = _pairs(replicas[0])
        return replica["flags"] == "slave" and replica["master-link-status"] == "ok"

    def _at(self, port: int) -> RedisServer:
        return next(server for server in self._servers if server.port == port)


def _role(server: RedisServer) -> list[object]:
    """`ROLE`: ["master", offset, replicas] or ["slave", host, port, link state, offset]."""
    answer = server.execute("ROLE")
    assert isinstance(answer, list)
    return answer


def _in_sync(primary: RedisServer, replica: RedisServer) -> bool:
    state = _role(replica)
    return state[0] == "slave" and state[3] == "connected" and state[4] == _role(primary)[1]


def _pairs(reply: object) -> dict[str, str]:
    assert isinstance(reply, list)
    return dict(zip(reply[::2], reply[1::2], strict=True))
