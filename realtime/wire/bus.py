"""The bus between instances, and an implementation inside one process."""

from __future__ import annotations

from collections.abc import Callable
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


class LocalHub:
    """What joins the buses of several servers in one process."""

    def __init__(self) -> None:
        self._listeners: dict[str, list[tuple[LocalBus, Receive]]] = {}

    def bus(self) -> LocalBus:
        return LocalBus(self)

    def _add(self, channel: str, bus: LocalBus, receive: Receive) -> None:
        self._listeners.setdefault(channel, []).append((bus, receive))

    def _remove(self, bus: LocalBus) -> None:
        for channel, listeners in list(self._listeners.items()):
            kept = [entry for entry in listeners if entry[0] is not bus]
            if kept:
                self._listeners[channel] = kept
            else:
                del self._listeners[channel]

    def _deliver(self, channel: str, message: bytes) -> None:
        for _, receive in tuple(self._listeners.get(channel, ())):
            receive(message)


class LocalBus:
    """One server's end of a `LocalHub`. Messages arrive before `publish` returns; nothing waits, nothing is
    lost.
    """

    def __init__(self, hub: LocalHub | None = None) -> None:
        self._hub = hub or LocalHub()

    async def publish(self, channel: str, message: bytes) -> None:
        self._hub._deliver(channel, message)

    def listen(self, channel: str, receive: Receive) -> None:
        self._hub._add(channel, self, receive)

    def close(self) -> None:
        """Hear nothing any more."""
        self._hub._remove(self)
