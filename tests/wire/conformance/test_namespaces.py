"""Socket.IO protocol 5: connection to a namespace and disconnection from it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from socketio import exceptions

from tests.wire.lab import Instance, until

from .client import Kind, Session, client, end_of, engine


async def joined(session: Session, namespace: str = "") -> str:
    answer = str(await session.receive())
    assert answer.startswith(f"40{namespace}" + "{")
    return str(json.loads(answer[2 + len(namespace) :])["sid"])


async def test_a_connect_packet_is_answered_by_one_with_the_sockets_id(
    instance: Instance, kind: Kind
) -> None:
    async with engine(instance, kind) as session:
        await session.send("40")
        sid = await joined(session)
        assert sid in instance.manager.book.members
        assert sid != session.sid  # which is a secret of the transport


async def test_a_client_may_be_in_several_namespaces_on_one_connection_with_an_id_in_each(
    instance: Instance, kind: Kind
) -> None:
    async with engine(instance, kind) as session:
        await session.send("40", "40/admin,")
        assert await joined(session) != await joined(session, "/admin,")


async def test_a_namespace_other_than_the_main_one_may_be_the_only_one(
    instance: Instance, kind: Kind
) -> None:
    async with client(instance, kind, "/admin,") as session:
        await session.send('42/admin,1["echo"]')
        assert await session.receive() == "43/admin,1[]"


@pytest.mark.parametrize("encoded", ["40/admin", "40/admin,", "40/admin,{}", "40/admin?a=1,"])
async def test_a_namespace_may_be_asked_for_with_and_without_a_payload(
    instance: Instance, kind: Kind, encoded: str
) -> None:
    async with engine(instance, kind) as session:
        await session.send(encoded)
        await joined(session, "/admin,")


async def test_the_payload_of_a_connect_packet_reaches_the_handler(instance: Instance, kind: Kind) -> None:
    given: list[Any] = []
    instance.server.on("connect", lambda sid, environ, auth: given.append(auth), namespace="/admin")
    async with engine(instance, kind) as session:
        await session.send('40/admin,{"token":"123"}')
        await joined(session, "/admin,")
        assert given == [{"token": "123"}]


async def test_a_connection_that_is_not_allowed_is_answered_by_a_connect_error(
    instance: Instance, kind: Kind
) -> None:
    def refuse(sid: str, environ: Any, auth: Any) -> None:
        raise exceptions.ConnectionRefusedError("Not authorized", {"hint": 1})

    instance.server.on("connect", refuse)
    async with engine(instance, kind) as session:
        await session.send("40")
        assert await session.receive() == '44{"message":"Not authorized","data":{"hint":1}}'
        await session.send("40/admin,")
        await joined(session, "/admin,")


async def test_an_unknown_namespace_is_answered_by_a_connect_error_and_another_may_be_asked_for(
    instance: Instance, kind: Kind
) -> None:
    async with engine(instance, kind) as session:
        await session.send("40/nowhere,")
        assert await session.receive() == '44/nowhere,{"message":"Invalid namespace"}'
        await session.send("40")
        await joined(session)


async def test_what_is_sent_to_a_client_while_it_is_let_in_follows_its_connect_packet(
    instance: Instance, kind: Kind
) -> None:
    async def connect(sid: str, environ: Any, auth: Any) -> None:
        await instance.server.emit("early", to=sid)
        await asyncio.sleep(0)

    instance.server.on("connect", connect)
    async with engine(instance, kind) as session:
        await session.send("40")
        await joined(session)
        assert await session.receive() == '42["early"]'


async def test_what_was_sent_to_a_client_that_is_refused_is_dropped(instance: Instance, kind: Kind) -> None:
    async def connect(sid: str, environ: Any, auth: Any) -> bool:
        await instance.server.emit("early", to=sid)
        return False

    instance.server.on("connect", connect)
    async with engine(instance, kind) as session:
        await session.send("40", "40/admin,")
        assert str(await session.receive()).startswith("44{")
        await joined(session, "/admin,")


@pytest.mark.parametrize("first", ['42["x"]', "41", "431[]", '44{"message":"x"}', "42/admin,[]", "4"])
async def test_a_connection_that_begins_with_anything_but_a_connect_packet_is_closed(
    instance: Instance, kind: Kind, first: str
) -> None:
    async with engine(instance, kind) as session:
        await session.send(first)
        ended, before = await end_of(session)
        assert (ended.code, before) == (1002 if kind.transport == "websocket" else 400, [])
        await until(instance.nothing_left)


@pytest.mark.parametrize("payload", ["[]", '"x"', "true", "{"])
async def test_a_connect_packet_whose_payload_is_no_object_closes_the_connection(
    instance: Instance, kind: Kind, payload: str
) -> None:
    async with engine(instance, kind) as session:
        await session.send("40" + payload)
        assert (await end_of(session))[1] == []
        await until(instance.nothing_left)


async def test_a_second_connect_packet_for_a_namespace_closes_the_connection(
    instance: Instance, kind: Kind
) -> None:
    async with client(instance, kind) as session:
        await session.send("40")
        await end_of(session)
        await until(instance.nothing_left)


async def test_a_disconnect_packet_of_the_client_ends_one_namespace_without_an_answer(
    instance: Instance, kind: Kind
) -> None:
    async with client(instance, kind) as session:
        await session.send("40/admin,")
        await joined(session, "/admin,")
        await session.send("41", '42/admin,2["echo"]')
        assert await session.receive() == "43/admin,2[]"
        assert ("gone", "client disconnect") in instance.seen


async def test_what_was_sent_before_a_disconnect_packet_is_handled_and_what_follows_it_is_not(
    instance: Instance, kind: Kind
) -> None:
    async with client(instance, kind) as session:
        await session.send('42["before"]', "41", '42["after"]', "40")
        await joined(session)
        assert [name for name, *_ in instance.seen] == ["before", "gone"]


async def test_the_connection_is_kept_after_the_last_namespace_and_a_namespace_may_be_joined_again(
    instance: Instance, kind: Kind
) -> None:
    async with client(instance, kind) as session:
        (first,) = instance.manager.book.members
        await session.send("41")
        await until(lambda: not instance.manager.book.members)
        await session.send("40")
        assert await joined(session) != first


async def test_a_disconnect_packet_of_the_server_ends_one_namespace(instance: Instance, kind: Kind) -> None:
    async with client(instance, kind) as session:
        await session.send("40/admin,")
        sid = await joined(session, "/admin,")
        await instance.server.disconnect(sid, "/admin")
        assert await session.receive() == "41/admin,"
        await session.send('42/admin,1["echo"]', '421["echo"]')
        assert await session.receive() == "431[]"


async def test_the_namespace_is_left_out_of_packets_of_the_main_one_only(
    instance: Instance, kind: Kind
) -> None:
    async with client(instance, kind) as session:
        await session.send("40/admin,")
        await joined(session, "/admin,")
        await instance.server.emit("x", namespace="/admin")
        await instance.server.emit("x")
        assert [await session.receive() for _ in range(2)] == ['42/admin,["x"]', '42["x"]']


async def test_events_of_one_namespace_do_not_reach_the_handlers_or_clients_of_another(
    instance: Instance, kind: Kind
) -> None:
    instance.server.on("where", lambda sid: "main")
    instance.server.on("where", lambda sid: "admin", namespace="/admin")
    async with client(instance, kind) as main, client(instance, kind, "/admin,") as admin:
        await main.send('420["where"]')
        await admin.send('42/admin,0["where"]')
        assert await main.receive() == '430["main"]'
        assert await admin.receive() == '43/admin,0["admin"]'
        await admin.send('42["where"]')  # of a namespace it is not in
        await instance.server.emit("only", namespace="/admin")
        assert await admin.receive() == '42/admin,["only"]'
