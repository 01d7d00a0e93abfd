"""The clients of a lab: the real ``socketio.AsyncClient``, by websocket or by polling; and raw ones."""

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

from sim.raw_client import Note, RawClient

Dial = Callable[[str], tuple[aiohttp.BaseConnector, str]]
"""How to get to an instance, by its name: a connector, and the URL without a path."""

ENCODINGS = {"Accept-Encoding": "gzip, deflate"}
"""aiohttp's own list depends on what else is installed (Brotli): a run saved in one environment would be another run in
the next."""


class Client:
    """One tab of one user. The lab calls its coroutines from the scenario; see ``Lab.do``."""

    def __init__(self, name: str, note: Note, dial: Dial) -> None:
        self.name = name
        self.answer: Callable[[Any], Any] = lambda _data: None
        """Gives the ack of an event call."""
        self._note_entry = note
        self._dial = dial
        self._sio: Any = None  # a socketio.AsyncClient, whose stubs think of requests and of whole seconds
        self._http: aiohttp.ClientSession | None = None

    @property
    def sid(self) -> str | None:
        return self._sio.get_sid() if self._sio is not None and self._sio.connected else None

    async def connect(
        self,
        instance: str,
        auth: dict[str, Any] | None,
        *,
        transport: str = "websocket",
        reconnection: bool = False,
    ) -> bool:
        """Whether the server let it in; why not is in the history."""
        self._note("connect", instance, {"transport": transport})
        connector, url = self._dial(instance)
        self._http = aiohttp.ClientSession(connector=connector, headers=ENCODINGS)
        make: Any = socketio.AsyncClient
        sio = self._sio = make(http_session=self._http, reconnection=reconnection, handle_sigint=False)
        sio.on("*", self._event)
        sio.on("connect", lambda: self._note("connected", instance))
        sio.on("connect_error", lambda data=None: self._note("refused", instance, data))
        sio.on("disconnect", lambda reason=None: self._note("disconnected", str(reason)))
        try:
            await sio.connect(
                url, auth=auth, transports=[transport], socketio_path="/ws/socket.io", wait_timeout=10
            )
        except socketio.exceptions.ConnectionError as error:
            self._note("refused", instance, str(error))
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

    async def abandon(self) -> None:
        """Gives up its connections and comes back no more, at the end of a lab."""
        if self._sio is not None:
            self._sio.reconnection = False
            if not self._sio.connected:
                await self._sio.shutdown()
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
        self._note_entry(what, name, data)


class Raw:
    """A client that keeps only the rules that it is told to keep; call it with ``lab.do(raw, raw.client.…)``."""

    def __init__(self, name: str, note: Note) -> None:
        self.name = name
        self.client = RawClient(note)


def forget_clients() -> None:
    """At the end of a lab: both libraries keep lists of all clients that did not disconnect."""
    engineio.base_client.connected_clients.clear()
    socketio.base_client.reconnecting_clients.clear()
