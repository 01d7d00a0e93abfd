"""Engine.IO protocol 4: the upgrade from polling to websocket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from realtime.wire.session import WireSocket
from tests.wire.lab import BOUND, Instance, serving, until

from .client import KINDS, POLLING, ByPolling, ByWebSocket, EndedError, Kind, WebSocket, client, end_of, path
from .conftest import prepare

POLLERS = [each for each in KINDS if each.transport == "polling"]


@pytest.fixture(params=POLLERS, ids=str)
def poller(request: pytest.FixtureRequest) -> Kind:
    given: Kind = request.param
    return given


@asynccontextmanager
async def upgrading(instance: Instance, poller: Kind) -> AsyncIterator[tuple[ByPolling, ByWebSocket]]:
    """A session that polls, and a websocket on which nothing was sent yet."""
    async with client(instance, poller) as session:
        assert isinstance(session, ByPolling)
        async with WebSocket.open(instance, path("websocket", sid=session.sid)) as connection:
            assert connection.refusal is None
            on = ByWebSocket(instance, Kind("websocket", poller.answers_pings), connection)
            on.handshake = session.handshake
            yield session, on


async def probe(websocket: ByWebSocket) -> None:
    await websocket.send("2probe")
    assert await websocket.receive() == "3probe"


def of(instance: Instance) -> WireSocket:
    (session,) = instance.server.eio.sockets.values()
    return session


async def goes_on_polling(instance: Instance, session: ByPolling) -> None:
    await session.send('420["echo",1]')
    assert await session.receive() == "430[1]"


async def goes_on(websocket: ByWebSocket) -> None:
    """What comes first is the answer: no packet that the client did not cause was sent before it."""
    await websocket.send('420["echo",1]')
    assert await websocket.receive() == "430[1]"


async def test_a_probe_is_answered_and_an_upgrade_packet_moves_the_session(
    instance: Instance, poller: Kind
) -> None:
    async with upgrading(instance, poller) as (_, websocket):
        await probe(websocket)
        await websocket.send("5")
        await goes_on(websocket)
    await until(instance.nothing_left)
    assert [name for name, *_ in instance.seen] == ["echo", "gone"]


async def test_a_pending_poll_is_ended_by_a_noop_and_no_noop_goes_to_the_websocket() -> None:
    async with serving() as instance, upgrading(instance, POLLING) as (session, websocket):
        prepare(instance)
        poll = asyncio.create_task(session.get())
        await until(lambda: of(instance).polling)
        await probe(websocket)
        assert (await poll).body == b"6"
        await websocket.send("5")
        await goes_on(websocket)


async def test_a_client_that_does_not_wait_for_its_poll_to_end_has_it_ended_all_the_same() -> None:
    async with serving() as instance, upgrading(instance, POLLING) as (session, websocket):
        prepare(instance)
        poll = asyncio.create_task(session.get())
        await until(lambda: of(instance).polling)
        await websocket.send("2probe", "5")
        assert await websocket.receive() == "3probe"
        assert (await poll).body == b"6"
        await goes_on(websocket)


async def test_a_poll_that_comes_after_the_probe_is_answered_by_a_noop(instance: Instance) -> None:
    async with upgrading(instance, POLLING) as (session, websocket):
        await probe(websocket)
        assert (await asyncio.wait_for(session.get(), BOUND)).body == b"6"
        await websocket.send("5")
        await goes_on(websocket)


async def test_until_the_probe_polls_are_served_as_ever(instance: Instance, poller: Kind) -> None:
    async with upgrading(instance, poller) as (session, websocket):
        await goes_on_polling(instance, session)
        await probe(websocket)
        await websocket.send("5")
        await goes_on(websocket)


async def test_packets_that_wait_go_to_the_websocket_in_order_once_the_session_has_moved(
    instance: Instance, poller: Kind
) -> None:
    async with upgrading(instance, poller) as (_, websocket):
        await instance.server.emit("n", 0)
        await websocket.send("2probe")
        assert await websocket.receive() == "3probe"
        await instance.server.emit("n", 1)
        await websocket.send("5")
        await until(lambda: of(instance).upgraded)
        await instance.server.emit("n", 2)
        assert [await websocket.receive() for _ in range(3)] == [f'42["n",{n}]' for n in range(3)]


async def test_no_packet_is_lost_or_doubled_by_an_upgrade(instance: Instance) -> None:
    async with upgrading(instance, POLLING) as (session, websocket):
        got: list[str] = []

        async def poll() -> None:
            texts: list[str] = []
            while "6" not in texts:
                texts = (await session.get()).body.decode().split("\x1e")
                got.extend(text for text in texts if text not in ("2", "6"))
                if "2" in texts:
                    await session.post(b"3")

        polling = asyncio.create_task(poll())
        for n in range(100):
            await instance.server.emit("n", n)
            if n == 30:
                await probe(websocket)
            if n == 60:
                await asyncio.wait_for(polling, BOUND)
                await websocket.send("5")
            await asyncio.sleep(0)
        while len(got) < 100:
            got.append(str(await websocket.receive()))
        assert got == [f'42["n",{n}]' for n in range(100)]


async def test_from_the_upgrade_on_requests_are_refused_and_the_session_goes_on(
    instance: Instance, poller: Kind
) -> None:
    async with upgrading(instance, poller) as (session, websocket):
        await probe(websocket)
        await websocket.send("5")
        await goes_on(websocket)
        assert (await session.get()).status == 400
        assert (await session.post(b'42["x"]')).status == 400
        await goes_on(websocket)
        assert ("x",) not in instance.seen


@pytest.mark.parametrize("moved", [False, True])
async def test_a_second_websocket_is_refused_and_the_first_goes_on(instance: Instance, moved: bool) -> None:
    async with upgrading(instance, POLLING) as (session, websocket):
        await probe(websocket)
        if moved:
            await websocket.send("5")
            await goes_on(websocket)
        async with WebSocket.open(instance, path("websocket", sid=session.sid)) as second:
            assert second.refusal is not None
        if not moved:
            await websocket.send("5")
        await goes_on(websocket)


@pytest.mark.parametrize("first", ["2", "2prob", "3probe", "5", "40", "x", "", b"2probe"])
async def test_a_websocket_that_begins_with_anything_but_a_probe_is_closed_and_polling_goes_on(
    instance: Instance, first: str | bytes
) -> None:
    async with upgrading(instance, POLLING) as (session, websocket):
        await websocket.send(first)
        assert (await end_of(websocket))[1] == []
        await goes_on_polling(instance, session)


@pytest.mark.parametrize("second", ["2probe", "5 ", '42["x"]', "6", "", b"5"])
async def test_a_websocket_that_goes_on_with_anything_but_an_upgrade_is_closed_and_polling_goes_on(
    instance: Instance, second: str | bytes
) -> None:
    async with upgrading(instance, POLLING) as (session, websocket):
        await probe(websocket)
        await websocket.send(second)
        assert (await end_of(websocket))[1] == []
        await until(lambda: not of(instance).upgrading)
        await goes_on_polling(instance, session)


async def test_after_an_upgrade_that_came_to_nothing_another_may_succeed(instance: Instance) -> None:
    async with upgrading(instance, POLLING) as (session, websocket):
        await probe(websocket)
        websocket.websocket.writer.close()
        await until(lambda: not of(instance).upgrading)
        async with WebSocket.open(instance, path("websocket", sid=session.sid)) as connection:
            again = ByWebSocket(instance, Kind("websocket"), connection)
            await probe(again)
            await again.send("5")
            await goes_on(again)


async def test_a_session_that_ends_in_its_upgrade_ends_on_both_transports(
    instance: Instance, poller: Kind
) -> None:
    async with upgrading(instance, poller) as (session, websocket):
        await probe(websocket)
        await session.send("1")
        await session.get()
        await end_of(websocket)
        with pytest.raises(EndedError):
            await session.send("4x")
        await until(instance.nothing_left)
