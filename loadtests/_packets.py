"""Engine.IO 4 payloads and Socket.IO 5 packets as text and bytes, without any input or output."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from loadtests._errors import ProtocolBroken

Packet = str | bytes
"""An Engine.IO packet: text with its type as first character, or the bytes of a binary message."""

SEPARATOR = "\x1e"


def join_payload(packets: Sequence[Packet]) -> str:
    """The body of a polling request: packets separated by 0x1e, binary ones in base64 after a `b`."""
    return SEPARATOR.join(
        packet if isinstance(packet, str) else "b" + base64.b64encode(packet).decode() for packet in packets
    )


def split_payload(body: str) -> list[Packet]:
    """The packets of a polling response. Raises `ProtocolBroken`."""
    try:
        return [
            base64.b64decode(part[1:], validate=True) if part[:1] == "b" else part
            for part in body.split(SEPARATOR)
            if part
        ]
    except binascii.Error as error:
        raise ProtocolBroken(f"the server sent a binary packet that is not base64: {error}") from error


def encode(kind: str, data: Any, ack_id: int | None = None) -> list[Packet]:
    """A Socket.IO packet of the namespace `/` as Engine.IO messages: the text, then its binary attachments.

    `kind` is "2" (event) or "3" (ack); with bytes anywhere in `data` it becomes their binary kinds "5" and "6".
    """
    attachments: list[Packet] = []

    def placeholder(value: object) -> dict[str, Any]:
        if not isinstance(value, bytes | bytearray | memoryview):
            raise TypeError(f"not JSON: {type(value).__name__}")
        attachments.append(bytes(value))
        return {"_placeholder": True, "num": len(attachments) - 1}

    text = orjson.dumps(data, default=placeholder).decode()
    number = "" if ack_id is None else ack_id
    if not attachments:
        return [f"4{kind}{number}{text}"]
    return [f"4{'5' if kind == '2' else '6'}{len(attachments)}-{number}{text}", *attachments]


def split_ack_id(packet: str, start: int) -> tuple[int | None, int]:
    """The ack id at `start` of a packet (None if there is none), and where the JSON begins."""
    end = packet.find("[", start)
    if end < 0:
        raise ProtocolBroken(f"the server sent a packet without a list: {packet[:80]!r}")
    if end == start:
        return None, end
    digits = packet[start:end]
    if not (digits.isascii() and digits.isdigit()):
        raise ProtocolBroken(f"the server sent an ack id that is no number: {packet[:80]!r}")
    return int(digits), end


class Assembler:
    """Puts binary attachments back into the packet that announced them."""

    def __init__(self, done: Callable[[str, int | None, list[Any]], None]) -> None:
        self._done = done
        self._packet = ""
        self._wanted = 0
        self._parts: list[bytes] = []

    def begin(self, packet: str) -> None:
        """`packet` is `45N-…` or `46N-…`."""
        head, dash, _ = packet.partition("-")
        if not dash or not head[2:].isdigit() or self._wanted:
            raise ProtocolBroken(f"the server sent a binary packet out of turn: {packet[:80]!r}")
        self._packet, self._wanted, self._parts = packet, int(head[2:]), []
        if not self._wanted:
            self._finish()

    def attach(self, data: bytes) -> None:
        if not self._wanted:
            raise ProtocolBroken("the server sent bytes that no packet announced")
        self._parts.append(data)
        if len(self._parts) == self._wanted:
            self._finish()

    def _finish(self) -> None:
        packet, self._wanted = self._packet, 0
        ack_id, start = split_ack_id(packet, packet.index("-") + 1)
        arguments = loads(packet[start:])
        kind = "2" if packet[1] == "5" else "3"
        self._done(kind, ack_id, [self._restore(value) for value in arguments])

    def _restore(self, value: Any) -> Any:
        if isinstance(value, dict):
            if value.get("_placeholder") is True:
                number = value.get("num")
                if not isinstance(number, int) or not 0 <= number < len(self._parts):
                    raise ProtocolBroken("the server sent a placeholder without its bytes")
                return self._parts[number]
            return {key: self._restore(each) for key, each in value.items()}
        if isinstance(value, list):
            return [self._restore(each) for each in value]
        return value


def loads(text: str) -> Any:
    """JSON of the server. Raises `ProtocolBroken`."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ProtocolBroken(f"the server sent what is not JSON: {text[:80]!r}") from error
