"""What one thing costs, measured between real processes: a second of nothing, a session, an event, a delivery, a word.

What depends on several sizes is measured at their ends, and the slope is the cost. Medians of rounds.
"""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields
from functools import partial
from statistics import median

from sim.processes.redis import connect
from tests.bench.capacity.lab import CostLab, Spent, cost_lab, settle, token
from tests.bench.capacity.polling import Pollers
from tests.bench.wire.machine import LOAD_CORE, memory_bytes, no_collections, on_core
from tests.bench.wire.ours_app import ANSWERS, KEPT
from tests.bench.wire.peers import DoorKey, auth, user
from tests.bench.wire.swarm import Swarm

CHANNEL = "general"
PAUSE = 0.005
"""Between things, seconds."""
LISTENERS = 20
MESSAGE_BYTES = 250


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one thing. CPU seconds on its own instance (``here``), on each other instance that hears of it (``there``), of
    Redis; Redis' commands, those within scripts too, and its bytes, in and out."""

    here: float
    there: float = 0.0
    redis: float = 0.0
    commands: float = 0.0
    redis_bytes: float = 0.0


PARTS = tuple(each.name for each in fields(Cost))


@dataclass(frozen=True, slots=True)
class Costs:
    instance: Cost
    """A second of an instance that nobody is connected to."""
    probe: Cost
    """One `GET /health`, on a connection of its own."""
    listener: Cost
    """One more instance that hears a message between instances, for Redis; ``here`` is not measured."""
    instance_bytes: float
    connection_bytes: float
    """Memory: of such an instance, and of one more idle websocket."""
    heartbeat: Cost
    """One ping and its pong."""
    session: Cost
    """A tab that connects, sends `user-join` and `join-channels`, and goes: its user comes and goes, too."""
    event: Cost
    """An event of a client to a channel, with its ack, apart from the deliveries."""
    event_byte: Cost
    """One more byte in it."""
    delivery: float
    """CPU seconds for one more websocket that a message goes to,"""
    delivery_byte: float
    """and for one more byte in it."""
    in_use: Cost
    """A second of an instance while any model is in use: it looks often whether that has ended."""
    usage: Cost
    """A heartbeat of a model's use, with its ack."""
    word: Cost
    """A word of an answer, streamed from one instance to a websocket at another (`there` holds that delivery)."""
    keeping: float
    """CPU seconds more if it is kept in the message store (SQLite's here, without the disk)."""
    polled: float
    """CPU seconds more for a message to a client that polls: its next request."""


@dataclass(frozen=True, slots=True)
class Scale:
    calm: bool = True
    """One thing at a time with pauses between; or as fast as it goes: a process that is never idle has its code and
    data at hand, does several things in a turn of its loop, and spends less on each."""
    few: int = 50
    many: int = 500
    """Clients of each instance."""
    rounds: int = 3
    events: int = 40
    sessions: int = 40
    words: int = 400
    large: int = 4096
    """Bytes more in a large event."""
    idle_seconds: float = 10.0
    heartbeats: int = 10
    pollers: int = 40

    def rest(self) -> None:
        """Between two things."""
        if self.calm:
            time.sleep(PAUSE)


def measure_costs(scale: Scale) -> Costs:
    """All of them: some four minutes at full scale."""
    with on_core(LOAD_CORE), no_collections():
        heartbeat, connection_bytes = _held(scale)
        return _lively(scale, heartbeat, connection_bytes)


def _held(scale: Scale) -> tuple[Cost, float]:
    """What connections cost that only stay: their pings come every second here, so that there is something to see."""
    settings = {"WEBSOCKET_SERVER_PING_INTERVAL": "1"}
    with cost_lab(2 * scale.many, idle_seconds=scale.idle_seconds, settings=settings) as lab:
        swarm = Swarm([lab.a.port], deflate=False, auth=auth)
        try:
            held = []
            for wanted in (scale.few, 2 * scale.many):
                swarm.connect(wanted - len(swarm))
                settle([swarm])
                held.append(memory_bytes(lab.a.pid))
            before = lab.meter.read()
            swarm.pump(scale.heartbeats)
            spent = lab.meter.read() - before
            beats = len(swarm) * spent.seconds
            spent -= lab.idle.times(spent.seconds)
        finally:
            swarm.close()
    return _cost(spent.times(1 / beats)), (held[1] - held[0]) / (2 * scale.many - scale.few)


