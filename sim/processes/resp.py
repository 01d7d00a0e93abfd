"""Where one value of the Redis protocol (RESP 2 and 3) ends and the next begins."""

from __future__ import annotations

import re

_LINES = b"+-:,#_("
_BULKS = b"$!="
_MANY = {b"*": 1, b"~": 1, b">": 1, b"%": 2, b"|": 2}
_PUBLISHED = re.compile(rb"[*>]\d+\r\n\$\d+\r\n[ps]?message\r\n")


class Values:
    """Splits one direction of a connection into whole values, whatever pieces it comes in."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The values that are whole by now."""
        data = self._rest + data
        found, at = [], 0
        while (end := _end(data, at)) is not None:
            found.append(data[at:end])
            at = end
        self._rest = data[at:]
        return found


def is_published(value: bytes) -> bool:
    """Whether it is what a subscriber gets of a PUBLISH."""
    return _PUBLISHED.match(value) is not None


def published(value: bytes) -> bytes | None:
    """What was said, of such a value; None of any other."""
    if not is_published(value):
        return None
    found = b""
    at = value.index(b"\r\n") + 2
    while at < len(value):  # kind, maybe a pattern, channel, and what was said
        line = value.index(b"\r\n", at)
        size = int(value[at + 1 : line])
        found = value[line + 2 : line + 2 + size]
        at = line + 2 + size + 2
    return found


def command(*words: str | int) -> bytes:
    """A command as clients send it."""
    encoded = [str(word).encode() for word in words]
    return b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in encoded)


def _end(data: bytes, at: int) -> int | None:
    """Just after the value that begins there; None while it is not whole."""
    left = 1
    while left:
        line = data.find(b"\r\n", at)
        if line < 0:
            return None
        kind = data[at : at + 1]
        left -= 1
        if kind in _MANY:
            left += max(0, int(data[at + 1 : line])) * _MANY[kind] + (kind == b"|")
        elif kind in _BULKS and kind and (size := int(data[at + 1 : line])) >= 0:
            line += size + 2
            if line + 2 > len(data):
                return None
        at = line + 2
    return at
