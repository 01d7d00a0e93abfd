"""The faults of a lab: what scenarios and plans do to hosts, links and clocks, and when all of it is over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sim.client_node import ClientNode, RawNode
from sim.history import History
from sim.instance_node import InstanceNode
from sim.network import Network
from sim.redis_node import Backup, RedisNode
from sim.world import World


class Faults:
    """The part of ``Lab`` that breaks things. Each fault is named in the history and may be skipped by its name."""

    if TYPE_CHECKING:
        world: World
        network: Network
        history: History
        redis: RedisNode
        instances: dict[str, InstanceNode]
        _lasting_until: float

        def does(self, who: ClientNode | RawNode | str, verb: str) -> bool: ...

    def drop(self, client: ClientNode | RawNode, *, silent: bool = True) -> None:
        """The tab's host is gone without a word to anyone, or its connections are reset."""
        if not self.does(client, "drop"):
            return
        self.fault(f"{client.name} vanishes")
        self.network.crash(client.node, silent=silent)

    def crash(self, instance: str, *, silent: bool = False) -> None:
        if not self.does("lab", f"crash {instance}"):
            return
        self.fault(f"{instance} crashes")
        self.instances[instance].crash(silent=silent)

    def pause(self, host: str, seconds: float) -> None:
        if not self.does("lab", f"pause {host}"):
            return
        self.fault(f"{host} stalls for {seconds:g} s", lasting=seconds)
        self.world.nodes[host].pause(seconds)

    def terminate(self, instance: str) -> None:
        """As SIGTERM; what it does then is its own."""
        self.fault(f"{instance} is told to end")
        self.instances[instance].terminate()

    def partition(self, one: str, other: str) -> None:
        if not self.does("lab", f"partition {one} {other}"):
            return
        self.fault(f"{one} and {other} are cut off from each other")
        self.network.cut(one, other)

    def heal(self, one: str, other: str) -> None:
        self.fault(f"{one} and {other} reach each other again")
        self.network.mend(one, other)

    def burden(self, host: str, seconds: float) -> None:
        """Every turn of this host takes CPU time from now on: what comes meanwhile waits."""
        self.world.nodes[host].turn_seconds = seconds

    def skew(self, host: str, seconds: float) -> None:
        self.world.nodes[host].clock_skew = seconds

    def restart_redis(self, *, keep_data: bool) -> None:
        """Redis goes and is back at once, with its data or empty; every connection to it is reset."""
        if not self.does("lab", "restart redis"):
            return
        self.fault(f"redis restarts {'with' if keep_data else 'without'} its data")
        self.redis.crash()
        self.redis.restart(keep_data=keep_data)

    def keep_redis(self) -> Backup:
        """Redis' data as it is now: what a replica has that gets nothing from now on."""
        return self.redis.keep()

    def fail_over_redis(self, backup: Backup) -> None:
        """A replica takes over at the same address: the data is as it was, every connection is reset."""
        if not self.does("lab", "fail over redis"):
            return
        self.fault("a replica without the last writes takes over from redis")
        self.redis.restart(keep_data=False, back_to=backup)

    def lose_published(self, host: str, *, lose: bool) -> None:
        """Whether Redis loses what it would push to a host's subscriptions from now on, without a word."""
        self.fault(f"redis {'loses' if lose else 'no longer loses'} what is published to {host}")
        self.redis.deaf.pop(host, None)
        if lose:
            self.redis.deaf[host] = 0

    def drop_redis_connections(self) -> None:
        """As CLIENT KILL of all of them."""
        if not self.does("lab", "drop redis connections"):
            return
        self.fault("redis closes its connections")
        self.redis.kill_connections()

    def fault(self, what: str, *, lasting: float = 0.0) -> None:
        """Makes a fault known, which is over after some seconds."""
        self._lasting_until = max(self._lasting_until, self.world.now + lasting)
        self.history.add(self.world.now, "lab", "fault", what)

    @property
    def healed_at(self) -> float:
        """When the last fault up to now is over: it struck, or the time that it lasts is at its end."""
        return max(self._lasting_until, *(node.busy_until for node in self.world.nodes.values()))

    def stalls(self) -> float:
        """Seconds for which hosts stood still by a fault, all together."""
        return sum(node.stalled_seconds for node in self.world.nodes.values())

    def steady(self, instance: str, since: float) -> bool:
        """Whether an instance has served since that time without a stall."""
        found = self.instances[instance]
        return (
            found.running
            and found.node is not None
            and found.started_at <= since
            and (found.node.busy_until <= since)
        )
