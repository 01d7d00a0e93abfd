"""Instances in the test's own event loop: a ``RealtimeServer`` under a real uvicorn on a free port.

Several on one Redis are what most tests of faults need: their parts can be reached, held and looked at.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import socketio
import uvicorn
from fastapi import FastAPI

from realtime.app import mount
from realtime.auth import create_token
from realtime.directory import Directory
from realtime.directory.memory import MemoryDirectory
from realtime.link import Connector
from realtime.messages import MessageStore
from realtime.server import RealtimeServer
from realtime.settings import Settings, load_settings
from realtime.state import State
from realtime.wire import Bus, DirectProtocol

SECRET = "a secret that only the tests of this repository use"


def make_settings(redis_url: str | None = None, **overrides: Any) -> Settings:
    """Settings for tests; with a URL they use that Redis. Give ``redis_key_prefix`` where the server is shared."""
    overrides.setdefault("webui_secret_key", SECRET)
    if redis_url is not None:
        overrides |= {"websocket_manager": "redis", "websocket_redis_url": redis_url}
    return load_settings(**overrides)


def token_for(user_id: str, *, expires_in: float | None = 3600, **claims: Any) -> str:
    return create_token(user_id, SECRET, expires_in=expires_in, **claims)


async def until(
    true: Callable[[], object], within: float = 5.0, *, what: str | Callable[[], str] = "a condition"
) -> None:
    """Waits for a condition; fails the test with ``what``, or what it says then, after ``within`` seconds."""
    try:
        async with asyncio.timeout(within):
            while not true():
                await asyncio.sleep(0.005)
    except TimeoutError:
        said = what if isinstance(what, str) else what()
        raise AssertionError(f"waited {within} s in vain for {said}") from None


@dataclass
class Instance:
    """A running instance. ``server`` is its ``RealtimeServer``, ``url`` what clients connect to."""

    server: RealtimeServer
    url: str


@contextlib.asynccontextmanager
async def running(
    settings: Settings,
    directory: Directory | None = None,
    *,
    messages: MessageStore | None = None,
    connector: Connector | None = None,
    state: State | None = None,
    bus: Bus | None = None,
    prepare: Callable[[RealtimeServer], None] | None = None,
) -> AsyncIterator[Instance]:
    """One instance, started and stopped. ``prepare`` may put barriers in before anything runs."""
    server = RealtimeServer(
        settings,
        directory or MemoryDirectory(auto_create=True),
        messages=messages,
        connector=connector,
        state=state,
        bus=bus,
    )
    if prepare is not None:
        prepare(server)
    await server.start()
    app = FastAPI()
    mount(app, server)
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=0,
        lifespan="off",
        log_config=None,
        access_log=False,
        ws=DirectProtocol,
        ws_ping_interval=None,
        timeout_graceful_shutdown=2,
    )
    web = uvicorn.Server(config)
    serving = asyncio.create_task(web._serve(), name="uvicorn")  # serve() would take over the signals
    try:
        await until(lambda: web.started or serving.done(), what="uvicorn to start")
        port = web.servers[0].sockets[0].getsockname()[1]
        yield Instance(server, f"http://127.0.0.1:{port}")
    finally:
        await server.stop()
        web.should_exit = True
        await asyncio.wait_for(serving, 10)


@dataclass
class Client:
    """A real Socket.IO client that keeps what it sees."""

    sio: socketio.AsyncClient
    seen: list[tuple[str, Any]] = field(default_factory=list)

    @property
    def sid(self) -> str:
        return str(self.sio.get_sid())

    def of(self, event: str) -> list[Any]:
        """First arguments of the events of that name, in order."""
        return [data for name, data in self.seen if name == event]

    def last(self, event: str) -> Any:
        events = self.of(event)
        return events[-1] if events else None

    async def wait_for(
        self, event: str, true: Callable[[Any], object] = lambda _data: True, within: float = 5.0
    ) -> Any:
        """The first event of that name, past or to come, for which ``true`` holds."""
        await until(
            lambda: any(true(data) for data in self.of(event)),
            within,
            what=lambda: f"{event}; seen: {self.seen!r}",
        )
        return next(data for data in self.of(event) if true(data))


@contextlib.asynccontextmanager
async def client(
    url: str,
    user_id: str | None = None,
    *,
    token: str | None = None,
    transports: tuple[str, ...] = ("websocket",),
    auth: dict[str, Any] | None = None,
    reconnection: bool = False,
    on_call: Callable[[Any], Any] | None = None,
) -> AsyncIterator[Client]:
    """A client, connected and closed. ``on_call`` answers ``chat-events`` that want an ack."""
    sio = socketio.AsyncClient(reconnection=reconnection)
    it = Client(sio)

    async def keep(event: str, *args: Any) -> Any:
        it.seen.append((event, args[0] if args else None))
        return on_call(args[0]) if on_call is not None and event == "chat-events" else None

    sio.on("*", keep)
    sio.on("disconnect", lambda reason=None: it.seen.append(("disconnect", reason)))
    given = token or (token_for(user_id) if user_id is not None else None)
    await sio.connect(
        url,
        socketio_path="/ws/socket.io",
        auth={**({"token": given} if given else {}), **(auth or {})} or None,
        transports=list(transports),  # type: ignore[arg-type]  # stubs: literals
        wait_timeout=5,
    )
    try:
        yield it
    finally:
        await sio.shutdown()
