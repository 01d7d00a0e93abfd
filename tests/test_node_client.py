"""The JavaScript client shows what it sees, answers calls and ends; tried on a plain python-socketio server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import psutil
import pytest
import socketio
import uvicorn

from sim.processes.process import free_port
from tests.support.node_client import NodeClient, NodeClientError, NodeConnectError

TRANSPORTS = [
    pytest.param(["websocket"], "websocket", id="websocket"),
    pytest.param(["polling"], "polling", id="polling"),
]


class PlainServer:
    """A stock server: echoes `echo`, acknowledges `sum`, refuses whoever says so."""

    def __init__(self) -> None:
        self.sio = socketio.AsyncServer(async_mode="asgi")
        self.url = ""
        self.reasons: list[str] = []
        self.sio.on("connect", self._connect)
        self.sio.on("disconnect", self._disconnect)
        self.sio.on("echo", self._echo)
        self.sio.on("sum", self._sum)

    async def _connect(self, sid: str, environ: dict[str, Any], auth: dict[str, Any] | None) -> None:
        if auth and auth.get("refuse"):
            raise socketio.exceptions.ConnectionRefusedError("no entry", {"code": "refused"})
        await self.sio.emit("welcome", {"auth": auth}, to=sid)

    async def _disconnect(self, sid: str, reason: str) -> None:
        self.reasons.append(reason)

    async def _echo(self, sid: str, *args: Any) -> None:
        await self.sio.emit("echo", args, to=sid)

    async def _sum(self, sid: str, numbers: list[int]) -> int:
        return sum(numbers)


@pytest.fixture
async def server() -> AsyncIterator[PlainServer]:
    plain = PlainServer()
    port = free_port()
    app = socketio.ASGIApp(plain.sio, socketio_path="/ws/socket.io")
    running = uvicorn.Server(
        uvicorn.Config(
            app,
            host="127.0.0.1",
            port=port,
            log_config=None,
            log_level="warning",
            ws="websockets-sansio",
            ws_ping_interval=None,
        )
    )
    serving = asyncio.create_task(running.serve())
    async with asyncio.timeout(10):
        while not running.started:
            await asyncio.sleep(0.01)
    plain.url = f"http://127.0.0.1:{port}"
    yield plain
    running.should_exit = True
    running.force_exit = True
    await asyncio.wait_for(serving, 10)


@pytest.mark.parametrize(("transports", "used"), TRANSPORTS)
async def test_it_connects_emits_hears_and_gets_acknowledgements(
    server: PlainServer, node_client: NodeClient, transports: list[str], used: str
) -> None:
    connected = await node_client.connect(server.url, auth={"token": "t"}, transports=transports)
    assert connected.detail["transport"] == used
    welcome = await node_client.wait_for("welcome")
    assert welcome.data == {"auth": {"token": "t"}}
    assert await node_client.call("sum", [1, 2, 3]) == 6
    await node_client.emit("echo", "text", {"deep": [1, None, "ü"]})
    heard = await node_client.wait_for("echo")
    assert heard.args == ("text", {"deep": [1, None, "ü"]})
    assert (await node_client.state())["sid"] == connected.detail["sid"]


async def test_it_upgrades_from_polling_to_websocket(server: PlainServer, node_client: NodeClient) -> None:
    connected = await node_client.connect(server.url, transports=["polling", "websocket"])
    assert connected.detail["transport"] in ("polling", "websocket")
    upgrade = await node_client.wait_for_any(["upgrade"])
    assert upgrade.detail["transport"] == "websocket"
    assert await node_client.call("sum", [2, 2]) == 4


async def test_binary_data_passes_both_ways(server: PlainServer, node_client: NodeClient) -> None:
    await node_client.connect(server.url)
    await node_client.emit("echo", {"bytes": b"\x00\xff"}, b"more")
    assert (await node_client.wait_for("echo")).args == ({"bytes": b"\x00\xff"}, b"more")


async def test_the_servers_calls_are_answered_by_rule_or_one_by_one(
    server: PlainServer, node_client: NodeClient
) -> None:
    sid = (await node_client.connect(server.url)).detail["sid"]
    await node_client.reply("ready?", "yes")
    await node_client.reply_echo("same?")
    assert await server.sio.call("ready?", to=sid, timeout=5) == "yes"
    assert await server.sio.call("same?", {"a": 1}, to=sid, timeout=5) == {"a": 1}

    waiting = asyncio.create_task(server.sio.call("how many?", "now", to=sid, timeout=5))
    asked = await node_client.wait_for("how many?", lambda seen: seen.data == "now")
    await node_client.answer(asked, 3)
    assert await waiting == 3


async def test_a_refused_connection_carries_the_servers_words(
    server: PlainServer, node_client: NodeClient
) -> None:
    with pytest.raises(NodeConnectError) as refused:
        await node_client.connect(server.url, auth={"refuse": True})
    assert refused.value.message == "no entry"
    assert refused.value.data == {"code": "refused"}


async def test_a_disconnect_by_the_server_is_seen_with_its_reason(
    server: PlainServer, node_client: NodeClient
) -> None:
    sid = (await node_client.connect(server.url)).detail["sid"]
    await server.sio.disconnect(sid)
    assert (await node_client.wait_for_any(["disconnect"])).detail["reason"] == "io server disconnect"


@pytest.mark.parametrize(
    ("leave", "reason"),
    [("disconnect", "client disconnect"), ("drop", "transport close"), ("kill", "transport close")],
)
async def test_the_server_sees_each_way_of_leaving(
    server: PlainServer, node_client: NodeClient, leave: str, reason: str
) -> None:
    await node_client.connect(server.url)
    await getattr(node_client, leave)()
    async with asyncio.timeout(10):
        while not server.reasons:
            await asyncio.sleep(0.01)
    assert server.reasons == [reason]


async def test_a_dropped_client_comes_back_with_new_auth_if_asked_to_reconnect(
    server: PlainServer, node_client: NodeClient
) -> None:
    await node_client.connect(server.url, auth={"n": 1}, reconnection=True, reconnectionDelay=10)
    await node_client.set_auth({"n": 2})
    before = len(node_client.seen)
    await node_client.drop()
    await node_client.wait_for_any(["connect"], after=before)
    await node_client.wait_for("welcome", lambda seen: seen.data == {"auth": {"n": 2}})


async def test_waiting_in_vain_says_what_was_seen(server: PlainServer, node_client: NodeClient) -> None:
    await node_client.connect(server.url)
    await node_client.wait_for("welcome")
    with pytest.raises(TimeoutError, match=r"event 'nothing': not seen within 0\.05 s; last seen: .*welcome"):
        await node_client.wait_for("nothing", timeout=0.05)


async def test_a_closed_client_leaves_no_process_and_takes_no_commands(
    server: PlainServer, node_modules: object
) -> None:
    async with NodeClient() as client:
        await client.connect(server.url)
        assert client.pid is not None
        pid = client.pid
    assert not psutil.pid_exists(pid)
    with pytest.raises(NodeClientError, match="not running"):
        await client.emit("echo")
