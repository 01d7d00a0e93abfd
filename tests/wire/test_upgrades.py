"""How a session moves from polling to a websocket, and requests that are not what they should be."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import websockets
from fastapi import FastAPI

from realtime.app import mount
from realtime.directory.memory import MemoryDirectory
from realtime.errors import Close
from realtime.server import RealtimeServer
from realtime.settings import load_settings
from realtime.wire import engine

from .lab import BOUND, Instance, Polling, Websocket, event, parsed, running, serving, until


@asynccontextmanager
async def upgrading(client: Polling, transport: str = "websocket") -> AsyncIterator[Websocket]:
    url = client.url.replace("http", "ws", 1).replace("transport=polling", f"transport={transport}")
    async with websockets.connect(url, open_timeout=BOUND, close_timeout=1) as connection:
        yield Websocket(connection)


def session_of(instance: Instance) -> engine.WireSocket:
    (session,) = instance.server.eio.sockets.values()
    assert isinstance(session, engine.WireSocket)
    return session


async def test_a_session_moves_to_a_websocket_and_goes_on_there() -> None:
    async with serving() as instance, Polling.to(instance) as poller:
        instance.server.on("echo", lambda sid, value: value)
        async with upgrading(poller) as client:
            await client.send("2probe")
            assert await client.receive() == "3probe"
            await client.send("5")
            await client.send("420" + event("echo", 1)[2:])
            assert await client.receive() == "430[1]"
        await until(instance.nothing_left)


@pytest.mark.parametrize("probe", [False, True])
async def test_a_websocket_that_a_session_does_not_move_to_is_closed_and_polling_goes_on(probe: bool) -> None:
    async with serving(ping_timeout=0.3) as instance, Polling.to(instance) as poller:
        async with upgrading(poller) as client:
            if probe:
                await client.send("2probe")
                assert await client.receive() == "3probe"
            assert (await client.closed())[0] == 1000
        await until(lambda: not session_of(instance).upgrading)
        await instance.server.emit("x")
        while (packet := await poller.receive()) == "6":
            pass
        assert packet == '42["x"]'


async def test_a_websocket_that_left_before_its_session_moved_leaves_polling_as_it_was() -> None:
    async with serving() as instance, Polling.to(instance) as poller:
        async with upgrading(poller):
            await until(lambda: session_of(instance).upgrading)
        await until(lambda: not session_of(instance).upgrading)
        await instance.server.emit("x")
        assert await poller.receive() == '42["x"]'


async def test_a_second_websocket_for_a_session_that_is_moving_is_refused() -> None:
    async with serving() as instance, Polling.to(instance) as poller, upgrading(poller) as client:
        with pytest.raises(websockets.InvalidStatus):
            async with upgrading(poller):
                pass
        await client.send("2probe")
        assert await client.receive() == "3probe"


async def test_a_session_that_ends_takes_the_websocket_it_was_moving_to_along(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine.WireSocket, "linger", 0.05)
    async with serving() as instance, Polling.to(instance) as poller, upgrading(poller) as client:
        await until(lambda: session_of(instance).upgrading)
        session_of(instance).shut("transport error", code=4004)
        assert (await client.closed())[0] == 4004
        await until(instance.nothing_left)


async def test_who_still_polls_gets_the_last_packets_though_a_websocket_waits() -> None:
    async with serving() as instance, Polling.to(instance) as poller, upgrading(poller) as client:
        await until(lambda: session_of(instance).upgrading)
        (sid,) = instance.manager.book.members
        await instance.server.close(sid, Close.KICKED)
        assert parsed(await poller.receive())[0] == "closing"
        assert await poller.receive() == "41"
        assert (await client.closed())[0] == 4004
        await until(instance.nothing_left)


async def test_where_only_polling_is_allowed_no_session_moves_and_none_is_told_that_it_may() -> None:
    async with serving(transports=["polling"]) as instance, Polling.to(instance) as poller:
        for transport in ("polling", "websocket"):
            with pytest.raises(websockets.InvalidStatus):
                async with upgrading(poller, transport):
                    pass
        async with poller.http.get(f"{instance.http}/socket.io/?EIO=4&transport=polling") as response:
            assert json.loads((await response.text())[1:])["upgrades"] == []


# --- requests


async def test_a_request_that_ends_before_its_body_came_is_answered_nothing() -> None:
    async with serving() as instance:
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/socket.io/", "headers": []}
        await asyncio.wait_for(instance.server.handle_request(scope, receive, send), BOUND)
        assert sent == []


async def test_every_other_path_of_the_mount_is_refused_without_an_error() -> None:
    app = FastAPI()
    mount(app, RealtimeServer(load_settings(demo=True), MemoryDirectory()))
    async with running(None, app) as port:
        with pytest.raises(websockets.InvalidStatus) as refused:
            async with websockets.connect(f"ws://127.0.0.1:{port}/ws/other", open_timeout=BOUND):
                pass
        assert refused.value.response.status_code == 403
        import aiohttp

        async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{port}/ws/other") as response:
            assert response.status == 404
