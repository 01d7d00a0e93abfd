"""The layer under uvicorn's other websocket implementation, wsproto: not every statement, but each kind of end."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from realtime.errors import Close
from tests.wire.lab import Instance, serving, until

from .client import POLLING, WEBSOCKET, ByPolling, ByWebSocket, Kind, WebSocket, client, end_of, path
from .conftest import PINGS, prepare


@pytest.fixture
async def instance() -> AsyncIterator[Instance]:
    async with serving(namespaces=["/", "/admin"], ws="wsproto", **PINGS) as it:
        prepare(it)
        yield it


async def test_events_binary_events_and_acknowledgements_come_and_go(instance: Instance) -> None:
    async with client(instance, WEBSOCKET) as session:
        await session.send('451-7["echo",{"_placeholder":true,"num":0}]', b"\x00\xff")
        assert await session.receive() == '461-7[{"_placeholder":true,"num":0}]'
        assert await session.receive() == b"\x00\xff"
    await until(instance.nothing_left)


async def test_a_session_upgrades(instance: Instance) -> None:
    async with client(instance, POLLING) as session:
        assert isinstance(session, ByPolling)
        async with WebSocket.open(instance, path("websocket", sid=session.sid)) as connection:
            on = ByWebSocket(instance, WEBSOCKET, connection)
            await on.send("2probe")
            assert await on.receive() == "3probe"
            await on.send("5", '420["echo"]')
            assert await on.receive() == "430[]"
    await until(instance.nothing_left)


async def test_a_websocket_with_a_flaw_is_refused(instance: Instance) -> None:
    async with WebSocket.open(instance, path("websocket", sid="nobody")) as connection:
        assert connection.refusal is not None
        assert connection.refusal.status == 403


@pytest.mark.parametrize(("packet", "code"), [("42[]", 1002), ("9", 1002), ("1", 1000)])
async def test_what_ends_a_session_ends_it(instance: Instance, packet: str, code: int) -> None:
    async with client(instance, WEBSOCKET) as session:
        await session.send(packet)
        assert (await end_of(session))[0].code == code
        await until(instance.nothing_left)


async def test_a_connection_is_closed_with_its_code_and_reason(instance: Instance) -> None:
    async with client(instance, WEBSOCKET) as session:
        (sid,) = instance.manager.book.members
        await instance.server.close(sid, Close.KICKED)
        ended, before = await end_of(session)
        assert (ended.code, ended.reason) == (Close.KICKED.value.code, Close.KICKED.value.reason)
        assert before[-1] == "41"
        await until(instance.nothing_left)


async def test_a_client_that_does_not_answer_is_closed() -> None:
    async with serving(ws="wsproto", ping_interval=0.1, ping_timeout=0.3) as instance:
        async with client(instance, Kind("websocket", answers_pings=False)) as session:
            await end_of(session)
            await until(instance.nothing_left)