def _lively(scale: Scale, heartbeat: Cost, connection_bytes: float) -> Costs:
    users = 2 * scale.many + scale.sessions + scale.pollers
    with ExitStack() as ends:
        lab = ends.enter_context(cost_lab(users, idle_seconds=scale.idle_seconds))
        instance_bytes = float(memory_bytes(lab.b.pid))
        session, probe, listener = _session(lab, scale), _probe(lab, scale), _listener(lab, scale)
        company: list[Swarm] = []
        swarms = [
            Swarm([lab.a.port], deflate=False, auth=auth, company=company),
            Swarm([lab.b.port], deflate=False, auth=lambda n: auth(n + scale.many), company=company),
        ]
        for swarm in swarms:
            ends.callback(swarm.close)
        small, large = [], []
        for clients in (scale.few, scale.many):
            for swarm in swarms:
                swarm.connect(clients - len(swarm))
            small.append(_event(lab, swarms, scale, 0))
            large.append(_event(lab, swarms, scale, scale.large))
        more = scale.many - scale.few
        delivery = _there(small[1], small[0]) / more
        bigger = _there(large[1], large[0]) / more
        delivery_byte = max(0.0, (bigger - delivery) / scale.large)
        event = _without(small[0], scale.few * delivery)
        event_large = _without(large[0], scale.few * bigger)
        usage = _usage(lab, swarms, scale)
        in_use = _in_use(lab, swarms, scale, usage)
        word, kept = (_word(lab, swarms, scale, prefix) for prefix in ("", KEPT))
        polled = _polled(lab, scale, word)
        idle = lab.idle
    return Costs(
        instance=_halved(idle),
        probe=probe,
        listener=listener,
        instance_bytes=instance_bytes,
        connection_bytes=connection_bytes,
        heartbeat=heartbeat,
        session=session,
        event=event,
        event_byte=_slope(event, event_large, scale.large),
        delivery=delivery,
        delivery_byte=delivery_byte,
        in_use=in_use,
        usage=usage,
        word=word,
        keeping=max(0.0, kept.here - word.here),
        polled=polled,
    )


