"""The message stores: memory, SQLite and PostgreSQL keep the same, and lose nothing to concurrent writers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from realtime.directory.database import Database
from realtime.errors import DirectoryUnavailable, InvalidPayload
from realtime.messages import Message, MessageStore
from realtime.messages.memory import MemoryMessageStore, NoMessages
from realtime.messages.sql import SqlMessageStore
from tests.support.postgres import SQL_DATABASES
from tests.support.sqlite_threads import until_sqlite_threads_ended


@pytest.fixture(params=["memory", *SQL_DATABASES])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str | None:
    if request.param == "postgresql":
        url: str = request.getfixturevalue("postgres_url")
        return url
    return None if request.param == "memory" else f"sqlite:///{tmp_path}/messages.db"


@pytest.fixture
async def store(database_url: str | None) -> AsyncIterator[MessageStore]:
    if database_url is None:
        yield MemoryMessageStore()
        return
    database = Database(database_url, timeout=20)
    await database.start()
    yield SqlMessageStore(database)
    await database.close()


async def test_a_message_nobody_wrote_is_none(store: MessageStore) -> None:
    assert await store.read("chat", "m1") is None


async def test_appended_pieces_are_one_text(store: MessageStore) -> None:
    for piece in ("Hel", "", "lo\n", "wörld ☃"):
        await store.append("chat", "m1", piece)
    assert await store.read("chat", "m1") == Message("chat", "m1", "Hello\nwörld ☃", ())


async def test_replacing_makes_the_text_the_whole_message_and_keeps_statuses(store: MessageStore) -> None:
    await store.append("chat", "m1", "draft")
    await store.add_status("chat", "m1", {"done": False})
    await store.replace("chat", "m1", "final")
    await store.append("chat", "m1", "!")
    await store.replace("chat", "m2", "new")
    assert await store.read("chat", "m1") == Message("chat", "m1", "final!", ({"done": False},))
    assert await store.read("chat", "m2") == Message("chat", "m2", "new", ())


async def test_statuses_are_kept_in_order_also_before_there_is_a_text(store: MessageStore) -> None:
    statuses: list[dict[str, object]] = [
        {"n": number, "deep": {"x": [1, None, "\0ü"]}} for number in range(5)
    ]
    for status in statuses:
        await store.add_status("chat", "m1", status)
    assert await store.read("chat", "m1") == Message("chat", "m1", "", tuple(statuses))


async def test_messages_of_other_chats_are_others(store: MessageStore) -> None:
    await store.append("a", "bc", "one")
    await store.append("ab", "c", "two")
    assert await store.read("a", "bc") == Message("a", "bc", "one", ())
    assert await store.read("ab", "c") == Message("ab", "c", "two", ())
    assert await store.read("a", "c") is None


async def test_concurrent_writers_lose_nothing(store: MessageStore) -> None:
    await asyncio.gather(
        *(store.append("chat", "m1", f"<{number}>") for number in range(40)),
        *(store.add_status("chat", "m1", {"n": number}) for number in range(40)),
    )
    message = await store.read("chat", "m1")
    assert message is not None
    assert sorted(message.text) == sorted("".join(f"<{number}>" for number in range(40)))
    assert all(f"<{number}>" in message.text for number in range(40))
    assert sorted(status["n"] for status in message.statuses) == list(range(40))  # type: ignore[type-var]


async def test_a_stored_status_is_not_the_callers_object(store: MessageStore) -> None:
    status: dict[str, object] = {"done": False}
    await store.add_status("chat", "m1", status)
    status["done"] = True
    message = await store.read("chat", "m1")
    assert message is not None
    assert message.statuses == ({"done": False},)


@pytest.mark.parametrize("text", ["nul \0", "lone \ud800", 5, None])
async def test_what_no_store_can_keep_is_refused_by_all_alike(store: MessageStore, text: str) -> None:
    for write in (store.append, store.replace):
        with pytest.raises(InvalidPayload):
            await write("chat", "m1", text)
    assert await store.read("chat", "m1") is None


@pytest.mark.parametrize("status", [None, [], "text", {"x": object()}, {"x": float("nan")}, {"x": b""}])
async def test_a_status_that_is_no_json_object_is_refused(
    store: MessageStore, status: dict[str, object]
) -> None:
    with pytest.raises(InvalidPayload):
        await store.add_status("chat", "m1", status)
    assert await store.read("chat", "m1") is None


@pytest.mark.parametrize(
    ("chat_id", "message_id"), [("", "m"), ("c", ""), ("c\n", "m"), ("c", "m" * 257), (1, "m")]
)
async def test_unusable_ids_are_refused(store: MessageStore, chat_id: str, message_id: str) -> None:
    with pytest.raises(InvalidPayload):
        await store.append(chat_id, message_id, "x")
    with pytest.raises(InvalidPayload):
        await store.replace(chat_id, message_id, "x")
    with pytest.raises(InvalidPayload):
        await store.add_status(chat_id, message_id, {})
    with pytest.raises(InvalidPayload):
        await store.read(chat_id, message_id)


async def test_a_store_whose_database_is_gone_raises_a_typed_error(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/missing/x.db")
    with pytest.raises(DirectoryUnavailable):
        await SqlMessageStore(database).append("chat", "m1", "x")
    await database.close()
    await until_sqlite_threads_ended()


async def test_an_application_that_gave_no_store_keeps_nothing_and_is_still_told_what_could_not_be_kept() -> (
    None
):
    store = NoMessages()
    await store.append("chat", "message", "text")
    await store.replace("chat", "message", "text")
    await store.add_status("chat", "message", {"done": True})
    assert await store.read("chat", "message") is None
    with pytest.raises(InvalidPayload):
        await store.append("chat", "message", "\0")
    with pytest.raises(InvalidPayload):
        await store.add_status("chat", "", {})
