"""What Node's socket.io-client makes of refusals, closes, order and binary data."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from realtime.errors import Close, TooManySessions
from tests.support.node_client import NodeClient, NodeConnectError

from .lab import serving, until

MODES: list[Any] = [
    pytest.param({"transports": ["websocket"]}, id="websocket"),
    pytest.param({"transports": ["polling"]}, id="polling"),
    pytest.param({"transports": ["polling", "websocket"]}, id="upgrade"),
]
COMING_BACK = {"reconnection": True, "reconnectionDelay": 50, "reconnectionDelayMax": 100}


@pytest.mark.parametrize("mode", MODES)
async def test_node_comes_back_by_itself_when_it_may(node_client: NodeClient, mode: Any) -> None:
    async with serving() as instance:
        await node_client.connect(instance.http, path="/socket.io", **mode, **COMING_BACK)
        if len(mode["transports"]) == 2:
            await node_client.wait_for_any(["upgrade"])
        (first,) = instance.manager.book.members
        seen = len(node_client.seen)
        await instance.server.close(first, Close.DRAINING)
        assert (await node_client.wait_for("closing")).data["code"] == 4010
        await node_client.wait_for_any(["connect"], after=seen)
        await until(lambda: set(instance.manager.book.members) - {first})
        await node_client.kill()


@pytest.mark.parametrize("mode", MODES)
async def test_node_stays_away_when_it_must(node_client: NodeClient, mode: Any) -> None:
    async with serving() as instance:
        await node_client.connect(instance.http, path="/socket.io", **mode, **COMING_BACK)
        (sid,) = instance.manager.book.members
        await instance.server.close(sid, Close.KICKED)
        left = await node_client.wait_for_any(["disconnect"])
        assert "io server disconnect" in left.detail.values()
        assert (await node_client.wait_for("closing")).data == {
            "code": 4004,
            "reason": Close.KICKED.value.reason,
        }
        await until(instance.nothing_left)
        await asyncio.sleep(0.3)  # several times the delay after which it would come back
        assert not (await node_client.state())["connected"]


async def test_node_sees_the_message_and_the_code_of_a_refusal(node_client: NodeClient) -> None:
    async with serving() as instance:

        @instance.server.on("connect")
        async def connect(sid: str, environ: Any, auth: Any) -> None:
            raise TooManySessions()

        with pytest.raises(NodeConnectError) as caught:
            await node_client.connect(instance.http, path="/socket.io")
        assert caught.value.message == str(TooManySessions())
        assert caught.value.data == {"code": "too-many-sessions"}
        await until(instance.nothing_left)


@pytest.mark.parametrize("mode", MODES)
async def test_node_sends_and_receives_binary_events_calls_and_bursts_in_order(
    node_client: NodeClient, mode: Any
) -> None:
    async with serving() as instance:
        seen: list[Any] = []

        @instance.server.on("n")
        async def number(sid: str, n: int) -> None:
            await asyncio.sleep(0)
            seen.append(n)

        instance.server.on("echo", lambda sid, what: what)
        await node_client.connect(instance.http, path="/socket.io", **mode)
        (sid,) = instance.manager.book.members
        assert await node_client.call("echo", b"\x00\x01") == b"\x00\x01"
        await node_client.reply_echo("ask")
        assert await instance.server.call("ask", {"b": b"\xff"}, sid=sid, timeout=5) == {"b": b"\xff"}
        await asyncio.gather(*(node_client.emit("n", n) for n in range(60)))
        await until(lambda: len(seen) == 60)
        assert seen == list(range(60))
        await node_client.kill()
