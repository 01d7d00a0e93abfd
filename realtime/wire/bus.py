"""The bus between instances, and an implementation inside one process."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Protocol

Receive = Callable[[bytes], None]


class Bus(Protocol):
    """Messages between instances: at most once, in order per publisher."""

    async def publish(self, channel: str, message: bytes) -> None:
        """Send `message` to everyone who listens to `channel`, this instance included.

        Raises `StateUnavailable`, `BusOverloaded` or `MessageTooLarge`.
        """

    def listen(self, channel: str, receive: Receive) -> None:
        """Have `receive` called with each message of `channel`. It must be quick and must not raise."""

    # Channels that come and go, one for a room.

    async def publish_to_room(self, channel: str, message: bytes) -> None:
        """As `publish`, to those who have subscribed to `channel`; in order with `publish`, but in a cluster."""

    def listen_to_rooms(self, receive: Receive) -> None:
        """Have `receive` called with each message of every channel subscribed to, as for `listen`."""

    def subscribe(self, channels: Iterable[str]) -> None:
        """Begin to hear these, without waiting; those of one loop turn are asked for together. They are heard until
        `unsubscribe`, after every reconnect too.
        """

    async def heard(self, channels: Collection[str]) -> None:
        """Returns when every message that is published to these from now on will be received.

        Raises `StateUnavailable` in bounded time.
        """

    def unsubscribe(self, channels: Iterable[str]) -> None:
        """Hear these no more."""


class LocalHub:
    """What joins the buses of several servers in one process."""

    def __init__(self) -> None:
        self._listeners: dict[str, list[tuple[LocalBus, Receive]]] = {}

    def bus(self) -> LocalBus:
        return LocalBus(self)

    def _add(self, channel: str, bus: LocalBus, receive: Receive) -> None:
        self._listeners.setdefault(channel, []).append((bus, receive))

    def _remove(self, bus: LocalBus, *channels: str) -> None:
        """Takes a bus off these channels; without any, off all."""
        for channel in channels or list(self._listeners):
            listeners = self._listeners.get(channel, [])
            kept = [entry for entry in listeners if entry[0] is not bus]
            if kept:
                self._listeners[channel] = kept
            else:
                self._listeners.pop(channel, None)

    def _deliver(self, channel: str, message: bytes) -> None:
        for _, receive in tuple(self._listeners.get(channel, ())):
            receive(message)


class LocalBus:
    """One server's end of a `LocalHub`. Messages arrive before `publish` returns; nothing waits, nothing is
    lost.
    """

    def __init__(self, hub: LocalHub | None = None) -> None:
        self._hub = hub or LocalHub()
        self._rooms: set[str] = set()
        self._receive_rooms: Receive = lambda _message: None

    async def publish(self, channel: str, message: bytes) -> None:
        self._hub._deliver(channel, message)

    def listen(self, channel: str, receive: Receive) -> None:
        self._hub._add(channel, self, receive)

    async def publish_to_room(self, channel: str, message: bytes) -> None:
        await self.publish(channel, message)

    def listen_to_rooms(self, receive: Receive) -> None:
        self._receive_rooms = receive

    def subscribe(self, channels: Iterable[str]) -> None:
        for channel in channels:
            if channel not in self._rooms:
                self._rooms.add(channel)
                self._hub._add(channel, self, self._receive_rooms)

    async def heard(self, channels: Collection[str]) -> None:
        return None

    def unsubscribe(self, channels: Iterable[str]) -> None:
        for channel in channels:
            self._rooms.discard(channel)
            self._hub._remove(self, channel)

    def close(self) -> None:
        """Hear nothing any more."""
        self._hub._remove(self)
