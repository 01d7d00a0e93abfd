"""Socket.IO protocol 5: events, acknowledgements, binary attachments, and packets that close the connection."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.wire.lab import Instance, parsed, until

from .client import Kind, Packet, Session, client, end_of

HOLE = '{"_placeholder":true,"num":%d}'


def only(instance: Instance, namespace: str = "/") -> str:
    (sid,) = instance.manager.book.namespaces[namespace]
    return sid


async def received(session: Session, count: int) -> list[Packet]:
    return [await session.receive() for _ in range(count)]


# --- events


async def test_an_event_has_its_name_and_any_number_of_arguments_either_way(
    instance: Instance, kind: Kind
) -> None:
    async with client(instance, kind) as session:
        await session.send('42["none"]', '42["some",1,"two",{"three":[3,null,true,-4.5e1]}]')
        await until(lambda: len(instance.seen) == 2)
        assert instance.seen == [("none",), ("some", 1, "two", {"three": [3, None, True, -45.0]})]
        await instance.server.emit("none")
        await instance.server.emit("some", (1, "two", {"three": [3, None, True]}))
        assert await received(session, 2) == ['42["none"]', '42["some",1,"two",{"three":[3,null,true]}]']


async def test_the_name_of_an_event_may_be_a_number(instance: Instance, kind: Kind) -> None:
    async with client(instance, kind) as session:
        await session.send('42[7,"x"]')
        await until(lambda: instance.seen == [(7, "x")])


@pytest.mark.parametrize("text", ["€ 𝄞 ü", '"\\', "1-/,", "\u2028\x1e\x00", "42[]"])
async def test_every_text_comes_and_goes_as_it_is(instance: Instance, kind: Kind, text: str) -> None:
    async with client(instance, kind) as session:
        await session.send("421" + json.dumps(["echo", text]))
        assert parsed(str(await session.receive())) == [text]


async def test_events_arrive_in_the_order_in_which_they_were_sent(instance: Instance, kind: Kind) -> None:
    async with client(instance, kind) as session:
        for n in range(50):
            await instance.server.emit("n", n)
        assert await received(session, 50) == [f'42["n",{n}]' for n in range(50)]


async def test_an_event_nobody_handles_is_ignored(instance: Instance, kind: Kind) -> None:
    del instance.server.handlers["/"]["*"]
    async with client(instance, kind) as session:
        instance.server.on("echo", lambda sid: ())
        await session.send('423["unheard"]', '424["echo"]')
        assert await session.receive() == "434[]"


# --- acknowledgements


@pytest.mark.parametrize("number", [0, 1, 12, 2**53 - 1])
async def test_an_event_with_an_id_is_acknowledged_with_the_same_id(
    instance: Instance, kind: Kind, number: int
) -> None:
    async with client(instance, kind) as session:
        await session.send(f'42{number}["echo","a",2]')
        assert await session.receive() == f'43{number}["a",2]'


@pytest.mark.parametrize(("result", "payload"), [(None, "[]"), ((), "[]"), ([1], "[[1]]"), ((1, 2), "[1,2]")])
async def test_the_payload_of_an_acknowledgement_is_always_an_array(
    instance: Instance, kind: Kind, result: Any, payload: str
) -> None:
    instance.server.on("ask", lambda sid: result)
    async with client(instance, kind) as session:
        await session.send('420["ask"]')
        assert await session.receive() == "430" + payload


async def test_an_event_without_an_id_is_not_acknowledged(instance: Instance, kind: Kind) -> None:
    async with client(instance, kind) as session:
        await session.send('42["echo"]', '429["echo"]')
        assert await session.receive() == "439[]"


async def test_an_acknowledgement_names_its_namespace(instance: Instance, kind: Kind) -> None:
    async with client(instance, kind, "/admin,") as session:
        await session.send('42/admin,13["echo","bar"]')
        assert await session.receive() == '43/admin,13["bar"]'


@pytest.mark.parametrize(("payload", "answer"), [("[]", None), ('["bar"]', "bar"), ("[1,2]", (1, 2))])
async def test_the_server_may_ask_and_is_given_the_clients_answer(
    instance: Instance, kind: Kind, payload: str, answer: Any
) -> None:
    async with client(instance, kind, "/admin,") as session:
        sid = only(instance, "/admin")
        asking = asyncio.create_task(instance.server.call("foo", to=sid, namespace="/admin", timeout=10))
        question = str(await session.receive())
        assert question.startswith("42/admin,")
        number = question[len("42/admin,") : question.index("[")]
        assert question == f'42/admin,{number}["foo"]'
        await session.send(f"43/admin,{number}{payload}")
        assert await asking == answer


async def test_each_question_has_an_id_of_its_own_and_answers_may_come_in_any_order(
    instance: Instance, kind: Kind
) -> None:
    async with client(instance, kind) as session:
        asking = [asyncio.create_task(instance.server.call("n", n, to=only(instance))) for n in range(3)]
        for question in reversed([str(each) for each in await received(session, 3)]):
            number, n = question[2 : question.index("[")], parsed(question)[1]
            await session.send(f"43{number}[{n * 10}]")
        assert await asyncio.gather(*asking) == [0, 10, 20]


async def test_an_acknowledgement_that_nobody_waits_for_is_ignored(instance: Instance, kind: Kind) -> None:
    async with client(instance, kind) as session:
        await session.send("4377[1]", "4377[2]", '420["echo"]')
        assert await session.receive() == "430[]"


# --- binary


async def test_a_binary_event_carries_its_attachments_in_order(instance: Instance, kind: Kind) -> None:
    async with client(instance, kind) as session:
        data = {"a": b"\x01\x02", "b": [b"", {"c": b"\xff\x00"}]}
        await instance.server.emit("baz", data)
        head, *attachments = [await session.receive() for _ in range(4)]
        assert str(head).startswith("453-[")
        assert json.loads(str(head)[4:]) == [
            "baz",
            {"a": json.loads(HOLE % 0), "b": [json.loads(HOLE % 1), {"c": json.loads(HOLE % 2)}]},
        ]
        assert attachments == [b"\x01\x02", b"", b"\xff\x00"]


async def test_a_binary_event_of_the_client_is_put_together_again(instance: Instance, kind: Kind) -> None:
    async with client(instance, kind, "/admin,") as session:
        holes = f'{{"a":{HOLE % 1},"b":[{HOLE % 0}]}}'
        await session.send(f'452-/admin,["baz",{holes}]', b"\x01\x02", b"\x03")
        await until(lambda: instance.seen == [("baz", {"a": b"\x03", "b": [b"\x01\x02"]})])


async def test_a_binary_event_without_attachments_is_an_event(instance: Instance, kind: Kind) -> None:
    async with client(instance, kind) as session:
        await session.send('450-["x",1]')
        await until(lambda: instance.seen == [("x", 1)])


async def test_a_binary_event_is_acknowledged_plainly_where_the_answer_is_plain(
    instance: Instance, kind: Kind
) -> None:
    instance.server.on("foo", lambda sid, data: "bar")
    async with client(instance, kind) as session:
        await session.send(f'451-14["foo",{HOLE % 0}]', b"\x01\x02\x03\x04")
        assert await session.receive() == '4314["bar"]'


async def test_an_event_is_acknowledged_by_a_binary_acknowledgement_where_the_answer_has_bytes(
    instance: Instance, kind: Kind
) -> None:
    instance.server.on("foo", lambda sid: ("bar", b"\x01\x02"))
    async with client(instance, kind) as session:
        await session.send('4215["foo"]')
        assert await received(session, 2) == [f'461-15["bar",{HOLE % 0}]', b"\x01\x02"]


async def test_a_binary_acknowledgement_of_the_client_is_put_together_again(
    instance: Instance, kind: Kind
) -> None:
    async with client(instance, kind) as session:
        asking = asyncio.create_task(instance.server.call("foo", to=only(instance)))
        question = str(await session.receive())
        number = question[2 : question.index("[")]
        await session.send(f'461-{number}["bar",{HOLE % 0}]', b"\x01\x02\x03\x04")
        assert await asking == ("bar", b"\x01\x02\x03\x04")


# --- errors


@pytest.mark.parametrize(
    "packets",
    [
        ["42"],
        ["42[]"],
        ["42{}"],
        ['42"x"'],
        ["42null"],
        ['42["x"'],
        ["42[null]"],
        ["42[{}]"],
        ['42["connect"]'],
        ['42["disconnecting"]'],
        ["43[]"],
        ["431"],
        ["431{}"],
        ["43x[]"],
        ['41{"a":1}'],
        ["47"],
        ["4x"],
        ["4"],
        ['44{"message":"x"}'],
        ['451-["x"]'],
        [f'451-["x",{HOLE % 1}]'],
        [f'451-["x",{HOLE % 0}]', '42["y"]'],
        [f'45-["x",{HOLE % 0}]', b"1"],
        ['45-1-["x"]'],
        [b"nobody waits for this"],
        [f'42["x",{HOLE % 0}]', b"1"],
    ],
    ids=repr,
)
@pytest.mark.parametrize("transport", ["websocket", "polling"])
async def test_a_packet_that_is_not_what_its_type_asks_for_closes_the_connection(
    instance: Instance, transport: str, packets: list[Packet]
) -> None:
    async with client(instance, Kind(transport)) as session:
        await session.send(*packets)
        ended, before = await end_of(session)
        assert (ended.code, before) == (1002 if transport == "websocket" else 400, [])
        await until(instance.nothing_left)


async def test_a_connection_that_closes_leaves_every_namespace(instance: Instance, kind: Kind) -> None:
    async with client(instance, kind) as session:
        await session.send("40/admin,")
        await session.receive()
        await session.send("42[]")
        await end_of(session)
        await until(instance.nothing_left)
        assert [name for name, *_ in instance.seen] == ["gone", "gone"]
