"""The pages on moving: stock python-socketio and ours on one Redis, there and back; Open WebUI's module replaced."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import jwt
import pytest
import socketio

from realtime.auth import create_token
from realtime.errors import SettingsError
from realtime.settings import load_settings
from sim.processes.redis import RedisServer
from tests.e2e.commands import Command, post
from tests.e2e.pages import blocks
from tests.support.stack import until

PAGE = "docs/moving-from-python-socketio.md"
BLOCKS = blocks(PAGE)

pytestmark = [pytest.mark.e2e, pytest.mark.redis]


class Tab:
    """A stock client; ``said`` is what it heard."""

    def __init__(self, client: socketio.AsyncClient) -> None:
        self.client = client
        self.said: list[tuple[str, str]] = []
        client.on("said", lambda data: self.said.append((data["user"], data["text"])))

    async def say(self, text: str) -> None:
        await self.client.emit("say", ("blue", text))

    async def until_said(self, expected: Sequence[tuple[str, str]]) -> None:
        """In any order, each once."""
        await until(
            lambda: sorted(self.said) == sorted(expected),
            10,
            what=lambda: f"{expected}; heard: {self.said!r}",
        )


class Road:
    """Starts what the page shows, with the Redis and the key of the test."""

    def __init__(self, redis: RedisServer) -> None:
        self.redis = redis
        self.secret = secrets.token_urlsafe(48)
        manager, key = BLOCKS["moving-settings"].strip().splitlines()
        url, before = manager.rpartition("=")[2], key.partition('"')[2].rstrip('"')
        self.settings = f"{manager}\n{key}\n".replace(url, redis.url).replace(before, self.secret)

    def instance(self, command: str) -> Command:
        serve = BLOCKS[command].replace("8081", "{port}").replace("8082", "{port}")
        made = Command(self.settings + serve, name=command)
        for name in ("stock", "moved"):
            (made.folder / f"{name}.py").write_text(BLOCKS[name])
        return made

    async def listening(self, instances: int) -> None:
        """So many hear the bus. A stock instance begins to with its first client, and misses what came before."""

        def exactly() -> bool:
            return self.redis.execute("PUBSUB", "NUMSUB", "socketio") == ["socketio", instances]

        await until(exactly, what=f"{instances} instances that hear the bus")

    @asynccontextmanager
    async def tab(self, instance: Command, user: str, *transports: str) -> AsyncIterator[Tab]:
        client = socketio.AsyncClient(reconnection=False)
        tab = Tab(client)
        auth = {"token": create_token(user, self.secret, expires_in=60)}
        by: Any = list(transports or ("websocket",))
        await client.connect(instance.url, auth=auth, transports=by, wait_timeout=10)
        try:
            await client.call("enter", "blue")
            yield tab
        finally:
            await client.shutdown()


@pytest.fixture
def road(redis_server: RedisServer) -> Road:
    return Road(redis_server)


async def everyone_hears_each_other(road: Road, *tabs: Tab) -> None:
    """What each of them says, and what another process says, comes to all of them once."""
    await road.listening(len(tabs))
    before = [list(tab.said) for tab in tabs]
    outside = socketio.AsyncRedisManager(road.redis.url, write_only=True)
    await outside.emit("said", {"user": "", "text": "outside"}, room="team:blue")
    for number, tab in enumerate(tabs):
        await tab.say(str(number))
        expected = {("", "outside")} | {
            (user, str(each)) for each, user in zip(range(number + 1), NAMES, strict=False)
        }
        for other, old in zip(tabs, before, strict=True):
            await other.until_said(old + sorted(expected))
    await outside.redis.aclose()


NAMES = ("ann", "bob", "cleo")


async def test_stock_and_ours_take_each_other_s_place_there_and_back(road: Road) -> None:
    async with road.instance("moving-beside") as ours, road.tab(ours, "bob", "polling") as bob:
        async with road.instance("moving-stock") as stock, road.tab(stock, "ann") as ann:
            await everyone_hears_each_other(road, ann, bob)
        await road.listening(1)
        async with road.instance("moving-on") as last, road.tab(last, "ann") as ann:
            await everyone_hears_each_other(road, ann, bob)
        await road.listening(1)
        async with road.instance("moving-stock") as stock, road.tab(stock, "ann", "polling") as ann:
            await everyone_hears_each_other(road, ann, bob)
            stock.kill()  # or ann's client waits 25 s for the poll that a stock server leaves open when it goes


async def test_rooms_of_their_own_are_not_heard_by_stock_instances(road: Road) -> None:
    """Why the page has its steps in that order."""
    async with (
        road.instance("moving-on") as ours,
        road.instance("moving-stock") as stock,
        road.tab(ours, "bob") as bob,
        road.tab(stock, "ann") as ann,
    ):
        await bob.say("in the room")
        await until(lambda: bob.said == [("bob", "in the room")])
        await ann.say("to all")
        await until(lambda: bob.said[1:] == [("ann", "to all")])
        assert ann.said == [("ann", "to all")]


async def test_the_moved_application_turns_strangers_and_old_pages_away(road: Road) -> None:
    async with road.instance("moving-on") as ours:
        client = socketio.AsyncClient(reconnection=False)
        await client.connect(ours.url, transports=["websocket"])
        assert (await client.call("enter", "blue"))["error"]["code"] == "not-authenticated"
        await client.shutdown()
        old = socketio.AsyncClient(reconnection=False)
        told: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        old.on("connect_error", lambda data: told.done() or told.set_result(data))
        with pytest.raises(socketio.exceptions.ConnectionError):
            await old.connect(ours.url, auth={"version": 1}, transports=["websocket"], wait_timeout=5)
        assert (await told)["message"] == "reload the page"
        await old.shutdown()


OPEN_WEBUI = blocks("docs/moving-from-open-webui.md")

# What the page's programs use of Open WebUI's tables, with two users and one channel in them.
USERS = """
from types import SimpleNamespace

