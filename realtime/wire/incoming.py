"""Reads what a client sends: Socket.IO packets, put together from text and attachments, and checked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from socketio import packet

from .packets import JsonPacket

# Names of events that only a library itself makes; the reference server refuses packets that carry one.
RESERVED_EVENTS = frozenset(
    {"connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"}
)
_EVENTS = (packet.EVENT, packet.BINARY_EVENT)
_ACKS = (packet.ACK, packet.BINARY_ACK)


class MalformedPacketError(Exception):
    """What came is not Socket.IO protocol 5."""


class Reader:
    """The packets of one connection. `max_bytes` bounds the attachments that are kept for one packet."""

    __slots__ = ("_bytes", "_max_attachments", "_max_bytes", "_partial")

    def __init__(self, *, max_bytes: int, max_attachments: int = 64) -> None:
        self._max_bytes = max_bytes
        self._max_attachments = max_attachments
        self._partial: packet.Packet | None = None
        self._bytes = 0

    def feed(self, data: object) -> tuple[packet.Packet, int] | None:
        """A packet and its size once it is complete, else None. Raises `MalformedPacketError` only."""
        try:
            return self._attach(data) if self._partial is not None else self._begin(data)
        except MalformedPacketError:
            raise
        except Exception as error:  # whatever a decoder makes of hostile input, RecursionError among it
            raise MalformedPacketError(f"cannot be decoded: {error!r}") from error

    def _begin(self, data: object) -> tuple[packet.Packet, int] | None:
        if not isinstance(data, str) or not data:
            raise MalformedPacketError("not a text")
        came = JsonPacket(encoded_packet=data)  # type: ignore[arg-type]  # stubs: bytes
        _check(came)
        self._bytes = len(data)
        if came.packet_type in (packet.BINARY_EVENT, packet.BINARY_ACK) and came.attachment_count:
            if came.attachment_count > self._max_attachments:
                raise MalformedPacketError("too many attachments")
            # Each attachment once: a client could otherwise have the server write one out a thousand times.
            if sorted(_placeholders(came.data)) != list(range(came.attachment_count)):
                raise MalformedPacketError("attachments and placeholders do not match")
            self._partial = came
            return None
        return came, self._bytes

    def _attach(self, data: object) -> tuple[packet.Packet, int] | None:
        if not isinstance(data, bytes) or self._partial is None:
            raise MalformedPacketError("an attachment is missing")
        self._bytes += len(data)
        if self._bytes > self._max_bytes:
            raise MalformedPacketError("attachments too large")
        if not self._partial.add_attachment(data):
            return None
        came, self._partial = self._partial, None
        return came, self._bytes


def _check(came: packet.Packet) -> None:
    kind, data = came.packet_type, came.data
    if kind == packet.CONNECT:
        fits = data is None or isinstance(data, dict)
    elif kind == packet.DISCONNECT:
        fits = data is None
    elif kind in _EVENTS:
        fits = isinstance(data, list) and bool(data) and _is_event_name(data[0])
    elif kind in _ACKS:
        fits = isinstance(data, list) and came.id is not None
    else:
        fits = False  # CONNECT_ERROR is the server's to send
    if not fits:
        raise MalformedPacketError(f"a packet of type {kind} does not look like this")


def _placeholders(data: object) -> Iterator[Any]:
    """The numbers that `Packet.reconstruct_binary` will look up."""
    waiting = [data]
    while waiting:
        each = waiting.pop()
        if isinstance(each, list):
            waiting += each
        elif isinstance(each, dict):
            if each.get("_placeholder") and "num" in each:
                yield each["num"]
            else:
                waiting += each.values()


def _is_event_name(name: object) -> bool:
    if isinstance(name, str):
        return name not in RESERVED_EVENTS
    return isinstance(name, int) and not isinstance(name, bool)
