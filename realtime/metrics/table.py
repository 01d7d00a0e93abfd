"""Every metric of an instance: its name, what it means, and how it is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import TYPE_CHECKING

from realtime.histogram import Histogram
from realtime.wire import Counters

if TYPE_CHECKING:
    from realtime.server import RealtimeServer

Labels = tuple[str, ...]
Read = Callable[["RealtimeServer"], Mapping[Labels, float] | Histogram | None]


class Kind(StrEnum):
    """Prometheus' types of metrics, as far as they are used here."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. ``read`` returns a number for each combination of values of ``labels``, in that order, or a histogram
    (None: not here); it is called in the instance's loop. Seconds and bytes, as the name says."""

    name: str
    kind: Kind
    labels: Labels
    help: str
    read: Read


def _connections(server: RealtimeServer) -> dict[Labels, float]:
    sockets = [each.socket for each in server.wire.connections.values()]
    by_websocket = sum(socket.upgraded for socket in sockets)
    return {("websocket",): by_websocket, ("polling",): len(sockets) - by_websocket}


def _queue_bytes(server: RealtimeServer) -> dict[Labels, float]:
    return _one(sum(each.socket.queue.waiting for each in server.wire.connections.values()))


def _bus_messages(server: RealtimeServer) -> dict[Labels, float]:
    counters = server.wire.counters
    return {
        ("sent", "common"): counters.bus_published - counters.rooms_published,
        ("sent", "room"): counters.rooms_published,
        ("received", "common"): counters.bus_received - counters.rooms_received,
        ("received", "room"): counters.rooms_received,
    }


def _lease_renewals(server: RealtimeServer) -> dict[Labels, float]:
    return {(each,): server.leases.counts[each] for each in ("renewed", "failed", "lost")}


def _repaired(server: RealtimeServer) -> dict[Labels, float]:
    return {(each,): server.repairs.counts[each] for each in ("reregistered", "removed")}


def _replica(server: RealtimeServer) -> dict[Labels, float]:
    counts = server.replica.counts
    return {(each,): counts[each] for each in ("snapshot", "stale", "gap", "lost", "rollback")}


TOLD_BY_THEMSELVES = {
    "bus_published",
    "bus_received",
    "rooms_published",
    "rooms_received",
    "room_channels_subscribed",
    "room_channels_unsubscribed",
    "slow_consumers",
    "emits",
    "deliveries",
    "delivered_bytes",
    "received_packets",
    "received_bytes",
}
"""Counters that have a metric of their own."""


def _incidents(server: RealtimeServer) -> dict[Labels, float]:
    numbers = {each.name: getattr(server.wire.counters, each.name) for each in fields(Counters)}
    return _by({k: n for k, n in numbers.items() if isinstance(n, int) and k not in TOLD_BY_THEMSELVES})


def _room_channels(server: RealtimeServer) -> dict[Labels, float]:
    counters = server.wire.counters
    return _one(counters.room_channels_subscribed - counters.room_channels_unsubscribed)


def _one(number: float) -> dict[Labels, float]:
    return {(): number}


def _by(counts: Mapping[str, int]) -> dict[Labels, float]:
    return {(key.lower().replace("_", "-").replace(" ", "-"),): number for key, number in counts.items()}


