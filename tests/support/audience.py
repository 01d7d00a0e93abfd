"""Rooms and clients without a network: what an audience sends is folded as real clients would."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection
from typing import Any


class FakeClient:
    """Holds the list that a client would show, and all that it got."""

    def __init__(self, sid: str, *, diffs: bool) -> None:
        self.sid = sid
        self.diffs = diffs
        self.users: set[str] = set()
        self.got: list[tuple[str, dict[str, Any]]] = []

    def receive(self, event: str, data: dict[str, Any]) -> None:
        self.got.append((event, data))
        if event == "user-list":
            self.users = set(data["user_ids"])
        elif event == "presence-diff":
            assert self.diffs, "a client that knows only whole lists got a difference"
            self.users = (self.users | set(data["joins"])) - set(data["leaves"])


class FakeRooms:
    """The ``LocalRooms`` of an audience. ``on_emit(sid, event, data)`` sees what each client gets."""

    def __init__(self) -> None:
        self.clients: dict[str, FakeClient] = {}
        self.members: defaultdict[str, set[str]] = defaultdict(set)
        self.failures = 0
        self.on_emit: Callable[[str, str, Any], None] = lambda _sid, _event, _data: None

    def connect(self, sid: str, *, diffs: bool) -> FakeClient:
        self.clients[sid] = FakeClient(sid, diffs=diffs)
        return self.clients[sid]

    def disconnect(self, sid: str) -> None:
        del self.clients[sid]
        for members in self.members.values():
            members.discard(sid)

    def emit_local(self, event: str, data: Any, room: str, *, skip: Collection[str] = ()) -> int:
        if self.failures:
            self.failures -= 1
            raise RuntimeError("nobody foresaw this")
        recipients = [
            sid for sid in sorted(self.members[room] | {room}) if sid in self.clients and sid not in skip
        ]
        for sid in recipients:
            self.clients[sid].receive(event, data)
            self.on_emit(sid, event, data)
        return len(recipients)

    def enter_local(self, sid: str, room: str) -> None:
        if sid in self.clients:
            self.members[room].add(sid)
