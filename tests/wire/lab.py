"""Servers on uvicorn in this process, and raw clients that speak the two protocols by hand."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import aiohttp
import socketio
import uvicorn
import websockets

from realtime.errors import StateUnavailable
from realtime.wire import DirectProtocol, LocalBus, LocalHub, WireManager, WireServer

BOUND = 10.0


async def until(condition: Callable[[], Any], what: str = "the condition") -> Any:
    """Wait until it holds; a test that must show that something does not happen waits for something else that does."""
    deadline = asyncio.get_running_loop().time() + BOUND
    while not (result := condition()):
        assert asyncio.get_running_loop().time() < deadline, f"{what} did not come true in {BOUND} s"
        await asyncio.sleep(0.005)
    return result


@dataclass
class Instance:
    server: WireServer
    port: int
    seen: list[tuple[Any, ...]] = field(default_factory=list)

    @property
    def manager(self) -> WireManager:
        return self.server.manager

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def nothing_left(self) -> bool:
        """Whether no connection, socket, room or question is kept."""
        manager, server = self.manager, self.server
        return not (
            server.connections
            or server.environ
            or server.eio.sockets
            or manager.book.members
            or manager.book.tables
            or manager.book.namespaces
            or manager.book.admitted
            or len(manager.waiting)
        )


class FaultyBus(LocalBus):
    """A bus that fails on command and can keep what is published."""

    def __init__(self, hub: LocalHub | None = None) -> None:
        super().__init__(hub)
        self.failure: BaseException | None = None
        self.published: list[dict[str, Any]] = []

    async def publish(self, channel: str, message: bytes) -> None:
        if self.failure is not None:
            raise self.failure
        self.published.append(json.loads(message))
        await super().publish(channel, message)

    def methods(self) -> list[str]:
        return [message["method"] for message in self.published]


def unavailable() -> StateUnavailable:
    return StateUnavailable("The bus is away.")


@asynccontextmanager
async def serving(
    bus: Any = None,
    *,
    manager_options: dict[str, Any] | None = None,
    ws: Any = DirectProtocol,
    **options: Any,
) -> AsyncIterator[Instance]:
    """One instance on a free port. Its handlers accept everyone and admit them to broadcasts."""
    manager = WireManager(bus, **manager_options or {})
    server = WireServer(manager, **options)

    @server.on("connect")
    async def connect(sid: str, environ: dict[str, Any], auth: Any) -> None:
        manager.admit(sid)

    async with running(server, socketio.ASGIApp(server), ws=ws) as port:
        server.start()
        try:
            yield Instance(server, port)
        finally:
            await server.aclose(timeout=1.0)


class _Web(uvicorn.Server):
    """Ends as soon as it may: uvicorn itself takes two tenths of a second, more than most tests."""

    async def main_loop(self) -> None:
        await self.on_tick(0)
        while not self.should_exit:
            await asyncio.sleep(0.005)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        state = self.server_state
        for server in self.servers:
            server.close()
        for connection in list(state.connections):
            connection.shutdown()
        try:
            async with asyncio.timeout(self.config.timeout_graceful_shutdown):
                while state.connections or state.tasks:
                    await asyncio.sleep(0.001)
        except TimeoutError:
            for task in state.tasks:
                task.cancel()


@asynccontextmanager
async def running(server: Any, app: Any, *, ws: Any = DirectProtocol) -> AsyncIterator[int]:
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        app,
        ws=ws,
        lifespan="off",
        log_config=None,  # its own would keep its records from the tests
        log_level="warning",
        timeout_graceful_shutdown=2,
        ws_ping_interval=None,
    )
    web = _Web(config)
    web.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    task = asyncio.create_task(web._serve([listening]))
    await until(lambda: web.started or task.done(), "uvicorn's start")
    try:
        yield listening.getsockname()[1]
    finally:
        web.should_exit = True
        await asyncio.wait_for(task, BOUND)
        listening.close()


class Websocket:
    """A raw client by websocket."""

    def __init__(self, connection: websockets.ClientConnection) -> None:
        self.raw = connection

    @classmethod
    @asynccontextmanager
    async def to(cls, instance: Instance, *, connect: bool = True) -> AsyncIterator[Self]:
        url = f"ws://127.0.0.1:{instance.port}/socket.io/?EIO=4&transport=websocket"
        async with websockets.connect(url, open_timeout=BOUND, close_timeout=1) as connection:
            client = cls(connection)
            assert (await client.receive())[0] == "0"
            if connect:
                await client.send("40")
                assert (await client.receive()).startswith("40{")
            yield client

    async def send(self, *packets: str | bytes) -> None:
        for packet in packets:
            await asyncio.wait_for(self.raw.send(packet), BOUND)

    async def receive(self) -> Any:
        """The next packet that is not a ping."""
        while True:
            packet = await asyncio.wait_for(self.raw.recv(), BOUND)
            if packet != "2":
                return packet
            await self.send("3")

    async def closed(self) -> tuple[int, str, list[Any]]:
        """Wait for the end: close code, reason, and the packets that came before it."""
        packets = []
        try:
            while True:
                packets.append(await self.receive())
        except websockets.ConnectionClosed as error:
            if error.rcvd is None:
                raise
            return error.rcvd.code, error.rcvd.reason, packets


class Polling:
    """A raw client by long-polling."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self.http = http
        self.url = url
        self.waiting: list[str] = []

    @classmethod
    @asynccontextmanager
    async def to(cls, instance: Instance, *, connect: bool = True) -> AsyncIterator[Self]:
        url = f"{instance.http}/socket.io/?EIO=4&transport=polling"
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=BOUND)) as http:
            client = cls(http, url)
            _, payload = await client.get()
            client.url += f"&sid={json.loads(payload[1:])['sid']}"
            if connect:
                await client.post("40")
                assert (await client.receive()).startswith("40{")
            yield client

    async def get(self) -> tuple[int, str]:
        async with self.http.get(self.url) as response:
            return response.status, await response.text()

    async def post(self, *packets: str) -> int:
        async with self.http.post(self.url, data="\x1e".join(packets)) as response:
            await response.read()
            return response.status

    async def receive(self) -> str:
        while not self.waiting:
            status, payload = await self.get()
            assert status == 200
            for packet in payload.split("\x1e"):
                if packet == "2":
                    await self.post("3")
                elif packet:
                    self.waiting.append(packet)
        return self.waiting.pop(0)


