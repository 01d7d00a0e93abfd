"""How connections are closed by the server, and what clients make of it."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from realtime.errors import Close

from .lab import BOUND, Client, Polling, Websocket, event, parsed, serving, until

TRANSPORTS = ["websocket", "polling", "polling+websocket"]


def only(instance: Any) -> str:
    (sid,) = instance.manager.book.members
    return str(sid)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_client_that_may_come_back_is_told_and_reconnects_by_itself(transport: str) -> None:
    async with serving() as instance:
        left: list[str] = []
        instance.server.on("disconnect", lambda sid, reason: left.append(sid))
        async with Client.to(instance, transport) as client:
            first = only(instance)
            if transport == "polling+websocket":
                await until(lambda: client.sio.transport() == "websocket")
            await instance.server.close(first, Close.DRAINING)
            closing = await client.got("closing")
            assert closing[1] == {"code": 4010, "reason": "server is shutting down"}
            await until(lambda: client.events.count(("connect",)) == 2, "a second connect")
            assert only(instance) != first
            assert left == [first]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_client_that_must_not_come_back_gets_a_disconnect_and_stays_away(transport: str) -> None:
    async with serving() as instance, Client.to(instance, transport) as client:
        await instance.server.close(only(instance), Close.KICKED)
        assert (await client.got("closing"))[1]["code"] == 4004
        assert await client.got("disconnect") == ("disconnect", "server disconnect")
        await until(instance.nothing_left)
        await asyncio.wait_for(client.sio.eio.wait(), BOUND)
        assert client.sio._reconnect_task is None
        assert client.events.count(("connect",)) == 1


@pytest.mark.parametrize(
    ("close", "code", "packets"),
    [(Close.KICKED, 4004, 2), (Close.DRAINING, 1012, 1)],
)
async def test_a_websocket_is_closed_with_a_code_and_a_reason(close: Close, code: int, packets: int) -> None:
    async with serving() as instance:
        async with Websocket.to(instance) as client:
            await instance.server.close(only(instance), close)
            got = await client.closed()
            assert got[:2] == (code, close.value.reason)
            assert len(got[2]) == packets
        await until(instance.nothing_left)


@pytest.mark.parametrize("close", [Close.KICKED, Close.DRAINING])
async def test_a_pending_poll_returns_at_once_and_the_next_one_is_refused(close: Close) -> None:
    async with serving() as instance, Polling.to(instance) as client:
        pending = asyncio.create_task(client.get())
        session = next(iter(instance.server.eio.sockets.values()))
        await until(lambda: session.polling)
        began = time.monotonic()
        await instance.server.close(only(instance), close)
        status, payload = await pending
        assert time.monotonic() - began < 2.0
        packets = payload.split("\x1e")
        assert status == 200
        assert parsed(packets[0])[0] == "closing"
        assert packets[1:] == ([] if close.value.reconnect else ["41"])
        assert (await client.get())[0] == 400
        await until(instance.nothing_left)


async def test_a_session_without_a_pending_poll_gets_its_last_packets_with_the_next_one() -> None:
    async with serving() as instance, Polling.to(instance) as client:
        await instance.server.close(only(instance), Close.KICKED)
        assert await client.post(event("ignored")) == 200
        status, payload = await client.get()
        assert status == 200
        assert "closing" in payload
        assert (await client.get())[0] == 400


async def test_a_session_whose_client_never_polls_again_is_forgotten() -> None:
    async with serving() as instance, Polling.to(instance):
        session = next(iter(instance.server.eio.sockets.values()))
        session.linger = 0.05
        await instance.server.close(only(instance), Close.KICKED)
        await until(instance.nothing_left)


@pytest.mark.parametrize("how", ["close", "disconnect", "disconnect in connect", "close in connect"])
async def test_a_handler_may_close_its_own_socket_without_waiting_for_itself(how: str) -> None:
    async with serving() as instance:
        runs: list[str] = []

        async def end(sid: str, *args: Any) -> None:
            if how.startswith("close"):
                await instance.server.close(sid, Close.KICKED)
            else:
                await instance.server.disconnect(sid)
            runs.append("handler")

        instance.server.on("end", end)
        instance.server.on("disconnect", lambda sid, reason: runs.append(reason))
        if how.endswith("in connect"):
            instance.server.on("connect", end)
            async with Websocket.to(instance, connect=False) as client:
                await client.send("40")
                assert (await client.receive()).startswith("44{")
        else:
            async with Websocket.to(instance) as client:
                await client.send(event("end"))
                packets = [await client.receive()]
                if how == "close":
                    packets.append(await client.receive())
                assert packets[-1] == "41"
        await until(instance.nothing_left)
        assert runs == ["handler", "server disconnect"]


async def test_disconnecting_a_namespace_leaves_the_transport_and_delivers_nothing_more_to_it() -> None:
    async with serving(namespaces=["/", "/other"]) as instance, Websocket.to(instance) as client:
        sid = only(instance)
        await client.send("40/other,")
        await client.receive()
        await instance.server.enter_room(sid, "r")
        await instance.server.disconnect(sid)
        await instance.server.emit("x", room="r")
        await instance.server.emit("x", to=sid)
        await instance.server.emit("y", namespace="/other")
        assert await client.receive() == "41"
        assert await client.receive() == '42/other,["y"]'


async def test_a_client_whose_close_arrives_by_post_has_its_pending_poll_ended() -> None:
    async with serving() as instance, Polling.to(instance) as client:
        pending = asyncio.create_task(client.get())
        session = next(iter(instance.server.eio.sockets.values()))
        await until(lambda: session.polling)
        assert await client.post("1") == 200
        assert await asyncio.wait_for(pending, 2) == (200, "6")
        assert (await client.get())[0] == 400
        await until(instance.nothing_left)


async def test_a_burst_of_packets_in_one_request_is_served_and_an_undecodable_one_is_refused() -> None:
    async with serving() as instance, Polling.to(instance) as client:
        seen: list[int] = []
        instance.server.on("n", lambda sid, n: seen.append(n))
        assert await client.post(*(event("n", n) for n in range(100))) == 200
        await until(lambda: len(seen) == 100)
        assert seen == list(range(100))
        assert await client.post("x") == 400
        await until(instance.nothing_left)


async def test_fractions_of_a_second_of_the_ping_interval_reach_the_client() -> None:
    async with serving(ping_interval=0.3, ping_timeout=0.7) as instance:
        import aiohttp

        async with (
            aiohttp.ClientSession() as http,
            http.get(f"{instance.http}/socket.io/?EIO=4&transport=polling") as response,
        ):
            handshake = parsed(await response.text())
            assert (handshake["pingInterval"], handshake["pingTimeout"]) == (300, 700)


async def test_closing_the_server_ends_everything_within_its_bound() -> None:
    async with serving() as instance:
        instance.server.on("hang", lambda sid: asyncio.Event().wait())
        async with Websocket.to(instance) as client, Polling.to(instance) as poller:
            await client.send(event("hang"))
            await until(lambda: any(c.lane.busy for c in instance.server.connections.values()))
            pending = asyncio.create_task(poller.get())
            began = time.monotonic()
            await instance.server.aclose(timeout=0.2)
            assert time.monotonic() - began < 5.0
            assert (await pending)[0] == 200
            assert (await client.closed())[0] == 1001
            async with poller.http.get(f"{instance.http}/socket.io/?EIO=4&transport=polling") as response:
                assert response.status == 401
        assert not instance.server.connections
        assert not instance.manager.book.members
