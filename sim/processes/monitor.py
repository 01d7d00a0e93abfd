"""The order in which commands reached a real Redis, from its own mouth (MONITOR)."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable

from sim.commands import Command, of_words
from sim.processes.resp import command

_LINE = re.compile(rb"\+[\d.]+ \[\d+ ([^\]]+)\] (.*)")
_WORD = re.compile(rb'"((?:[^"\\]|\\.)*)"')
_ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{2}|.)", re.DOTALL)
_LETTERS = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"a": b"\a", b"b": b"\b"}
_LIMIT = 4 << 20

Seen = tuple[str, Command]
"""Who sent it, and what."""


class Monitor:
    """``who``: the host behind a client's address; commands of others, and those that scripts make, are left out."""

    def __init__(self, who: Callable[[str], str | None]) -> None:
        self.seen: list[Seen] = []
        self._who = who

    async def listen(self, host: str, port: int, began: asyncio.Event) -> None:
        """Until it is cancelled, or the connection ends."""
        reader, writer = await asyncio.open_connection(host, port, limit=_LIMIT)
        try:
            writer.write(command("MONITOR"))
            await reader.readline()  # +OK
            began.set()
            with contextlib.suppress(ConnectionError):
                while line := await reader.readline():
                    self._note(line)
        finally:
            writer.close()

    def _note(self, line: bytes) -> None:
        found = _LINE.match(line)
        who = None if found is None else self._who(found[1].decode())
        if found is not None and who is not None:
            # The keys of all commands here are among the first words.
            words = [_unquoted(word).decode(errors="replace") for word in _WORD.findall(found[2], 0)[:4]]
            self.seen.append((who, of_words(words)))


def _unquoted(word: bytes) -> bytes:
    """As MONITOR quotes: like a string of C."""
    return _ESCAPE.sub(lambda escape: bytes([_byte(escape[1])]), word)


def _byte(escape: bytes) -> int:
    return int(escape[1:], 16) if escape[:1] == b"x" else _LETTERS.get(escape, escape)[0]
