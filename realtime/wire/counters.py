"""What the wire dropped, refused or failed at, as plain numbers for whoever exports them, and logs that do
not flood.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(slots=True)
class Counters:
    """Numbers since the start of this instance; they only grow.

    `bus_published` and `bus_received` count all messages, `rooms_published` and `rooms_received` those of
    them that came over a room's channel. `emits` counts what was given to delivery on this instance, `deliveries` the
    sockets that it was for, `delivered_bytes` websocket frames, and `received_bytes` a text's characters. The keys of
    `connects` are "accepted", "gone" and codes of errors, of `disconnects` python-socketio's reasons, of `closes` names
    of `Close`, of `events` names that have a handler (or `OTHER`) and outcomes: "ok", "dropped", "unhandled" and codes.
    """

    bus_published: int = 0
    bus_unavailable: int = 0
    bus_overloaded: int = 0
    bus_failed: int = 0
    bus_received: int = 0
    rooms_published: int = 0
    rooms_received: int = 0
    room_channels_subscribed: int = 0
    room_channels_unsubscribed: int = 0
    joins_unconfirmed: int = 0
    bus_inbound_dropped: int = 0
    bus_outbound_dropped: int = 0
    bus_malformed: int = 0
    bus_pickle: int = 0
    bus_listener_restarts: int = 0
    callbacks_unknown: int = 0
    callbacks_failed: int = 0
    callbacks_evicted: int = 0
    calls_timed_out: int = 0
    calls_gone: int = 0
    connects_refused: int = 0
    connects_failed: int = 0
    connects_of_gone: int = 0
    events_failed: int = 0
    events_dropped: int = 0
    events_unconnected: int = 0
    packets_malformed: int = 0
    packets_held_back_dropped: int = 0
    disconnects_failed: int = 0
    lanes_flooded: int = 0
    events_refused: int = 0
    rooms_refused: int = 0
    sockets_flooding: int = 0
    slow_consumers: int = 0
    handshakes_expired: int = 0
    lane_workers_lost: int = 0
    closed_by_server: int = 0
    requests_strayed: int = 0
    emits: int = 0
    deliveries: int = 0
    delivered_bytes: int = 0
    received_packets: int = 0
    received_bytes: int = 0
    connects: Counter[str] = field(default_factory=Counter)
    disconnects: Counter[str] = field(default_factory=Counter)
    closes: Counter[str] = field(default_factory=Counter)
    events: Counter[tuple[str, ...]] = field(default_factory=Counter)


OTHER = "other"
"""What events are called that no handler was registered for: clients choose names, and there is no end to them."""


class QuietLog:
    """Logs the first record of a kind at once, then one per interval, saying how many it left out."""

    def __init__(self, logger: logging.Logger, *, interval: float = 10.0) -> None:
        self._logger = logger
        self._interval = interval
        self._last: dict[str, tuple[float, int]] = {}

    def warning(self, kind: str, message: str, *args: object, about: Mapping[str, str] | None = None) -> None:
        """Log under `kind`: one of a few fixed words, for each kind is remembered for ever. `about`: the fields of the
        line, as `WireServer.about` gives them.
        """
        now = time.monotonic()
        last, left_out = self._last.get(kind, (float("-inf"), 0))
        if now - last < self._interval:
            self._last[kind] = (last, left_out + 1)
            return
        self._last[kind] = (now, 0)
        if left_out:
            message += " (and %d more like this since the last such line)"
            args = (*args, left_out)
        self._logger.warning(message, *args, extra=about)