class Client:
    """python-socketio's own client, with what happened to it in `events`."""

    def __init__(self) -> None:
        self.sio = socketio.AsyncClient(
            reconnection_delay=0.05, reconnection_delay_max=0.1, randomization_factor=0
        )
        self.events: list[tuple[Any, ...]] = []
        self.sio.on("*", self._event)
        self.sio.on("connect", lambda: self.events.append(("connect",)))
        self.sio.on("disconnect", lambda reason: self.events.append(("disconnect", reason)))
        self.sio.on("connect_error", lambda data: self.events.append(("connect_error", data)))

    def _event(self, *args: Any) -> None:
        self.events.append(args)

    @classmethod
    @asynccontextmanager
    async def to(
        cls, instance: Instance, transport: str = "websocket", **options: Any
    ) -> AsyncIterator[Self]:
        client = cls()
        try:
            await asyncio.wait_for(
                client.sio.connect(instance.http, transports=transport.split("+"), **options), BOUND
            )
            yield client
        finally:
            await asyncio.wait_for(client.sio.shutdown(), BOUND)

    @property
    def sid(self) -> str:
        return str(self.sio.get_sid())

    async def got(self, name: str) -> tuple[Any, ...]:
        """The first event of that name, waited for."""
        return await until(lambda: next((e for e in self.events if e[0] == name), None), f"the event {name}")


def event(*args: Any) -> str:
    return "42" + json.dumps(args)


def parsed(packet: str) -> Any:
    """The JSON of a text packet, without the packet's type, namespace and id."""
    return json.loads(packet[min(i for i in (packet.find("["), packet.find("{")) if i >= 0) :])
