"""What a fleet spends on a demand: a sum of costs times rates, and no more than that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tests.bench.capacity.costs import Cost, Costs

BROADCASTS_PER_SECOND = 4.0
"""REALTIME_LIST_INTERVAL_SECONDS is 0.25,"""
LIST_BYTES_PER_SECOND = 4_000_000.0
"""REALTIME_LIST_BYTES_PER_SECOND, for each instance,"""
LONGEST_LIST = 5000
"""and REALTIME_LIST_MAX_USERS, as they are by default."""
PING_SECONDS = 25.0
MEASURED_INSTANCES = 2
"""There were so many when Redis' costs were measured, and all heard everything."""
CHANGES_OF_A_SESSION = 2
"""Messages to all instances: somebody comes, somebody goes."""
LIST_FRAME_BYTES = 45
ID_OVERHEAD = 3
"""Quotes and a comma."""

Presence = Literal["lists", "diffs", "none"]


@dataclass(frozen=True, slots=True)
class Demand:
    """What all clients of a fleet together ask of it. Rates are per second, sizes bytes."""

    probes: float
    """Health checks of each instance."""
    online: float
    """Users of whom others are told,"""
    sessions: float
    """their open tabs,"""
    polling: float
    """and the share of those that poll."""
    arrivals: float
    """Tabs that come; as many go."""
    changes: float
    """Users who come online or go."""
    events: float
    """Events of clients to channels,"""
    audience: float
    """tabs that hear one,"""
    event_bytes: float
    """and what each of them gets."""
    usages: float
    words: float
    """Pieces of streamed answers, each to one tab that is mostly at another instance than the one that streams,"""
    word_bytes: float
    kept: bool
    """whether they are kept in the message store,"""
    presence: Presence
    """and what clients know of who is online: whole lists, differences, or nothing of people they share no channel with
    (as with `REALTIME_USER_LIST_VISIBILITY=channels`, where what is left is not counted here)."""
    id_bytes: float


@dataclass(frozen=True, slots=True)
class Forecast:
    """Cores (CPU seconds a second), bytes, rates per second. ``parts``: the instances' cores, by cause."""

    instances: int
    parts: dict[str, float]
    redis_cores: float
    redis_parts: dict[str, float]
    redis_commands: float
    redis_bytes: float
    client_bytes: float
    presence_bytes: float
    """Of those, what presence would take if nothing bounded it."""
    memory: float
    """Of each instance."""

    @property
    def cores(self) -> float:
        return sum(self.parts.values())

    @property
    def share(self) -> float:
        """Of a core, for each instance."""
        return self.cores / self.instances

    @property
    def presence_keeps_up(self) -> bool:
        return self.presence_bytes <= LIST_BYTES_PER_SECOND * self.instances


def forecast(costs: Costs, demand: Demand, instances: int) -> Forecast:
    """What so many instances spend on it if work is spread evenly."""
    broadcasts, presence_bytes = _presence(demand, instances)
    sent = min(presence_bytes, LIST_BYTES_PER_SECOND * instances)
    told = broadcasts * demand.sessions * (sent / presence_bytes if presence_bytes else 0.0)
    heard = _hearing(demand.audience, instances) - 1
    deliveries = demand.events * demand.audience
    event_bytes = deliveries * demand.event_bytes
    word = costs.word
    looking = float(instances if demand.usages else 0)
    beats = demand.sessions / PING_SECONDS

    def spread(cost: Cost, rate: float, others: float) -> float:
        return rate * (cost.here + others * cost.there)

    parts = {
        "instances themselves": instances * costs.instance.here,
        "health checks": demand.probes * instances * costs.probe.here,
        "heartbeats": beats * costs.heartbeat.here,
        "tabs that come and go": spread(costs.session, demand.arrivals, instances - 1),
        "who is online": told * costs.delivery + sent * costs.delivery_byte,
        "events to channels": spread(costs.event, demand.events, heard),
        "their deliveries": deliveries * costs.delivery + event_bytes * costs.delivery_byte,
        "use of models": demand.usages * costs.usage.here + looking * costs.in_use.here,
        "words of answers": demand.words * (word.here + word.there + (costs.keeping if demand.kept else 0.0)),
        "polling": demand.polling * (deliveries + demand.words + told) * costs.polled,
    }
    more = instances - MEASURED_INSTANCES
    heard_more = demand.arrivals * CHANGES_OF_A_SESSION * more + demand.events * (
        heard + 1 - MEASURED_INSTANCES
    )
    redis = {
        "instances themselves": instances * costs.instance.redis,
        "tabs that come and go": demand.arrivals * costs.session.redis,
        "events to channels": demand.events * costs.event.redis,
        "use of models": demand.usages * costs.usage.redis + looking * costs.in_use.redis,
        "words of answers": demand.words * word.redis,
        "telling more instances than were measured": heard_more * costs.listener.redis,
    }
    rates = (
        (costs.instance, float(instances)),
        (costs.session, demand.arrivals),
        (costs.event, demand.events),
        (costs.usage, demand.usages),
        (costs.in_use, looking),
        (word, demand.words),
    )
    return Forecast(
        instances=instances,
        parts=parts,
        redis_cores=sum(redis.values()),
        redis_parts=redis,
        redis_commands=sum(cost.commands * rate for cost, rate in rates),
        redis_bytes=sum(cost.redis_bytes * rate for cost, rate in rates)
        + heard_more * costs.listener.redis_bytes,
        client_bytes=sent + event_bytes + demand.words * demand.word_bytes,
        presence_bytes=presence_bytes,
        memory=costs.instance_bytes + demand.sessions / instances * costs.connection_bytes,
    )


def instances_for(costs: Costs, demand: Demand, *, share: float, sessions: float, most: int = 10_000) -> int:
    """The fewest instances of which each uses at most that share of a core and has at most so many sessions.

    0: there is no such number, since each that is added costs the others as much as it takes from them.
    """
    for instances in range(max(1, int(-(-demand.sessions // sessions))), most):
        found = forecast(costs, demand, instances)
        if found.share <= share:
            return instances
    return 0


def _hearing(audience: float, instances: int) -> float:
    """How many of the instances have somebody of an audience that is spread by chance; one at least: the sender's."""
    missed: float = (1 - 1 / instances) ** audience
    return max(1.0, instances * (1 - missed))


def _presence(demand: Demand, instances: int) -> tuple[float, float]:
    """Broadcasts a second of each instance, and the bytes a second that they take in the whole fleet, unbounded."""
    broadcasts = min(BROADCASTS_PER_SECOND, demand.changes)
    each = demand.id_bytes + ID_OVERHEAD
    whole = LIST_FRAME_BYTES + min(demand.online, LONGEST_LIST) * each
    if demand.presence == "lists":
        return broadcasts, broadcasts * demand.sessions * whole + demand.arrivals * whole
    if demand.presence == "diffs":
        told = broadcasts * LIST_FRAME_BYTES + demand.changes * each
        return broadcasts, demand.sessions * told + demand.arrivals * (
            LIST_FRAME_BYTES + demand.online * each
        )
    return 0.0, 0.0
