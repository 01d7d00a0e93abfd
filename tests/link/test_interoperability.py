"""The bus speaks python-socketio's own format: stock managers and stock servers share it with this layer."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pickle
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import socketio
import uvicorn

from sim.processes.redis import RedisServer
from tests.support.stack import Client, client, make_settings, running, until


class Exploit:
    """What an attacker with access to Redis would publish."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


@contextlib.asynccontextmanager
async def stock_server(redis_url: str) -> AsyncIterator[tuple[socketio.AsyncServer, str]]:
    """An unmodified python-socketio server on the same bus; its clients are in the room ``channel:general``."""
    sio = socketio.AsyncServer(async_mode="asgi", client_manager=socketio.AsyncRedisManager(redis_url))

    @sio.event
    async def connect(sid: str, _environ: dict[str, Any]) -> None:
        await sio.enter_room(sid, "channel:general")

    app = socketio.ASGIApp(sio, socketio_path="/ws/socket.io")
    config = uvicorn.Config(app, host="127.0.0.1", port=0, lifespan="off", log_config=None, access_log=False)
    config.ws_ping_interval = None
    web = uvicorn.Server(config)
    serving = asyncio.create_task(web._serve())
    await until(lambda: web.started)
    try:
        yield sio, f"http://127.0.0.1:{web.servers[0].sockets[0].getsockname()[1]}"
    finally:
        web.should_exit = True
        await serving
        sio.manager.thread.cancel()
        await asyncio.gather(sio.manager.thread, return_exceptions=True)
        await sio.manager.pubsub.aclose()
        await sio.manager.redis.aclose()
        await sio.shutdown()


async def listening(server: RedisServer, number: int) -> None:
    """Until so many instances hear the common channel."""

    async with asyncio.timeout(5):
        while await asyncio.to_thread(server.execute, "PUBSUB", "NUMSUB", "socketio") != ["socketio", number]:
            await asyncio.sleep(0.02)


async def heard(by: Client, event: str, data: Any) -> None:
    await by.wait_for(event, lambda got: got == data)


@pytest.mark.parametrize("room_channels", [True, False])
async def test_an_external_write_only_manager_reaches_everyone(
    room_channels: bool, redis_server: RedisServer
) -> None:
    settings = [
        make_settings(redis_server.url, websocket_redis_room_channels=room_channels) for _ in range(2)
    ]
    outside = socketio.AsyncRedisManager(redis_server.url, write_only=True)
    async with (
        running(settings[0]) as one,
        running(settings[1]) as two,
        client(one.url, "ann") as ann,
        client(two.url, "bob", transports=("polling",)) as bob,
        client(two.url) as stranger,
    ):
        await outside.emit("news", {"to": "all"})
        await outside.emit("news", {"to": "channel"}, room="channel:general")
        await outside.emit("news", {"to": "ann"}, room="user:ann")
        await outside.emit("news", {"to": "bob"}, room=bob.sid)
        await outside.emit("news", b"\x00binary", room=["user:ann", "user:bob"])
        blocking = socketio.RedisManager(redis_server.url, write_only=True)
        await asyncio.to_thread(blocking.emit, "news", "end")
        for each in (ann, bob):
            await heard(each, "news", "end")
        common = [{"to": "all"}, {"to": "channel"}]
        assert ann.of("news") == [*common, {"to": "ann"}, b"\x00binary", "end"]
        assert bob.of("news") == [*common, {"to": "bob"}, b"\x00binary", "end"]
        assert stranger.of("news") == []
        blocking.redis.close()
    await outside.redis.aclose()


async def test_a_stock_server_and_ours_reach_each_others_clients(redis_server: RedisServer) -> None:
    async with (
        running(make_settings(redis_server.url, websocket_redis_room_channels=False)) as ours,
        stock_server(redis_server.url) as (stock, stock_url),
        client(ours.url, "ann") as ann,
        client(stock_url, on_call=lambda data: ["stock says", data]) as old,
        client(ours.url, "bob", on_call=lambda data: {"ours says": data}) as bob,
    ):
        await listening(redis_server, 2)
        # Ours to stock: an emit of the application, and what a client of ours says in a channel.
        await ours.server.wire.emit("news", {"from": "ours"}, room="channel:general")
        await heard(old, "news", {"from": "ours"})
        await ann.sio.emit("channel-events", {"channel_id": "general", "data": {"type": "typing"}})
        await old.wait_for("channel-events", lambda data: data["user"]["id"] == "ann")
        # Stock to ours: to a room, a session, everyone.
        await stock.emit("news", {"from": "stock"}, room="channel:general")
        await stock.emit("news", [1, 2], room=ann.sid)
        await stock.emit("news", None)
        await heard(ann, "news", None)
        assert ann.of("news") == [{"from": "ours"}, {"from": "stock"}, [1, 2], None]
        assert old.of("news") == [{"from": "ours"}, {"from": "stock"}, None]
        # Calls, there and back.
        assert await ours.server.wire.call("chat-events", 7, to=old.sid, timeout=5) == ["stock says", 7]
        assert await stock.call("chat-events", 8, to=bob.sid, timeout=5) == {"ours says": 8}
        # Rooms and ends.
        await stock.enter_room(ann.sid, "extra")
        await ours.server.wire.enter_room(old.sid, "extra")
        await stock.emit("extra", 1, room="extra")
        await heard(ann, "extra", 1)
        await heard(old, "extra", 1)
        await stock.disconnect(ann.sid)
        await ann.wait_for("disconnect")
        await ours.server.wire.disconnect(old.sid)
        await old.wait_for("disconnect")


async def test_a_pickle_on_the_bus_is_never_read_and_does_no_harm(
    redis_server: RedisServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outside = socketio.AsyncRedisManager(redis_server.url, write_only=True)
    async with running(make_settings(redis_server.url)) as one, client(one.url, "ann") as ann:
        target = tmp_path / "harmed"
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            redis_server.execute("PUBLISH", "socketio", pickle.dumps(Exploit(target), protocol))
        for rubbish in (b"", b"\xff\xfe", b"{", b"null", b"[]", b"7", b'{"method": "emit"}', b"[" * 100_000):
            redis_server.execute("PUBLISH", "socketio", rubbish)
        await outside.emit("news", "after")
        await heard(ann, "news", "after")
        assert not target.exists()
        assert one.server.wire.counters.bus_pickle == pickle.HIGHEST_PROTOCOL - 1  # 0 and 1 look like text
        assert sum("pickle" in record.message for record in caplog.records) == 1
        assert not any(record.exc_info for record in caplog.records if record.levelno >= logging.WARNING)
    await outside.redis.aclose()
