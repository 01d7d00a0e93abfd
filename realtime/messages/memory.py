"""A message store in memory, which keeps all it is given: for tests, simulation, demos without a database."""

from __future__ import annotations

from collections.abc import Mapping

from realtime.messages import Message
from realtime.messages.checking import check_key, checked_text, status_from_json, status_to_json


class NoMessages:
    """A `MessageStore` that checks what it is given and keeps nothing: for an application that gave no store."""

    async def append(self, chat_id: str, message_id: str, text: str) -> None:
        check_key(chat_id, message_id)
        checked_text(text)

    async def replace(self, chat_id: str, message_id: str, text: str) -> None:
        check_key(chat_id, message_id)
        checked_text(text)

    async def add_status(self, chat_id: str, message_id: str, status: Mapping[str, object]) -> None:
        check_key(chat_id, message_id)
        status_to_json(status)

    async def read(self, chat_id: str, message_id: str) -> Message | None:
        check_key(chat_id, message_id)
        return None


class MemoryMessageStore:
    """A `MessageStore` in a dictionary."""

    def __init__(self) -> None:
        # In pieces: a streamed answer is thousands of appends, and joining at each would be quadratic.
        self._texts: dict[tuple[str, str], list[str]] = {}
        self._statuses: dict[tuple[str, str], list[str]] = {}

    async def append(self, chat_id: str, message_id: str, text: str) -> None:
        key, piece = check_key(chat_id, message_id), checked_text(text)
        self._texts.setdefault(key, []).append(piece)

    async def replace(self, chat_id: str, message_id: str, text: str) -> None:
        self._texts[check_key(chat_id, message_id)] = [checked_text(text)]

    async def add_status(self, chat_id: str, message_id: str, status: Mapping[str, object]) -> None:
        key, added = check_key(chat_id, message_id), status_to_json(status)
        self._statuses.setdefault(key, []).append(added)

    async def read(self, chat_id: str, message_id: str) -> Message | None:
        key = check_key(chat_id, message_id)
        if key not in self._texts and key not in self._statuses:
            return None
        statuses = tuple(map(status_from_json, self._statuses.get(key, ())))
        return Message(chat_id, message_id, "".join(self._texts.get(key, ())), statuses)