class Users:
    active = []

    def get_user_by_id(id):
        return id in ("ann", "bob") and SimpleNamespace(id=id, name=id.title(), role="user", profile_image_url="/a.png")

    def update_last_active_by_id(id):
        Users.active.append(id)
"""
CHANNELS = """
from types import SimpleNamespace

class Channels:
    def get_channels_by_user_id(id):
        return [SimpleNamespace(id="general")]
"""
CHATS = """
class Chats:
    kept = {}

    def get_message_by_id_and_message_id(id, message_id):
        return Chats.kept.get((id, message_id))

    def upsert_message_to_chat_by_id_and_message_id(id, message_id, message):
        Chats.kept.setdefault((id, message_id), {}).update(message)

    def add_message_status_to_chat_by_id_and_message_id(id, message_id, status):
        Chats.kept.setdefault((id, message_id), {}).setdefault("statusHistory", []).append(status)
"""
# Looks that the test takes from inside.
ROUTES = """
from open_webui.models.chats import Chats
from open_webui.models.users import Users
from open_webui.socket.main import get_event_emitter, get_models_in_use, get_user_ids_from_room

@app.post("/answer")
async def answer():
    emit = get_event_emitter({"user_id": "ann", "session_id": "x", "chat_id": "c", "message_id": "m"})
    await emit({"type": "status", "data": {"done": False}})
    for word in ("Hello ", "ann"):
        await emit({"type": "message", "data": {"content": word}})
    members = await get_user_ids_from_room("channel:general")
    return [Chats.kept["c", "m"], await get_models_in_use(), members, Users.active]
"""


async def test_open_webui_s_module_is_replaced_as_the_page_shows(redis_server: RedisServer) -> None:
    manager, key, serve = OPEN_WEBUI["owui-serve"].strip().splitlines()
    secret = secrets.token_urlsafe(48)
    settings = manager.replace("redis://127.0.0.1:6379/0", redis_server.url)
    before = key.partition('"')[2].rstrip('"')
    made = Command("\n".join([settings, key.replace(before, secret), serve.replace("8080", "{port}")]))
    files = {
        "models/users": USERS,
        "models/channels": CHANNELS,
        "models/chats": CHATS,
        "socket/main": OPEN_WEBUI["owui-socket"],
        "main": OPEN_WEBUI["owui-main"] + ROUTES,
    }
    for name, source in files.items():
        file = made.folder / "open_webui" / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source)
    async with made:
        # As Open WebUI's browser does it: a token of its own making, then user-join.
        token = jwt.encode({"id": "ann", "exp": int(time.time()) + 60}, secret, algorithm="HS256")
        client = socketio.AsyncClient(reconnection=False)
        seen: dict[str, list[Any]] = {}
        client.on("*", lambda event, data: seen.setdefault(event, []).append(data))
        await client.connect(
            made.url, socketio_path="/ws/socket.io", auth={"token": token}, transports=["websocket"]
        )
        try:
            assert await client.call("user-join", {"auth": {"token": token}}) == {"id": "ann", "name": "Ann"}
            await client.call("usage", {"model": "llama"})
            await client.call("heartbeat", {})
            await client.emit("channel-events", {"channel_id": "general", "data": {"type": "typing"}})
            await until(
                lambda: {"user-list", "usage", "channel-events"} <= seen.keys(), what=lambda: str(seen)
            )
            kept, models, members, active = await asyncio.to_thread(post, f"{made.url}/answer")
            assert kept == {"content": "Hello ann", "statusHistory": [{"done": False}]}
            assert (models, members, active) == (["llama"], ["ann"], ["ann"])
            await until(lambda: len(seen.get("chat-events", ())) == 3, what=lambda: str(seen))
            channels = await asyncio.to_thread(redis_server.execute, "PUBSUB", "CHANNELS")
            assert "realtime" in channels
            assert "socketio" not in channels
            keys = await asyncio.to_thread(redis_server.execute, "KEYS", "*")
            assert keys
            assert all(key.startswith("{open-webui:realtime}:") for key in keys)
        finally:
            await client.shutdown()


@pytest.mark.parametrize("key", ["t0p-s3cr3t", "q83vASNFZ4mrze8B"])
def test_open_webui_s_own_keys_are_refused_as_the_page_says(key: str) -> None:
    """Its default, and one as its start.sh makes it: 12 random bytes in base64."""
    with pytest.raises(SettingsError, match="WEBUI_SECRET_KEY"):
        load_settings(webui_secret_key=key)
