"""Websocket frames of a client (RFC 6455), without any input or output."""

from __future__ import annotations

import random

from loadtests._errors import ProtocolBroken

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
MAX_MESSAGE_BYTES = 100_000_000


def encode_frame(opcode: int, payload: bytes) -> bytes:
    """One final frame, masked with a fresh key as clients must."""
    size = len(payload)
    if size < 126:
        head = bytes((0x80 | opcode, 0x80 | size))
    elif size < 65536:
        head = bytes((0x80 | opcode, 0xFE)) + size.to_bytes(2, "big")
    else:
        head = bytes((0x80 | opcode, 0xFF)) + size.to_bytes(8, "big")
    key = random.getrandbits(32).to_bytes(4, "big")
    # As one big number: a loop over bytes would be the most expensive thing that a user does.
    mask = (key * (size // 4 + 1))[:size]
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(mask, "big")
    return head + key + masked.to_bytes(size, "big")


class FrameReader:
    """Takes bytes as they come, gives whole messages: `(TEXT or BINARY or a control opcode, payload)`."""

    def __init__(self) -> None:
        self._buffer = b""
        self._opcode = 0
        self._fragments: list[bytes] = []

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Raises `ProtocolBroken` for what a server must not send."""
        buffer = self._buffer + data if self._buffer else data
        messages: list[tuple[int, bytes]] = []
        at, end = 0, len(buffer)
        while end - at >= 2:
            first, size = buffer[at], buffer[at + 1]
            start = at + 2
            if first & 0x70 or size & 0x80:
                raise ProtocolBroken("the server sent a masked or an extended websocket frame")
            if size == 126:
                if end < start + 2:
                    break
                size = int.from_bytes(buffer[start : start + 2], "big")
                start += 2
            elif size == 127:
                if end < start + 8:
                    break
                size = int.from_bytes(buffer[start : start + 8], "big")
                start += 8
            if size > MAX_MESSAGE_BYTES:
                raise ProtocolBroken(f"the server announced a websocket frame of {size} bytes")
            if end < start + size:
                break
            at = start + size
            self._frame(first, buffer[start:at], messages)
        self._buffer = buffer[at:] if at < end else b""
        return messages

    def _frame(self, first: int, payload: bytes, messages: list[tuple[int, bytes]]) -> None:
        opcode, final = first & 0x0F, first & 0x80
        if opcode >= CLOSE:
            if not final or opcode > PONG or len(payload) > 125:
                raise ProtocolBroken("the server sent a broken websocket control frame")
            messages.append((opcode, payload))
        elif opcode == CONTINUATION:
            if not self._opcode:
                raise ProtocolBroken("the server continued a websocket message that it had not begun")
            self._fragments.append(payload)
            if final:
                messages.append((self._opcode, b"".join(self._fragments)))
                self._opcode, self._fragments = 0, []
        elif self._opcode or opcode > BINARY:
            raise ProtocolBroken(f"the server sent a websocket frame of type {opcode} out of turn")
        elif final:
            messages.append((opcode, payload))
        else:
            self._opcode, self._fragments = opcode, [payload]