def _metrics() -> Iterator[Metric]:
    def metric(kind: Kind, name: str, text: str, read: Read, *labels: str) -> Metric:
        return Metric(f"realtime_{name}", kind, labels, text, read)

    counter, gauge, histogram = Kind.COUNTER, Kind.GAUGE, Kind.HISTOGRAM
    # Clients
    yield metric(
        gauge,
        "instance_info",
        "always 1; the label is the instance's name",
        lambda s: {(s.settings.realtime_instance_name,): 1},
        "name",
    )
    yield metric(gauge, "connections", "open connections", _connections, "transport")
    yield metric(gauge, "sessions", "sockets that are signed in", lambda s: _one(len(s.sessions)))
    yield metric(gauge, "strangers", "sockets that are not signed in yet", lambda s: _one(len(s.strangers)))
    yield metric(
        counter,
        "connects_total",
        "asked to join a namespace: `accepted`, `gone` before the answer, or refused with an error's code",
        lambda s: _by(s.wire.counters.connects),
        "outcome",
    )
    yield metric(
        counter,
        "sign_ins_total",
        "`ok`, `no-token`, or an error's code",
        lambda s: _by(s.handlers.sign_ins),
        "outcome",
    )
    yield metric(
        counter,
        "requests_refused_total",
        "HTTP requests and websocket handshakes that no session was to see",
        lambda s: _by({str(flaw.name): number for flaw, number in s.wire.eio.flaws.items()}),
        "reason",
    )
    yield metric(
        counter,
        "disconnects_total",
        "sockets that left, were lost or were closed, in python-socketio's words",
        lambda s: _by(s.wire.counters.disconnects),
        "reason",
    )
    yield metric(
        counter,
        "closes_total",
        "connections that the server closed, by name of the closing code",
        lambda s: _by(s.wire.counters.closes),
        "reason",
    )
    # Events in
    yield metric(
        counter,
        "events_total",
        "events of clients: `ok`, an error's code, `dropped` as the socket was gone; no handler: `other`, `unhandled`",
        lambda s: s.wire.counters.events,
        "event",
        "outcome",
    )
    yield metric(
        counter,
        "received_packets_total",
        "Socket.IO packets of clients",
        lambda s: _one(s.wire.counters.received_packets),
    )
    yield metric(
        counter,
        "received_bytes_total",
        "their size; a text counts its characters",
        lambda s: _one(s.wire.counters.received_bytes),
    )
    # Events out
    yield metric(
        counter,
        "emits_total",
        "events that were sent here or came from other instances, whoever is here to hear them",
        lambda s: _one(s.wire.counters.emits),
    )
    yield metric(
        counter,
        "deliveries_total",
        "one for each socket of this instance that an emit was for",
        lambda s: _one(s.wire.counters.deliveries),
    )
    yield metric(
        counter,
        "delivered_bytes_total",
        "their size as websocket frames",
        lambda s: _one(s.wire.counters.delivered_bytes),
    )
    yield metric(gauge, "queue_bytes", "what waits for all clients until the kernel takes it", _queue_bytes)
    yield metric(
        counter,
        "slow_consumers_total",
        "connections that were closed since their clients read too slowly",
        lambda s: _one(s.wire.counters.slow_consumers),
    )
    # The fleet
    yield metric(
        counter,
        "bus_messages_total",
        "messages between instances: `sent` or `received`, by the `common` channel or a `room`'s",
        _bus_messages,
        "direction",
        "channel",
    )
    yield metric(gauge, "room_channels", "channels of rooms that this instance hears", _room_channels)
    yield metric(
        histogram,
        "redis_round_trip_seconds",
        "commands and scripts that Redis answered",
        lambda s: None if s.link is None else s.link.round_trips,
    )
    yield metric(
        histogram,
        "redis_publish_seconds",
        "batches of up to 128 messages that Redis took; on a cluster without those for rooms",
        lambda s: None if s.link is None else s.link.publisher.round_trips,
    )
    yield metric(
        counter,
        "redis_failures_total",
        "commands and scripts that Redis failed or did not answer in time",
        lambda s: _one(0 if s.link is None else s.link.failures),
    )
    yield metric(
        histogram,
        "presence_lag_seconds",
        "from a join or leave on any instance, by Redis' clock, until this one hears of it; a snapshot's are not in it",
        lambda s: s.replica.lag,
    )
    yield metric(
        gauge, "users_online", "on all instances, as this one has heard", lambda s: _one(len(s.replica.users))
    )
    yield metric(
        gauge,
        "models_in_use",
        "on all instances, as this one has heard",
        lambda s: _one(len(s.replica.models)),
    )
    yield metric(
        counter,
        "replica_steps_total",
        "what kept this instance's copy of that right: `snapshot`, `stale`, `gap`, `lost`, `rollback`",
        _replica,
        "kind",
    )
    yield metric(gauge, "lease_held", "1 while this instance's lease is held", lambda s: _one(s.leases.held))
    yield metric(
        counter, "lease_renewals_total", "`renewed`, `failed`, or found `lost`", _lease_renewals, "outcome"
    )
    yield metric(
        counter,
        "reaped_sessions_total",
        "sessions of dead instances that this one removed",
        lambda s: _one(s.repairs.counts["reaped"]),
    )
    yield metric(
        counter,
        "repaired_sessions_total",
        "own sessions that were registered again, and unknown ones that were removed",
        _repaired,
        "kind",
    )
    # The process
    yield metric(
        histogram,
        "loop_lag_seconds",
        "how late the event loop is, looked at twice a second",
        lambda s: s.loop_lag.seconds,
    )
    yield metric(
        counter,
        "task_failures_total",
        "background tasks that failed and were started again",
        lambda s: _by(s.tasks.failures),
        "task",
    )
    yield metric(
        counter,
        "incidents_total",
        "the rest of what was dropped, refused or failed at: a field of `realtime.wire.Counters` each",
        _incidents,
        "kind",
    )


METRICS = tuple(_metrics())