def _session(lab: CostLab, scale: Scale) -> Cost:
    """Of sessions that come ten at a time and go, while nobody else is connected."""

    at_once = 1 if scale.calm else 10

    def come_and_go() -> None:
        for first in range(0, scale.sessions, at_once):
            swarm = Swarm([lab.a.port], deflate=False, auth=partial(_auth, first=first))
            try:
                swarm.connect(at_once)
                for event in (b'1["user-join"', b'2["join-channels"'):
                    for number, connection in enumerate(swarm.connections.values()):
                        data = json.dumps({"auth": {"token": token(first + number)}}).encode()
                        connection.send(b"42" + event + b"," + data + b"]")
                    swarm.pump(4 * PAUSE)
            finally:
                swarm.close()
        time.sleep(1.0)  # until they are gone for all; what that takes belongs to them

    return _each(lab, come_and_go, [], scale, at_once * -(-scale.sessions // at_once))


def _auth(number: int, *, first: int) -> bytes:
    return auth(first + number)


def _probe(lab: CostLab, scale: Scale) -> Cost:
    def ask() -> None:
        for _ in range(scale.events):
            with urllib.request.urlopen(f"{lab.a.url}/health", timeout=5) as response:
                response.read()
            scale.rest()

    return _each(lab, ask, [], scale, scale.events)


def _listener(lab: CostLab, scale: Scale) -> Cost:
    """Of messages as long as a change of presence, published to nobody and to many."""
    with connect(lab.meter.redis.port, timeout=5) as client, ExitStack() as ends:

        def publish() -> None:
            for _ in range(scale.words):
                client.publish("capacity", "x" * MESSAGE_BYTES)
                scale.rest()

        nobody = _each(lab, publish, [], scale, scale.words)
        for _ in range(LISTENERS):
            subscriber = ends.enter_context(connect(lab.meter.redis.port, timeout=5).pubsub())  # type: ignore[no-untyped-call]
            subscriber.subscribe("capacity")
        many = _each(lab, publish, [], scale, scale.words)
    return Cost(
        0.0,
        redis=max(0.0, many.redis - nobody.redis) / LISTENERS,
        redis_bytes=max(0.0, many.redis_bytes - nobody.redis_bytes) / LISTENERS,
    )


def _event(lab: CostLab, swarms: Sequence[Swarm], scale: Scale, more_bytes: int) -> Cost:
    """Of events one at a time: the next is sent when the clients have had time to take the one before."""
    sender = next(iter(swarms[0].connections.values()))
    data = {"type": "typing", "typing": True, "pad": "x" * more_bytes}
    packet = b'427["channel-events",' + json.dumps({"channel_id": CHANNEL, "data": data}).encode() + b"]"
    pause = (0.01 if scale.calm else 0.0) + 2e-5 * sum(map(len, swarms))
    at_once = 1 if scale.calm else 4

    def send() -> None:
        for number in range(scale.events):
            sender.send(packet)
            if number % at_once == at_once - 1:
                for swarm in swarms:
                    swarm.pump(pause)

    return _each(lab, send, swarms, scale, scale.events)


def _usage(lab: CostLab, swarms: Sequence[Swarm], scale: Scale) -> Cost:
    users = list(swarms[0].connections.values())[: scale.few]

    def send() -> None:
        for _ in range(scale.words // len(users)):
            for connection in users:
                connection.send(b'429["usage",{"model":"model"}]')
                scale.rest()
            swarms[0].pump(PAUSE)

    return _each(lab, send, swarms, scale, scale.words // len(users) * len(users))


def _in_use(lab: CostLab, swarms: Sequence[Swarm], scale: Scale, usage: Cost) -> Cost:
    """Of one of the two instances; one client keeps a model in use."""
    client = next(iter(swarms[0].connections.values()))

    def keep() -> None:
        for _ in range(scale.heartbeats):
            client.send(b'429["usage",{"model":"model"}]')
            for swarm in swarms:
                swarm.pump(0.5)

    keep()
    before = lab.meter.read()
    keep()
    spent = lab.meter.read() - before
    each = _halved((spent - lab.idle.times(spent.seconds)).times(1 / spent.seconds))
    beats = scale.heartbeats / spent.seconds / 2
    parts = {part: max(0.0, getattr(each, part) - beats * getattr(usage, part)) for part in PARTS}
    return Cost(**parts)


def _word(lab: CostLab, swarms: Sequence[Swarm], scale: Scale, prefix: str) -> Cost:
    """Of words for users at the other instance, emitted one after the other."""
    names = [prefix + user(scale.many + number) for number in range(10)]
    return _each(lab, _emitter(lab, names, scale), swarms, scale, scale.words)


def _polled(lab: CostLab, scale: Scale, word: Cost) -> float:
    """What a word costs more there if its client polls."""
    first = 2 * scale.many
    with Pollers(lab.b.port, [token(first + number) for number in range(scale.pollers)]) as pollers:
        names = [user(first + number) for number in range(scale.pollers)]
        rounds = []
        for _ in range(scale.rounds):
            before = pollers.messages
            spent = lab.measure(_emitter(lab, names, scale), [])
            rounds.append(spent.instances[1] / max(1, pollers.messages - before))
    return max(0.0, median(rounds) - word.there)


def _emitter(lab: CostLab, names: Sequence[str], scale: Scale) -> Callable[[], None]:
    def emit() -> None:
        door = DoorKey(lab.a.folder, "door" + ANSWERS)
        try:
            for at in range(scale.words // len(names)):
                for name in names:
                    door.emit(at, 1, name)
                    scale.rest()
            time.sleep(1.0)
        finally:
            door.close()

    return emit


def _each(lab: CostLab, work: Callable[[], None], swarms: Sequence[Swarm], scale: Scale, things: int) -> Cost:
    """What one of the ``things`` costs that ``work`` does; the first round warms up."""
    work()
    each = [_cost(lab.measure(work, swarms).times(1 / things)) for _ in range(scale.rounds)]
    return Cost(*(median(getattr(cost, part) for cost in each) for part in PARTS))


def _cost(spent: Spent) -> Cost:
    parts = (*spent.instances, spent.redis, spent.commands, spent.redis_bytes)
    return Cost(
        *(max(0.0, part) for part in parts)
    )  # below 0 is what was idle more at one time than at another


def _halved(spent: Spent) -> Cost:
    """Of one of two instances that do the same."""
    return Cost(sum(spent.instances) / 2, 0.0, spent.redis / 2, spent.commands / 2, spent.redis_bytes / 2)


def _there(many: Cost, few: Cost) -> float:
    """Both instances have as many clients, so that both know the slope."""
    return max(0.0, (many.here - few.here + many.there - few.there) / 2)


def _without(cost: Cost, deliveries: float) -> Cost:
    return Cost(
        max(0.0, cost.here - deliveries),
        max(0.0, cost.there - deliveries),
        cost.redis,
        cost.commands,
        cost.redis_bytes,
    )


def _slope(small: Cost, large: Cost, size: int) -> Cost:
    return Cost(*(max(0.0, getattr(large, part) - getattr(small, part)) / size for part in PARTS))
