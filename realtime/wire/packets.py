"""Packets as they go out: one Socket.IO packet encoded once into the Engine.IO packets every recipient
shares.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from engineio import packet as engine_packet  # type: ignore[import-untyped]  # no stubs exist
from engineio import payload as engine_payload
from socketio import packet

from . import json_text

Wire = Sequence["SharedPacket"]
"""One Socket.IO packet: a text packet and its binary attachments, to be queued without anything between them.
"""


_FINAL, _TEXT, _BINARY = 0x80, 0x1, 0x2

PACKET_COST = 128
"""What keeping a packet takes beside its bytes, about: a thousand tiny ones are not free."""


class SharedPacket(engine_packet.Packet):  # type: ignore[misc]  # no stubs exist
    """A packet that several sockets send, some by websocket and some by polling.

    Replaces engineio.packet.Packet.encode: stock caches whichever form came first, so that a binary packet
    shared by both transports reaches a websocket as base64 text or a poll as raw bytes.
    """

    def __init__(self, packet_type: int, data: object = None) -> None:
        super().__init__(packet_type, data=data)
        self.cost = PACKET_COST + _size(data)
        self._forms: dict[bool, str | bytes] = {}
        self._frame = b""

    @property
    def frame(self) -> bytes:
        """The whole websocket frame, for every recipient the same (RFC 6455, section 5.2; a server does not mask)."""
        if not self._frame:
            form = self.encode()
            self._frame = _frame(_TEXT, form.encode()) if isinstance(form, str) else _frame(_BINARY, form)
        return self._frame

    def encode(self, b64: bool = False) -> str | bytes:
        """The bytes or text of a websocket frame, or with `b64` the text of a polling payload."""
        form = self._forms.get(b64)
        if form is None:
            self.encode_cache = None
            form = self._forms[b64] = super().encode(b64=b64)
        return form


def _frame(kind: int, data: bytes) -> bytes:
    size = len(data)
    if size < 126:
        return struct.pack("!BB", _FINAL | kind, size) + data
    if size < 1 << 16:
        return struct.pack("!BBH", _FINAL | kind, 126, size) + data
    return struct.pack("!BBQ", _FINAL | kind, 127, size) + data


def cost(each: engine_packet.Packet) -> int:
    """The bytes that a packet counts for while it waits: its frame's, and `PACKET_COST`. (Base64 is not counted.)"""
    return each.cost if isinstance(each, SharedPacket) else PACKET_COST + _size(each.data)


def _size(data: object) -> int:
    if isinstance(data, str):
        return len(data) if data.isascii() else len(data.encode())
    return len(data) if isinstance(data, bytes) else 0


class WirePayload(engine_payload.Payload):  # type: ignore[misc]  # no stubs exist
    """A polling payload; the size limit of a request bounds it, so a burst of small packets is no error."""

    max_decode_packets = 10_000


class JsonPacket(packet.Packet):
    """A Socket.IO packet with the fast JSON: its own class, because an option of python-socketio's is the process'."""

    json = json_text  # type: ignore[assignment]  # stubs: a protocol that asks for more


def encode(kind: int, data: object = None, namespace: str = "/", number: int | None = None) -> Wire:
    """A Socket.IO packet as Engine.IO packets. Raises TypeError or ValueError for what JSON cannot carry."""
    try:
        encoded = _encoded(kind, data, namespace, number, binary=False)
    except TypeError:
        # Almost nothing carries bytes: JSON says so when something does, and nothing need be searched before.
        encoded = _encoded(kind, data, namespace, number, binary=None)
    parts = encoded if isinstance(encoded, list) else [encoded]
    return [SharedPacket(engine_packet.MESSAGE, part) for part in parts]


def _encoded(kind: int, data: object, namespace: str, number: int | None, *, binary: bool | None) -> Any:
    return JsonPacket(kind, data, namespace, number, binary).encode()  # type: ignore[arg-type]  # stubs


def arguments(data: object) -> list[Any]:
    """An event's arguments as stock means them: a tuple is several, None is none, all else is one."""
    if isinstance(data, tuple):
        return list(data)
    return [] if data is None else [data]
