"""docs/moving-from-python-socketio.md, walked there and back: stock instances and ours on one Redis."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import socketio

from realtime.auth import create_token
from sim.processes.redis import RedisServer
from tests.e2e.commands import Command
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
    before = [list(tab.said) for tab in tabs]
    outside = socketio.AsyncRedisManager(road.redis.url, write_only=True)
    await outside.emit("said", {"user": "", "text": "outside"}, room="team:blue")
    for number, tab in enumerate(tabs):
        await tab.say(str(number))
        expected = {("", "outside")} | {
            (user, str(each)) for each, user in zip(range(number + 1), NAMES, strict=False)
        }
        for other, old in zip(tabs, before, strict=True):
            await until(_heard(other, old, expected), 10, what=f"{expected}; heard: {other.said!r}")
    await outside.redis.aclose()


NAMES = ("ann", "bob", "cleo")


def _heard(tab: Tab, old: list[tuple[str, str]], expected: set[tuple[str, str]]) -> Callable[[], bool]:
    return lambda: sorted(tab.said[len(old) :]) == sorted(expected)


async def test_stock_and_ours_take_each_other_s_place_there_and_back(road: Road) -> None:
    async with road.instance("moving-beside") as ours, road.tab(ours, "bob", "polling") as bob:
        async with road.instance("moving-stock") as stock, road.tab(stock, "ann") as ann:
            await everyone_hears_each_other(road, ann, bob)
        async with road.instance("moving-on") as last, road.tab(last, "ann") as ann:
            await everyone_hears_each_other(road, ann, bob)
        async with road.instance("moving-stock") as stock, road.tab(stock, "ann", "polling") as ann:
            await everyone_hears_each_other(road, ann, bob)


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
