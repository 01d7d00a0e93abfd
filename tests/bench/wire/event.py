"""The event that every server sends: a packet of 100 bytes, and the frame it travels in."""

from __future__ import annotations

import json

NAME = "message"
ROOM = "channel:general"
"""The room of the channel that a demo's users are members of."""
FIRST = 10_000_000
"""Events are numbered from here, so that all of them are of one length."""
PACKET_BYTES = 100
_WORDS = "the quick brown fox jumps over the lazy dog, and then it does so once more for a good measure of it"


def packet(number: int, text: str) -> bytes:
    return b"42" + json.dumps([NAME, {"n": number, "text": text}], separators=(",", ":")).encode()


TEXT = _WORDS[: PACKET_BYTES - len(packet(FIRST, ""))]


def frame(payload: bytes) -> bytes:
    """An unmasked text frame of up to 125 bytes: what a server sends for this packet if it does not compress."""
    return bytes((0x81, len(payload))) + payload
