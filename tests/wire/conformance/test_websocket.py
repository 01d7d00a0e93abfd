"""Engine.IO protocol 4: the websocket transport."""

from __future__ import annotations

import pytest

from tests.wire.lab import Instance, parsed, serving, until

from .client import (
    BINARY,
    KINDS,
    WEBSOCKET,
    ByWebSocket,
    Kind,
    WebSocket,
    ask,
    client,
    end_of,
    path,
    websocket,
)

LISTENERS = [each for each in KINDS if each.transport == "websocket"]


@pytest.mark.parametrize("listener", LISTENERS, ids=str)
async def test_each_packet_is_a_message_of_its_own(instance: Instance, listener: Kind) -> None:
    async with client(instance, listener) as session:
        for n in range(3):
            await instance.server.emit("n", n)
        assert [await session.receive() for _ in range(3)] == ['42["n",0]', '42["n",1]', '42["n",2]']


@pytest.mark.parametrize("listener", LISTENERS, ids=str)
async def test_binary_data_is_a_binary_message_as_it_is(instance: Instance, listener: Kind) -> None:
    async with client(instance, listener) as session:
        await session.send('451-7["echo",{"_placeholder":true,"num":0}]', b"\x00\xff\x01")
        assert await session.receive() == '461-7[{"_placeholder":true,"num":0}]'
        assert await session.receive() == b"\x00\xff\x01"


async def test_a_message_may_come_in_several_frames(instance: Instance) -> None:
    async with client(instance, WEBSOCKET) as session:
        assert isinstance(session, ByWebSocket)
        session.websocket.send_in_pieces('420["echo","€"]'.encode())
        assert parsed(str(await session.receive())) == ["€"]
        await session.send('451-["x",{"_placeholder":true,"num":0}]')
        session.websocket.send_in_pieces(b"\x01\x02\x03\x04", BINARY)
        await until(lambda: ("x", b"\x01\x02\x03\x04") in instance.seen)


@pytest.mark.parametrize("packet", ["", "x", "7", "-1", "hello", "²"])
async def test_a_message_that_is_no_packet_ends_the_session(instance: Instance, packet: str) -> None:
    async with websocket(instance) as session:
        await session.send(packet)
        ended, before = await end_of(session)
        assert (ended.code, before) == (1002, [])
        await until(instance.nothing_left)


@pytest.mark.parametrize("letter", ["a", "€"])
async def test_a_message_may_be_as_large_as_the_handshake_says_and_not_larger(letter: str) -> None:
    async with serving(max_http_buffer_size=1000) as instance, client(instance, WEBSOCKET) as session:
        text = letter * (900 // len(letter.encode()))
        instance.server.on("x", lambda sid, data: len(data))
        await session.send(f'420["x","{text}"]')
        assert await session.receive() == f"430[{len(text)}]"
        await session.send(f'420["x","{text + text}"]')
        ended, before = await end_of(session)
        assert (ended.code, before) == (1009, [])
        await until(instance.nothing_left)


async def test_a_websocket_for_an_unknown_session_is_refused_at_once(instance: Instance) -> None:
    async with WebSocket.open(instance, path("websocket", sid="nobody")) as connection:
        assert connection.refusal is not None
        assert connection.refusal.status == 403


async def test_a_session_that_began_by_websocket_takes_no_requests_and_no_second_websocket(
    instance: Instance,
) -> None:
    async with client(instance, WEBSOCKET) as session:
        async with WebSocket.open(instance, path("websocket", sid=session.sid)) as second:
            assert second.refusal is not None
            assert second.refusal.status == 403
        await session.send('420["echo"]')
        assert await session.receive() == "430[]"


async def test_a_request_that_comes_while_a_websocket_closes_is_refused(instance: Instance) -> None:
    async with client(instance, WEBSOCKET) as session:
        held = instance.server.eio.sockets[session.sid]
        held.closed = True  # as it is until the last packets and the close frame are written
        assert (await ask(instance, "POST", path(sid=session.sid), b"4x")).status == 400


async def test_a_lost_connection_ends_the_session(instance: Instance) -> None:
    async with client(instance, WEBSOCKET) as session:
        assert isinstance(session, ByWebSocket)
        session.websocket.writer.transport.abort()
        await until(instance.nothing_left)
        assert [name for name, *_ in instance.seen] == ["gone"]
