"""A bus channel for each room: its name, and which of them this instance hears."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable

from .bus import Bus
from .counters import Counters

LINGER_SECONDS = 10.0
"""How long a room's channel is heard after its last member left: rooms that flap cost nothing."""
MAX_LINGERING = 10_000
"""Rooms without members that may be heard at once; beyond, the longest empty goes at once."""

_SID = re.compile(r"[A-Za-z0-9_-]{20}")

Key = tuple[str, str]


def room_channel(base: str, namespace: str, room: str) -> str:
    """``BASE#NAMESPACE,ROOM``, such as ``socketio#/,channel:general``.

    Unambiguous: a base has no "#" and a namespace no comma. A brace is written %7B, so that no room chooses its slot in
    a Redis Cluster; should two rooms share a name by that, nothing is lost, for messages say which room they are for.
    """
    name = f"{base}#{namespace},{room}".replace("{", "%7B")
    return name.encode("utf-8", "backslashreplace").decode()


def looks_like_sid(room: str) -> bool:
    """Whether it may be the room that a socket is by itself: those are reached by the common channel.

    Sids of Engine.IO servers have this form. A room of the same form goes over the common channel too, and loses only
    the saving.
    """
    return _SID.fullmatch(room) is not None


class RoomChannels:
    """Begins to hear a room with the first who enters it and ends some time after the last left.

    Only rooms that were passed to `want` or `hear` are heard; whoever enters a room without, by
    `basic_enter_room`, keeps it this instance's own. `occupied` says whether a room has members here.
    """

    def __init__(
        self,
        bus: Bus,
        base: str,
        occupied: Callable[[str, str], bool],
        counters: Counters,
        *,
        linger: float = LINGER_SECONDS,
    ) -> None:
        self._bus = bus
        self._base = base
        self._occupied = occupied
        self._counters = counters
        self._linger = linger
        self._heard: dict[Key, str] = {}
        self._idle: dict[Key, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        """How many rooms are heard, those that linger included."""
        return len(self._heard)

    def want(self, namespace: str, rooms: Iterable[str]) -> list[str]:
        """Begin to hear rooms, without waiting, and return their channels. Unless somebody enters a room it is
        given up again after the linger.
        """
        channels, new = [], []
        for room in rooms:
            key = (namespace, room)
            channel = self._heard.get(key)
            if channel is None:
                channel = self._heard[key] = room_channel(self._base, namespace, room)
                new.append(channel)
            channels.append(channel)
            self._idle.pop(key, None)
            if not self._occupied(namespace, room):
                self._let_linger(key)
        if new:
            self._counters.room_channels_subscribed += len(new)
            self._bus.subscribe(new)
        return channels

    async def hear(self, namespace: str, rooms: Iterable[str]) -> None:
        """Returns when what is published for these rooms from now on reaches this instance.

        Raises `StateUnavailable` in bounded time; the bus goes on trying, until `emptied` ends it.
        """
        await self._bus.heard(self.want(namespace, rooms))

    def emptied(self, namespace: str, room: str) -> None:
        """The last member left."""
        key = (namespace, room)
        if key in self._heard:
            self._let_linger(key)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _let_linger(self, key: Key) -> None:
        loop = asyncio.get_running_loop()
        self._idle.pop(key, None)  # so that the order is the order of deadlines
        self._idle[key] = loop.time() + self._linger
        if len(self._idle) > MAX_LINGERING:
            self._give_up([next(iter(self._idle))])
        if self._timer is None and self._idle:
            self._timer = loop.call_at(next(iter(self._idle.values())), self._expire)

    def _expire(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        due = []
        for key, deadline in self._idle.items():
            if deadline > loop.time():
                self._timer = loop.call_at(deadline, self._expire)
                break
            due.append(key)
        self._give_up(due)

    def _give_up(self, keys: list[Key]) -> None:
        channels = []
        for key in keys:
            del self._idle[key]
            # Entered again since, perhaps by a way that did not ask for it: then the channel stays.
            if not self._occupied(*key):
                channels.append(self._heard.pop(key))
        if channels:
            self._counters.room_channels_unsubscribed += len(channels)
            self._bus.unsubscribe(channels)
