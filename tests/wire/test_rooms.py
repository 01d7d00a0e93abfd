"""Rooms, broadcasts and what is delivered to whom on one instance."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from unittest.mock import AsyncMock, patch

import pytest
import socketio

from realtime.errors import Close
from realtime.wire.rooms import Member, Rooms

from .lab import Client, Polling, Websocket, parsed, serving, until


async def test_a_list_of_rooms_is_a_union_in_which_each_socket_hears_an_emit_once() -> None:
    async with serving() as instance, Websocket.to(instance) as one, Websocket.to(instance) as two:
        first, second = instance.manager.book.members
        await instance.server.enter_room(first, "a")
        await instance.server.enter_room(first, "b")
        await instance.server.enter_room(second, "b")
        await instance.server.emit("x", 1, to=["a", "b", first])
        await instance.server.emit("x", 2, to=["a", "b"], skip_sid=first)
        await instance.server.emit("end", to=[first, second])
        assert [await one.receive() for _ in range(2)] == ['42["x",1]', '42["end"]']
        assert [await two.receive() for _ in range(3)] == ['42["x",1]', '42["x",2]', '42["end"]']


@pytest.mark.parametrize("nobody", [[], ""])
async def test_an_empty_room_or_list_of_rooms_is_nobody_and_not_everyone(nobody: Any) -> None:
    async with serving() as instance, Websocket.to(instance) as client:
        await instance.server.emit("secret", to=nobody)
        await instance.server.emit("secret", room=nobody)
        await instance.manager.emit("secret", None, to=nobody)
        await instance.server.emit("public")
        assert await client.receive() == '42["public"]'


@pytest.mark.parametrize("nobody", [[], ""])
async def test_a_stock_server_takes_the_same_for_everyone_as_the_page_on_moving_says(nobody: Any) -> None:
    stock = socketio.AsyncServer(async_mode="asgi")
    with patch.object(stock.manager, "emit", AsyncMock()) as emit:
        await stock.emit("secret", to=nobody)
    assert emit.await_args is not None
    assert emit.await_args.kwargs["room"] is None


async def test_only_admitted_sockets_hear_broadcasts_in_the_default_namespace() -> None:
    async with serving(namespaces=["/", "/open"]) as instance:
        instance.server.on("connect", lambda sid, environ, auth: None)
        async with Websocket.to(instance) as client:
            (sid,) = instance.manager.book.members
            await client.send("40/open,")
            await client.receive()
            await instance.server.emit("before")
            await instance.server.emit("own", to=sid)
            instance.manager.admit(sid)
            await instance.server.emit("during")
            instance.manager.expel(sid)
            await instance.server.emit("after")
            await instance.server.emit("open", namespace="/open")
            got = [await client.receive() for _ in range(3)]
            assert got == ['42["own"]', '42["during"]', '42/open,["open"]']


@pytest.mark.parametrize("transport", ["websocket", "polling"])
async def test_what_is_sent_before_the_connect_packet_follows_it_in_order(transport: str) -> None:
    async with serving() as instance:

        @instance.server.on("connect")
        async def connect(sid: str, environ: Any, auth: Any) -> None:
            instance.manager.admit(sid)
            await instance.server.enter_room(sid, "r")
            await instance.server.emit("one", to=sid)
            await instance.server.emit("two", b"\x01", to="r")
            await instance.server.emit("three")

        kind: Any = Websocket if transport == "websocket" else Polling
        async with kind.to(instance, connect=False) as client:
            await (client.send if transport == "websocket" else client.post)("40")
            got = [await client.receive() for _ in range(5)]
            assert got[0].startswith("40{")
            attachment = b"\x01" if transport == "websocket" else "bAQ=="
            assert got[1:] == [
                '42["one"]',
                '451-["two",{"_placeholder":true,"num":0}]',
                attachment,
                '42["three"]',
            ]


async def test_what_waits_for_the_connect_packet_is_bounded() -> None:
    async with serving() as instance:
        instance.manager.max_held = 3
        left: list[str] = []

        @instance.server.on("connect")
        async def connect(sid: str, environ: Any, auth: Any) -> None:
            for number in range(4):
                await instance.server.emit("n", number, to=sid)

        instance.server.on("disconnect", lambda sid, reason: left.append(reason))
        async with Websocket.to(instance, connect=False) as client:
            await client.send("40")
            code, _, packets = await client.closed()
            assert (code, packets) == (1012, [])
        await until(instance.nothing_left)
        assert left == ["server disconnect"]
        assert instance.server.counters.packets_held_back_dropped == 1


async def test_binary_packets_reach_websockets_and_polls_alike_whichever_is_first() -> None:
    for order in (("websocket", "polling"), ("polling", "websocket")):
        async with serving() as instance:
            async with Client.to(instance, order[0]) as one, Client.to(instance, order[1]) as two:
                await instance.server.emit("blob", {"bytes": b"\x00\xff", "text": "é"})
                for client in (one, two):
                    assert await client.got("blob") == ("blob", {"bytes": b"\x00\xff", "text": "é"})


async def test_an_emit_makes_no_task_per_recipient_and_is_queued_before_it_returns() -> None:
    async with serving() as instance, Websocket.to(instance), Websocket.to(instance):
        before = asyncio.all_tasks()
        await instance.manager.emit("x", {"n": 1})
        assert asyncio.all_tasks() == before
        sent = instance.server.eio.flush._sent
        sessions = instance.server.eio.sockets.values()
        assert [line for _, lines in sent for line in lines] == [session.line for session in sessions]
        assert all(framed is sent[0][0] for framed, _ in sent)


async def test_a_packet_and_its_attachments_are_not_parted_by_other_emits() -> None:
    async with serving() as instance, Client.to(instance) as client:
        await asyncio.gather(
            *(instance.server.emit("blob", [bytes([n]), bytes([n + 1])]) for n in range(50)),
            *(instance.server.emit("text", n) for n in range(50)),
        )
        await until(lambda: len([e for e in client.events if e[0] in ("blob", "text")]) == 100)
        blobs = [e[1] for e in client.events if e[0] == "blob"]
        assert sorted(blobs) == [[bytes([n]), bytes([n + 1])] for n in range(50)]


async def test_membership_changes_are_reported_and_a_disconnect_is_not() -> None:
    async with serving() as instance:
        changes: list[tuple[str, frozenset[str]]] = []
        manager = instance.manager
        manager.on_rooms_changed = lambda sid, namespace: changes.append(
            (namespace, manager.local_rooms(sid))
        )
        async with Websocket.to(instance):
            (sid,) = manager.book.members
            await instance.server.enter_room(sid, "a")
            await instance.server.enter_room(sid, "a")
            await instance.server.enter_room(sid, "b")
            assert sorted(instance.server.rooms(sid)) == sorted([sid, "a", "b"])
            assert manager.local_participants("a") == {sid}
            await instance.server.leave_room(sid, "a")
            await instance.server.leave_room(sid, "never in it")
            await instance.server.close_room("b")
        await until(instance.nothing_left)
        assert changes == [
            ("/", frozenset({"a"})),
            ("/", frozenset({"a", "b"})),
            ("/", frozenset({"b"})),
            ("/", frozenset()),
        ]


async def test_nobody_enters_or_closes_the_room_that_a_socket_is_by_itself() -> None:
    async with serving() as instance, Websocket.to(instance), Websocket.to(instance):
        first, second = instance.manager.book.members
        with pytest.raises(ValueError, match="own room"):
            await instance.server.enter_room(second, first)
        with pytest.raises(ValueError, match="own room"):
            await instance.server.close_room(first)


async def test_callbacks_are_called_with_the_answer_and_kept_no_longer() -> None:
    async with serving() as instance, Client.to(instance) as client:
        client.sio.on("ask", lambda n: (n, b"\x02"))
        (sid,) = instance.manager.book.members
        answers: list[Any] = []

        async def slow(*args: Any) -> None:
            await asyncio.sleep(0)
            answers.append(args)

        def broken(*args: Any) -> None:
            raise RuntimeError("mine")

        await instance.server.emit("ask", 1, to=sid, callback=lambda *args: answers.append(args))
        await instance.server.emit("ask", 2, to=sid, callback=broken)
        await instance.server.emit("ask", 3, to=sid, callback=slow)
        await until(lambda: len(answers) == 2)
        assert sorted(answers) == [(1, b"\x02"), (3, b"\x02")]
        assert instance.server.counters.callbacks_failed == 1
        assert not instance.manager.book.members[sid].asks
        with pytest.raises(ValueError, match="callback"):
            await instance.server.emit("ask", 1, callback=broken)


async def test_an_acknowledgement_of_an_unknown_id_is_ignored_quietly(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serving() as instance, Websocket.to(instance) as client:
        instance.server.on("echo", lambda sid: "here")
        await client.send("4399[]", '421["echo"]')
        assert parsed(await client.receive()) == ["here"]
        assert instance.server.counters.callbacks_unknown == 1
        assert not [r for r in caplog.records if r.levelname != "DEBUG" and r.name.startswith("realtime")]


async def test_acknowledgements_that_one_socket_owes_are_bounded() -> None:
    async with serving() as instance, Websocket.to(instance):
        instance.manager.max_asks = 5
        (sid,) = instance.manager.book.members
        for _ in range(9):
            await instance.server.emit("ask", to=sid, callback=print)
        assert len(instance.manager.book.members[sid].asks) == 5
        assert instance.server.counters.callbacks_evicted == 4


async def test_what_json_cannot_carry_is_an_error_of_the_emit_and_nobody_hears_half_of_it() -> None:
    async with serving() as instance, Websocket.to(instance) as client:
        with pytest.raises(TypeError):
            await instance.server.emit("x", object())
        await instance.server.emit("y", json.loads("[1]"))
        assert await client.receive() == '42["y",[1]]'


def test_leaving_costs_as_many_steps_as_the_socket_has_rooms() -> None:
    class Counting(dict[str, Any]):
        touched = 0

        def get(self, key: Any, default: Any = None) -> Any:
            Counting.touched += 1
            return super().get(key, default)

        def items(self) -> Any:
            raise AssertionError("all rooms were scanned")

    book = Rooms()
    book.tables["/"] = Counting()
    members = [Member(f"s{n}", f"e{n}", "/", None) for n in range(500)]  # type: ignore[arg-type]
    for n, member in enumerate(members):
        book.add(member)
        for room in range(3):
            book.enter(member, f"room {n * 3 + room}")
    Counting.touched = 0
    book.remove(members[7])
    assert Counting.touched == 3
    assert len(book.tables["/"]) == 499 * 3


async def test_a_closed_socket_takes_nothing_more() -> None:
    async with serving() as instance, Websocket.to(instance):
        (sid,) = instance.manager.book.members
        member = instance.manager.book.members[sid]
        await instance.server.close(sid, Close.KICKED)
        queued = member.socket.queue.qsize()
        await instance.server.emit("x", to=sid)
        assert not member.socket.post([])
        assert member.socket.queue.qsize() <= queued
