"""Fleets for the tests of events: one instance in memory or two on a Redis, barriers, and a look at everything kept."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Any

import aiohttp
import socketio

from realtime.directory import User
from realtime.directory.memory import MemoryDirectory
from realtime.messages import MessageStore
from realtime.server import RealtimeServer
from realtime.settings import Settings
from realtime.state import Change, codec
from tests.support.stack import Client, Instance, client, make_settings, running, token_for, until

TRANSPORTS = ("websocket", "polling")


def people(**channels_of: list[str]) -> MemoryDirectory:
    """A directory: ``people(ann=["red"], bob=[])``."""
    directory = MemoryDirectory()
    for user_id, channels in channels_of.items():
        directory.add_user(person(user_id))
        for channel in channels:
            directory.add_member(channel, user_id)
    return directory


def person(user_id: str) -> User:
    return User(user_id, user_id.title(), "user", f"/{user_id}.png")


def public(user_id: str) -> dict[str, str]:
    """What others are shown of ``person(user_id)``."""
    return {
        "id": user_id,
        "name": user_id.title(),
        "role": "user",
        "profile_image_url": f"/{user_id}.png",
    }


class Fleet:
    """Instances that share state and directory: two over Redis, or one in memory, which then is ``one`` and ``two``."""

    def __init__(self, instances: list[Instance], directory: MemoryDirectory) -> None:
        self.one, self.two = instances[0], instances[-1]
        self.instances = instances
        self.directory = directory

    @property
    def servers(self) -> list[RealtimeServer]:
        return [instance.server for instance in self.instances]


Prepare = Callable[[RealtimeServer], None]


@contextlib.asynccontextmanager
async def fleet_of(
    settings: list[Settings],
    directory: MemoryDirectory | None = None,
    *,
    messages: MessageStore | None = None,
    prepare: Prepare | None = None,
) -> AsyncIterator[Fleet]:
    directory = directory or people(ann=["red"], bob=["red", "blue"], eve=["blue"])
    managers = [running(each, directory, messages=messages, prepare=prepare) for each in settings]
    instances: list[Instance] = []
    try:
        for manager in managers:
            instances.append(await manager.__aenter__())  # noqa: PERF401  # those that started must be ended
        yield Fleet(instances, directory)
    finally:
        # All at once: uvicorn takes its time for it.
        begun = managers[: len(instances)]
        await asyncio.gather(*(manager.__aexit__(None, None, None) for manager in begun))


class Gate:
    """A barrier in a coroutine function. A call that ``when`` picks waits before it runs, or with ``after`` between its
    effect and its answer, until the gate is opened."""

    def __init__(
        self, owner: object, name: str, *, when: Callable[..., object] | None = None, after: bool = False
    ) -> None:
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()
        real = getattr(owner, name)

        async def guarded(*args: Any, **kwargs: Any) -> Any:
            if when is not None and not when(*args, **kwargs):
                return await real(*args, **kwargs)
            answer = await real(*args, **kwargs) if after else None
            self.reached.set()
            await self.opened.wait()
            return answer if after else await real(*args, **kwargs)

        setattr(owner, name, guarded)

    async def wait(self) -> None:
        """Until a call stands before the gate."""
        async with asyncio.timeout(5):
            await self.reached.wait()

    def open(self) -> None:
        self.opened.set()


class Failing:
    """Makes a coroutine function raise, with ``after`` once it has done its work, until it is mended."""

    def __init__(self, owner: object, name: str, error: BaseException, *, after: bool = False) -> None:
        real = getattr(owner, name)
        self.failed = 0
        self.mend = lambda: setattr(owner, name, real)

        async def broken(*args: Any, **kwargs: Any) -> Any:
            if after:
                await real(*args, **kwargs)
            self.failed += 1
            raise error

        setattr(owner, name, broken)


def breaks(owner: object, name: str, error: BaseException, *, after: bool = False) -> Callable[[], None]:
    """As ``Failing``; the result mends it."""
    return Failing(owner, name, error, after=after).mend


async def eventually(true: Callable[[], Awaitable[object]], within: float = 5.0) -> None:
    """Waits until an awaited condition holds."""
    async with asyncio.timeout(within):
        while not await true():
            await asyncio.sleep(0.005)


def lose(server: RealtimeServer, lost: Callable[[Change], object]) -> None:
    """From now on the server does not hear the changes that ``lost`` picks."""
    state: Any = server.state

    def apply(change: Change) -> None:
        if not lost(change):
            server.replica.apply(change)

    if server._link is None:
        state._listeners[:] = [apply]
        return
    receivers: Any = server._link.subscriber._receivers
    receivers[f"{state.root}:changes".encode()] = [lambda message: apply(codec.parse_change(message))]


async def refusal(url: str, user_id: str, *, transport: str = "websocket") -> dict[str, Any]:
    """Connects and says what the CONNECT_ERROR that comes back carries."""
    refused: list[dict[str, Any]] = []
    sio = socketio.AsyncClient(reconnection=False)
    sio.on("connect_error", refused.append)
    try:
        with contextlib.suppress(socketio.exceptions.ConnectionError):
            await sio.connect(
                url,
                socketio_path="/ws/socket.io",
                auth={"token": token_for(user_id)},
                transports=[transport],
                wait_timeout=10,
            )
    finally:
        await sio.shutdown()
    assert refused, "it was let in"
    return refused[0]


class Polling:
    """A client by hand that polls when it is told to."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http = http
        self._url = f"{url}/ws/socket.io/?EIO=4&transport=polling"
        self.sid = ""

    async def open(self) -> None:
        async with self._http.get(self._url) as answer:
            self.sid = json.loads((await answer.text())[1:])["sid"]

    async def post(self, text: str) -> None:
        async with self._http.post(f"{self._url}&sid={self.sid}", data=text) as answer:
            assert answer.status == 200, await answer.text()


