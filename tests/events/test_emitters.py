"""`get_event_emitter`: to every session of the user once, and into the message store in order."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import Any

import pytest

from realtime.errors import DirectoryUnavailable, InvalidPayload, MessageTooLarge
from realtime.messages.memory import MemoryMessageStore
from realtime.server import RealtimeServer
from tests.events.conftest import MakeFleet
from tests.events.lab import TRANSPORTS, Gate, ask, breaks, client, heard, make_settings, people

pytestmark = pytest.mark.usefixtures("no_tracebacks")

INFO = {"user_id": "bob", "chat_id": "c", "message_id": "m"}


def published(server: RealtimeServer) -> list[dict[str, Any]]:
    """What the server puts on the bus from now on."""
    bus: Any = server.manager.bus
    sent: list[dict[str, Any]] = []

    def noting(publish: Any) -> Any:
        async def note(channel: str, message: bytes) -> None:
            sent.append(json.loads(message))
            await publish(channel, message)

        return note

    bus.publish, bus.publish_to_room = noting(bus.publish), noting(bus.publish_to_room)
    return sent


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_every_session_of_the_user_on_all_instances_hears_an_event_once_in_one_publish(
    make_pair: MakeFleet, transport: str
) -> None:
    async with (
        make_pair() as fleet,
        client(fleet.one.url, "bob", transports=(transport,)) as here,
        client(fleet.one.url, "bob") as here_too,
        client(fleet.two.url, "bob", transports=(transport,)) as there,
        client(fleet.two.url, "ann") as ann,
    ):
        sent = published(fleet.one.server)
        emit = fleet.one.server.get_event_emitter({**INFO, "session_id": there.sid})
        await emit({"type": "status", "data": {"description": "é", "done": False}})
        expected = {
            "chat_id": "c",
            "message_id": "m",
            "data": {"type": "status", "data": {"description": "é", "done": False}},
        }
        for it in (here, here_too, there):
            await it.wait_for("chat-events")
            await heard(it)
            assert it.of("chat-events") == [expected]
        assert len(sent) == 1
        assert "chat-events" not in dict(await heard(ann))


async def test_a_session_of_another_user_is_never_reached(make_fleet: MakeFleet) -> None:
    async with (
        make_fleet() as fleet,
        client(fleet.one.url, "ann") as ann,
        client(fleet.two.url, "bob") as bob,
    ):
        await fleet.one.server.get_event_emitter({"user_id": "bob", "session_id": ann.sid})({"type": "x"})
        assert await bob.wait_for("chat-events") == {
            "chat_id": None,
            "message_id": None,
            "data": {"type": "x"},
        }
        assert "chat-events" not in dict(await heard(ann))


async def test_messages_replacements_and_statuses_are_kept(make_fleet: MakeFleet) -> None:
    store = MemoryMessageStore()
    async with make_fleet(messages=store) as fleet:
        emit = fleet.one.server.get_event_emitter(INFO)
        await emit({"type": "message", "data": {"content": "lost"}})
        await emit({"type": "replace", "data": {"content": "Hel"}})
        await emit({"type": "message", "data": {"content": "lo"}})
        await emit({"type": "message", "data": {}})
        await emit({"type": "status", "data": {"done": True}})
        await emit({"type": "citation", "data": ["not kept"]})
        await fleet.one.server.get_event_emitter(INFO, update_db=False)(
            {"type": "message", "data": {"content": "!"}}
        )
        await fleet.one.server.get_event_emitter({**INFO, "message_id": None})(
            {"type": "message", "data": {"content": "!"}}
        )
        kept = await store.read("c", "m")
        assert kept is not None
        assert (kept.text, kept.statuses) == ("Hello", ({"done": True},))
        assert await store.read("c", "None") is None


async def test_events_of_one_message_are_sent_and_kept_in_the_order_of_the_calls(
    make_fleet: MakeFleet,
) -> None:
    class Slow(MemoryMessageStore):
        """The earlier, the slower."""

        turns = itertools.count(20, -1)

        async def append(self, chat_id: str, message_id: str, text: str) -> None:
            for _ in range(next(self.turns)):
                await asyncio.sleep(0)
            await super().append(chat_id, message_id, text)

    store = Slow()
    async with make_fleet(messages=store) as fleet, client(fleet.two.url, "bob") as bob:
        server = fleet.one.server
        emit, same = server.get_event_emitter(INFO), server.get_event_emitter(dict(INFO))
        pieces = [f"{number} " for number in range(20)]
        await asyncio.gather(
            *(
                (emit if n % 2 else same)({"type": "message", "data": {"content": piece}})
                for n, piece in enumerate(pieces)
            )
        )
        kept = await store.read("c", "m")
        assert kept is not None
        assert kept.text == "".join(pieces)
        await bob.wait_for("chat-events", lambda data: data["data"]["data"]["content"] == pieces[-1])
        assert [data["data"]["data"]["content"] for data in bob.of("chat-events")] == pieces
        assert len(server.emitters._in_order) == 0


async def test_events_of_other_messages_and_of_none_do_not_wait_for_each_other(make_fleet: MakeFleet) -> None:
    store = MemoryMessageStore()
    async with make_fleet(messages=store) as fleet, client(fleet.one.url, "bob") as bob:
        server = fleet.one.server
        gate = Gate(store, "append", when=lambda chat_id, *_: chat_id == "c")
        message = {"type": "message", "data": {"content": "x"}}
        held = asyncio.create_task(server.get_event_emitter(INFO)(message))
        await gate.wait()
        async with asyncio.timeout(5):
            await server.get_event_emitter({**INFO, "chat_id": "other"})(message)
            await server.get_event_emitter({"user_id": "bob"})(message)
            await server.get_event_emitter({"user_id": "bob", "chat_id": "c"})(message)
        await bob.wait_for("chat-events", lambda data: data["chat_id"] == "other")
        gate.open()
        await held


async def test_an_emit_that_is_cancelled_while_it_waits_lets_the_next_one_go(make_fleet: MakeFleet) -> None:
    store = MemoryMessageStore()
    async with make_fleet(messages=store) as fleet:
        emit = fleet.one.server.get_event_emitter(INFO)
        gate = Gate(store, "append")
        first, second, third = (
            asyncio.create_task(emit({"type": "message", "data": {"content": piece}})) for piece in "abc"
        )
        await gate.wait()
        second.cancel()
        await asyncio.wait([second])
        gate.open()
        await asyncio.gather(first, third)
        kept = await store.read("c", "m")
        assert kept is not None
        assert kept.text == "ac"
        assert len(fleet.one.server.emitters._in_order) == 0


UNFIT: list[Any] = [
    {"type": "x", "data": object()},
    {"type": "x", "data": {1, 2}},
    {"type": "x", "data": float("nan")},
    {"type": "message", "data": "text"},
    {"type": "message", "data": {"content": 5}},
    {"type": "message", "data": {"content": "a\0b"}},
    {"type": "replace", "data": {"content": "\ud800"}},
    {"type": "status", "data": None},
    {"type": "status", "data": {"bytes": b"no JSON"}},
    "text",
    None,
]


async def test_an_event_that_cannot_be_sent_or_kept_is_a_typed_error_and_nobody_hears_it(
    make_fleet: MakeFleet,
) -> None:
    store = MemoryMessageStore()
    async with make_fleet(messages=store) as fleet, client(fleet.one.url, "bob") as bob:
        for event in UNFIT:
            with pytest.raises(InvalidPayload):
                await fleet.one.server.get_event_emitter(INFO)(event)
        assert "chat-events" not in dict(await heard(bob))
        assert await store.read("c", "m") is None


async def test_an_event_that_is_its_own_part_is_a_typed_error(make_fleet: MakeFleet) -> None:
    event: dict[str, Any] = {"type": "x"}
    event["data"] = event
    async with make_fleet() as fleet:
        with pytest.raises(InvalidPayload):
            await fleet.one.server.get_event_emitter(INFO)(event)


async def test_request_info_is_checked_when_the_emitter_is_made() -> None:
    server = RealtimeServer(make_settings(), people())
    of_users: list[dict[str, Any]] = [{}, {"user_id": None}, {"user_id": 5}, {"user_id": "a\nb"}]
    for wrong in (*of_users, {**INFO, "chat_id": 5}, {**INFO, "message_id": ""}):
        with pytest.raises(InvalidPayload):
            server.get_event_emitter(wrong)


async def test_an_event_too_large_for_other_instances_reaches_nobody_and_is_not_kept(
    make_pair: MakeFleet,
) -> None:
    store = MemoryMessageStore()
    async with (
        make_pair(messages=store, realtime_max_bus_message_bytes=2000) as fleet,
        client(fleet.one.url, "bob") as bob,
    ):
        emit = fleet.one.server.get_event_emitter(INFO)
        with pytest.raises(MessageTooLarge):
            await emit({"type": "message", "data": {"content": "x" * 3000}})
        await emit({"type": "message", "data": {"content": "y"}})
        await bob.wait_for("chat-events")
        assert len(bob.of("chat-events")) == 1
        kept = await store.read("c", "m")
        assert kept is not None
        assert kept.text == "y"


async def test_a_store_that_fails_is_reported_after_the_event_was_sent(make_fleet: MakeFleet) -> None:
    store = MemoryMessageStore()
    async with make_fleet(messages=store) as fleet, client(fleet.two.url, "bob") as bob:
        breaks(store, "append", DirectoryUnavailable())
        with pytest.raises(DirectoryUnavailable):
            await fleet.one.server.get_event_emitter(INFO)({"type": "message", "data": {"content": "x"}})
        await bob.wait_for("chat-events")
        assert await ask(bob, "user-list") is None
