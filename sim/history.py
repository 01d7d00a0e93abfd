"""What clients did and saw, with virtual times: the evidence that invariants are judged by."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Entry:
    """``what``: connect, connected, refused, disconnected, emit, ack, event, fault or note."""

    at: float
    who: str
    what: str
    name: str = ""
    data: Any = None

    def __str__(self) -> str:
        data = "" if self.data is None else f" {self.data!r}"
        return f"{self.at:9.4f}  {self.who:<8} {self.what} {self.name}{data}"


@dataclass
class History:
    """Entries in the world's order. ``note`` is given each one as it comes (the trace's fingerprint)."""

    note: Callable[[Entry], None] = lambda _entry: None
    entries: list[Entry] = field(default_factory=list)

    def add(self, at: float, who: str, what: str, name: str = "", data: Any = None) -> None:
        entry = Entry(at, who, what, name, data)
        self.entries.append(entry)
        self.note(entry)

    def of(self, who: str, what: str, name: str = "") -> Iterator[Entry]:
        """The entries of one client, of one kind, maybe of one event."""
        for entry in self.entries:
            if entry.who == who and entry.what == what and (not name or entry.name == name):
                yield entry

    def last(self, who: str, name: str) -> Any:
        """The data of the last event of that name which the client saw."""
        found = None
        for entry in self.of(who, "event", name):
            found = entry.data
        return found