@contextlib.asynccontextmanager
async def polling(url: str) -> AsyncIterator[Polling]:
    async with aiohttp.ClientSession() as http:
        it = Polling(http, url)
        await it.open()
        yield it


async def ask(it: Client, event: str, *args: Any) -> Any:
    """The ack of an event sent with these arguments."""
    return await it.sio.call(event, args, timeout=5)


async def join_as(it: Client, user_id: str, **claims: Any) -> Any:
    return await ask(it, "user-join", {"auth": {"token": token_for(user_id, **claims)}})


async def heard(it: Client) -> list[tuple[str, Any]]:
    """All that the client was sent until now: an ack comes after it."""
    await ask(it, "user-join", None)
    return it.seen


def code(ack: Any) -> str:
    """The code of an ack that says what is wrong, and in which shape."""
    assert set(ack) == {"error"}, ack
    assert set(ack["error"]) == {"code", "message"}, ack
    assert ack["error"]["message"]
    return str(ack["error"]["code"])


async def dump(server: RealtimeServer) -> dict[str, Any]:
    """What the shared state and this instance hold of sessions."""
    state = server.state
    snapshot = await state.snapshot()
    return {
        "sessions": await state.sessions(),
        "users": await state.users(),
        "usage": {model: set(sids) for model, sids in (await state.usage()).items()},
        "version": snapshot.version,
        "models": snapshot.models,
        "local": {local.session.sid: local.session for local in server.sessions},
        "rooms": {room: set(sids) for room, sids in server.manager.book.tables.get("/", {}).items()},
        "admitted": set(server.manager.book.admitted),
    }


def places_of(needle: str, root: object) -> list[str]:
    """Where in everything that ``root`` holds a text occurs: key or value, however deep, in objects of ours and of the
    Socket.IO libraries."""
    found: list[str] = []
    seen: set[int] = set()
    waiting: deque[tuple[str, object]] = deque([("", root)])
    while waiting:
        path, thing = waiting.popleft()
        if isinstance(thing, str | bytes):
            if needle in (thing if isinstance(thing, str) else thing.decode(errors="replace")):
                found.append(path)
            continue
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        waiting.extend((f"{path}{step}", part) for step, part in _parts(thing))
    return found


def _parts(thing: object) -> Iterator[tuple[str, object]]:
    if isinstance(thing, Mapping):
        for key, value in list(thing.items()):
            yield "{key}", key
            yield f"[{key!r:.40}]", value
    elif isinstance(thing, list | tuple | set | frozenset | deque):
        yield from (("[]", part) for part in list(thing))
    elif type(thing).__module__.split(".")[0] in ("realtime", "socketio", "engineio"):
        for name, value in vars(thing).items() if hasattr(thing, "__dict__") else ():
            yield f".{name}", value
        for each in type(thing).__mro__:
            for name in getattr(each, "__slots__", ()):
                if hasattr(thing, name):
                    yield f".{name}", getattr(thing, name)


__all__ = [
    "TRANSPORTS",
    "Client",
    "Failing",
    "Fleet",
    "Gate",
    "Instance",
    "Polling",
    "ask",
    "breaks",
    "client",
    "code",
    "dump",
    "eventually",
    "fleet_of",
    "heard",
    "join_as",
    "lose",
    "make_settings",
    "people",
    "person",
    "places_of",
    "polling",
    "public",
    "refusal",
    "running",
    "token_for",
    "until",
]
