"""What happened in a run, in order, and a fingerprint of it: equal iff the runs were the same."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from sim.schedule import Message


@dataclass(slots=True)
class Trace:
    """Hashes every message's name, times and bytes, and every client event; keeps them too where ``keep`` is set."""

    keep: bool = False
    messages: int = 0
    lines: list[str] = field(default_factory=list)
    _digest: hashlib.blake2b = field(default_factory=lambda: hashlib.blake2b(digest_size=16))

    def sent(self, message: Message, arrives_at: float) -> None:
        self.messages += 1
        self._add(f"sent {message.name} {message.kind} {message.sent_at!r} {arrives_at!r}", message.data)

    def arrived(self, message: Message, now: float) -> None:
        self._add(f"arrived {message.name} {now!r}", b"")

    def note(self, now: float, what: str) -> None:
        """Something a client saw, a fault, or whatever else belongs to the run."""
        self._add(f"note {now!r} {what}", b"")

    @property
    def fingerprint(self) -> str:
        return self._digest.copy().hexdigest()

    def _add(self, line: str, data: bytes) -> None:
        self._digest.update(line.encode() + b"\0" + data + b"\n")
        if self.keep:
            self.lines.append(f"{line} {data!r}" if data else line)
