"""Client hosts of the simulated world: the real ``socketio.AsyncClient``, by websocket or by polling; and raw ones."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import aiohttp
import engineio.base_client  # type: ignore[import-untyped]
import socketio
import socketio.base_client
import socketio.exceptions

from sim.history import History
from sim.network import Network
from sim.node import Node
from sim.raw_client import RawClient
from sim.world import World


class ClientNode:
    """One tab of one user. Its coroutines run on its own node: the lab calls them from the scenario's."""

    def __init__(self, world: World, network: Network, history: History, name: str) -> None:
        self.name = name
        self.node = Node(world, network, name)
        self.answer: Callable[[Any], Any] = lambda _data: None
        """Gives the ack of an event call."""
        self._world = world
        self._history = history
        self._sio: Any = None  # a socketio.AsyncClient, whose stubs think of requests and of whole seconds
        self._http: aiohttp.ClientSession | None = None
        world.on_close(self._forget)

    @property
    def sid(self) -> str | None:
        return self._sio.get_sid() if self._sio is not None and self._sio.connected else None

    async def connect(
        self,
        address: str,
        auth: dict[str, Any] | None,
        *,
        transport: str = "websocket",
        reconnection: bool = False,
    ) -> bool:
        """Whether the server let it in; why not is in the history."""
        host = address.partition(":")[0]
        self._note("connect", host, {"transport": transport})
        self._http = aiohttp.ClientSession(connector=aiohttp.UnixConnector(path=address))
        make: Any = socketio.AsyncClient
        sio = self._sio = make(http_session=self._http, reconnection=reconnection, handle_sigint=False)
        sio.on("*", self._event)
        sio.on("connect", lambda: self._note("connected", host))
        sio.on("connect_error", lambda data=None: self._note("refused", host, data))
        sio.on("disconnect", lambda reason=None: self._note("disconnected", str(reason)))
        try:
            await sio.connect(
                f"http://{host}",
                auth=auth,
                transports=[transport],
                socketio_path="/ws/socket.io",
                wait_timeout=10,
            )
        except socketio.exceptions.ConnectionError as error:
            self._note("refused", host, str(error))
            await self._close_http()
            return False
        return True

    async def emit(self, event: str, data: Any) -> None:
        self._note("emit", event, data)
        try:
            await self._connected().emit(event, data)
        except socketio.exceptions.SocketIOError as error:
            self._note("failed", event, str(error))

    async def call(self, event: str, data: Any, *, timeout: float = 10.0) -> Any:
        """The ack's value; ``{"error": {"code": "no-ack"}}`` if none comes in time."""
        self._note("emit", event, data)
        try:
            ack = await self._connected().call(event, data, timeout=timeout)
        except (socketio.exceptions.TimeoutError, socketio.exceptions.SocketIOError) as error:
            ack = {"error": {"code": "no-ack", "message": str(error)}}
        self._note("ack", event, ack)
        return ack

    def _connected(self) -> Any:
        if self._sio is None:
            raise socketio.exceptions.DisconnectedError("this client never connected")
        return self._sio

    async def close(self) -> None:
        """Leaves as a closed tab does."""
        if self._sio is not None:
            self._note("close")
            await self._sio.disconnect()
        await self._close_http()

    async def _close_http(self) -> None:
        if self._http is not None:
            with contextlib.suppress(asyncio.TimeoutError):
                await self._http.close()

    async def _event(self, event: str, *args: Any) -> Any:
        data = args[0] if args else None
        self._note("event", event, data)
        return self.answer(data) if event == "chat-events" else None

    def _note(self, what: str, name: str = "", data: Any = None) -> None:
        self._history.add(self._world.now, self.name, what, name, data)

    def _forget(self) -> None:
        """At the world's end: both libraries keep lists of all clients that did not disconnect."""
        engineio.base_client.connected_clients.clear()
        socketio.base_client.reconnecting_clients.clear()
        if self._http is not None:
            self._http.detach()


class RawNode:
    """A host whose client keeps only the rules that it is told to keep; call it with ``lab.on(raw.node, …)``."""

    def __init__(self, world: World, network: Network, history: History, name: str) -> None:
        self.name = name
        self.node = Node(world, network, name)
        self.client = RawClient(lambda what, event, data: history.add(world.now, name, what, event, data))
