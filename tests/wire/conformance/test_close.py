"""Engine.IO protocol 4: the end of a session, and packets that are not a client's to send."""

from __future__ import annotations

import asyncio

import pytest

from sim.raw_transports import CLOSE, frame
from tests.wire.lab import Instance, serving, until

from .client import POLLING, WEBSOCKET, ByPolling, ByWebSocket, EndedError, Kind, client, end_of
from .conftest import prepare


async def test_a_close_packet_of_the_client_ends_the_session(instance: Instance, kind: Kind) -> None:
    async with client(instance, kind) as session:
        await session.send("1")
        ended, before = await end_of(session)
        assert ended.code == (1000 if kind.transport == "websocket" else 400)
        assert before == []
        await until(instance.nothing_left)
        assert instance.seen == [("gone", "client disconnect")]


async def test_a_close_packet_ends_a_pending_poll_at_once() -> None:
    async with serving() as instance, client(instance, POLLING) as session:
        assert isinstance(session, ByPolling)
        poll = asyncio.create_task(session.get())
        (held,) = instance.server.eio.sockets.values()
        await until(lambda: held.polling)
        await session.send("1")
        assert (await poll).body in (b"1", b"6")
        await until(instance.nothing_left)


async def test_what_follows_a_close_packet_is_not_handled(instance: Instance, kind: Kind) -> None:
    async with client(instance, kind) as session:
        await session.send('42["before"]', "1", '42["after"]')
        await end_of(session)
        await until(instance.nothing_left)
        assert [name for name, *_ in instance.seen] == ["before", "gone"]


async def test_a_close_packet_of_the_server_reaches_the_client_and_ends_the_session(
    instance: Instance, kind: Kind
) -> None:
    async with client(instance, kind) as session:
        await instance.server.eio.sockets[session.sid].close()
        assert (await end_of(session))[1] == ["1"]
        await until(instance.nothing_left)


async def test_what_was_sent_before_the_end_still_arrives(instance: Instance, kind: Kind) -> None:
    async with client(instance, kind) as session:
        await instance.server.emit("last")
        await instance.server.eio.sockets[session.sid].close()
        assert (await end_of(session))[1] == ['42["last"]', "1"]


async def test_a_close_frame_ends_the_session_and_is_answered(instance: Instance) -> None:
    async with client(instance, WEBSOCKET) as session:
        assert isinstance(session, ByWebSocket)
        session.websocket.writer.write(frame(CLOSE, b"\x03\xe9"))
        with pytest.raises(EndedError) as ended:
            await session.receive()
        assert ended.value.code == 1001
        await until(instance.nothing_left)


@pytest.mark.parametrize("packet", ["0", "0{}", "5", "6", "7", "9x", "x"])
async def test_a_packet_that_is_not_a_clients_to_send_ends_the_session(
    instance: Instance, kind: Kind, packet: str
) -> None:
    async with client(instance, kind) as session:
        if isinstance(session, ByPolling):
            assert (await session.post(packet.encode())).status == 400
        else:
            await session.send(packet)
            assert (await end_of(session))[0].code == 1002
        await until(instance.nothing_left)


async def test_a_session_ends_for_its_handlers_once(kind: Kind) -> None:
    async with serving(namespaces=["/", "/admin"]) as instance:
        prepare(instance)
        async with client(instance, kind) as session:
            await session.send("40/admin,")
            assert str(await session.receive()).startswith("40/admin,{")
            await session.send("1")
            await end_of(session)
            await until(instance.nothing_left)
            assert instance.seen == [("gone", "client disconnect")] * 2
