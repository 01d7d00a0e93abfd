"""The faults of a lab: what scenarios and plans do to hosts, links and clocks, and when all of it is over."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from sim.client import Client, Raw
from sim.history import History

Backup = Any
"""Redis' data at one moment; what it is made of is the lab's own."""


class Faults(ABC):
    """The part of ``Lab`` that breaks things. Each fault is named in the history and may be skipped by its name.

    The verbs are what scenarios call; what they do to the hosts is below, and each lab's own. A lab that cannot do one
    raises ``Unreachable``.
    """

    history: History
    _lasting_until: float
    """When the last fault that was made known ended, or ends."""

    @property
    @abstractmethod
    def now(self) -> float: ...

    @abstractmethod
    def does(self, who: Client | Raw | str, verb: str) -> bool: ...

    def drop(self, client: Client | Raw, *, silent: bool = True) -> None:
        """The tab's host is gone without a word to anyone, or its connections are reset."""
        if not self.does(client, "drop"):
            return
        self.fault(f"{client.name} vanishes")
        self.do_drop(client, silent=silent)

    def crash(self, instance: str, *, silent: bool = False) -> None:
        """As ``kill -9``; ``silent``: as a host that loses its power."""
        if not self.does("lab", f"crash {instance}"):
            return
        self.fault(f"{instance} crashes")
        self.do_crash(instance, silent=silent)

    def pause(self, host: str, seconds: float) -> None:
        """An instance or Redis stands still; what arrives meanwhile it finds when it goes on."""
        if not self.does("lab", f"pause {host}"):
            return
        self.fault(f"{host} stalls for {seconds:g} s", lasting=seconds)
        self.do_pause(host, seconds)

    def terminate(self, instance: str) -> None:
        """As SIGTERM; what it does then is its own."""
        self.fault(f"{instance} is told to end")
        self.do_terminate(instance)

    def partition(self, one: str, other: str) -> None:
        """What is sent between the two is kept back, without a word, until they are healed."""
        if not self.does("lab", f"partition {one} {other}"):
            return
        self.fault(f"{one} and {other} are cut off from each other")
        self.do_partition(one, other)

    def heal(self, one: str, other: str) -> None:
        self.fault(f"{one} and {other} reach each other again")
        self.do_heal(one, other)

    def skew(self, host: str, seconds: float) -> None:
        """An instance's wall clock is ahead by so much from now on."""
        self.do_skew(host, seconds)

    def restart_redis(self, *, keep_data: bool) -> None:
        """Redis goes and is back at once, with its data or empty; every connection to it is reset."""
        if not self.does("lab", "restart redis"):
            return
        self.fault(f"redis restarts {'with' if keep_data else 'without'} its data")
        self.do_restart_redis(keep_data=keep_data)

    def fail_over_redis(self, backup: Backup) -> None:
        """A replica takes over at the same address: the data is as it was, every connection is reset."""
        if not self.does("lab", "fail over redis"):
            return
        self.fault("a replica without the last writes takes over from redis")
        self.do_restart_redis(keep_data=False, back_to=backup)

    def lose_published(self, host: str, *, lose: bool) -> None:
        """Whether Redis loses what it would push to a host's subscriptions from now on, without a word."""
        self.fault(f"redis {'loses' if lose else 'no longer loses'} what is published to {host}")
        self.do_lose_published(host, lose=lose)

    def drop_redis_connections(self) -> None:
        """As CLIENT KILL of all of them."""
        if not self.does("lab", "drop redis connections"):
            return
        self.fault("redis closes its connections")
        self.do_kill_connections()

    def fault(self, what: str, *, lasting: float = 0.0) -> None:
        """Makes a fault known, which is over after some seconds."""
        self._lasting_until = max(self._lasting_until, self.now + lasting)
        self.history.add(self.now, "lab", "fault", what)

    # What they do to hosts, without a word in the history: for plans, too

    @abstractmethod
    def do_drop(self, client: Client | Raw, *, silent: bool) -> None: ...

    @abstractmethod
    def do_crash(self, instance: str, *, silent: bool = False) -> None: ...

    @abstractmethod
    def do_pause(self, host: str, seconds: float) -> None: ...

    @abstractmethod
    def do_terminate(self, instance: str) -> None: ...

    @abstractmethod
    def do_partition(self, one: str, other: str) -> None: ...

    @abstractmethod
    def do_heal(self, one: str, other: str) -> None: ...

    @abstractmethod
    def do_reset(self, one: str, other: str) -> None:
        """Every connection between the two is reset, as a middlebox would."""

    @abstractmethod
    def do_skew(self, host: str, seconds: float) -> None: ...

    @abstractmethod
    def do_restart_redis(self, *, keep_data: bool, back_to: Backup | None = None) -> None: ...

    @abstractmethod
    def do_kill_connections(self) -> None: ...

    @abstractmethod
    def do_lose_published(self, host: str, *, lose: bool) -> None: ...

    # What scenarios ask of them

    @abstractmethod
    def keep_redis(self) -> Backup:
        """Redis' data as it is now: what a replica has that gets nothing from now on."""

    @abstractmethod
    def lost_published(self, host: str) -> int:
        """How many messages ``lose_published`` has lost for the host since it began."""

    @property
    @abstractmethod
    def healed_at(self) -> float:
        """When the last fault up to now is over: it struck, or the time that it lasts is at its end."""

    @abstractmethod
    def stalls(self) -> float:
        """Seconds for which hosts stood still by a fault, all together."""

    @abstractmethod
    def steady(self, instance: str, since: float) -> bool:
        """Whether an instance has served since that time without a stall."""
