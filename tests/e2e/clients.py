"""One face for two real clients: python-socketio's `AsyncClient` and Node's socket.io-client."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jwt
import socketio

from sim.processes.instances import SECRET_KEY
from tests.support.node_client import NodeClient, NodeConnectError

PATH = "/ws/socket.io"
WAIT_SECONDS = 10.0
MODES = {"websocket": ("websocket",), "polling": ("polling",), "upgrade": ("polling", "websocket")}
COMING_BACK = 0.05, 0.2
"""First and longest delay of clients that reconnect, in seconds."""

Check = Callable[[Any], object]


@dataclass(frozen=True, slots=True)
class Kind:
    """Which client, and by which transports."""

    library: str
    mode: str

    @property
    def transport(self) -> str:
        """The transport it ends up with where websocket is served."""
        return "polling" if self.mode == "polling" else "websocket"

    def __str__(self) -> str:
        return f"{self.library}-{self.mode}"

    def client(self) -> Client:
        return {"python": PythonClient, "node": JavaScriptClient}[self.library](MODES[self.mode])


KINDS = [Kind(library, mode) for library in ("python", "node") for mode in MODES]


class Refused(Exception):
    """The server refused the connection; `message` and `data` are what the client was told."""

    def __init__(self, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.message = message
        self.data = data


def token_for(user_id: str, *, expires_in: float = 3600) -> str:
    return jwt.encode({"id": user_id, "exp": time.time() + expires_in}, SECRET_KEY, algorithm="HS256")


def signed_in(user_id: str, **options: Any) -> dict[str, str]:
    """The connect auth of a user."""
    return {"token": token_for(user_id, **options)}


class Client(ABC):
    """`seen` holds name and first argument of every event, and "~connect", "~disconnect" with transport and reason."""

    def __init__(self, transports: Sequence[str]) -> None:
        self.transports = list(transports)
        self.seen: list[tuple[str, Any]] = []
        self._news = asyncio.Event()

    @abstractmethod
    async def connect(self, url: str, auth: Mapping[str, Any] | None, *, reconnection: bool = False) -> None:
        """Raises `Refused`."""

    @abstractmethod
    async def call(self, event: str, *args: Any) -> Any: ...

    @abstractmethod
    async def disconnect(self) -> None: ...

    @abstractmethod
    async def transport(self) -> str: ...

    @abstractmethod
    async def connected(self) -> bool: ...

    @abstractmethod
    async def engine_sid(self) -> str:
        """The id of Engine.IO's session; empty while there is none."""

    @abstractmethod
    async def close(self) -> None:
        """End everything, wherever it stands."""

    def of(self, event: str, *, after: int = 0) -> list[Any]:
        return [data for name, data in self.seen[after:] if name == event]

    async def wait_for(self, event: str, true: Check = lambda _data: True, *, after: int = 0) -> Any:
        """The first event of that name from `seen[after]` on for which `true` holds."""
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                while not any(map(true, self.of(event, after=after))):
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(
                f"no such {event} within {WAIT_SECONDS:g} s; seen: {self.seen[after:]}"
            ) from None
        return next(filter(true, self.of(event, after=after)))

    async def wait_for_transport(self, wanted: str) -> None:
        async with asyncio.timeout(WAIT_SECONDS):
            while await self.transport() != wanted:
                await asyncio.sleep(0.01)

    def _see(self, event: str, data: Any) -> None:
        self.seen.append((event, data))
        self._news.set()


class PythonClient(Client):
    def __init__(self, transports: Sequence[str]) -> None:
        super().__init__(transports)
        self._sio: Any = None
        self._refusal: Any = None

    async def connect(self, url: str, auth: Mapping[str, Any] | None, *, reconnection: bool = False) -> None:
        first, longest = COMING_BACK
        self._sio = socketio.AsyncClient(
            reconnection=reconnection, reconnection_delay=first, reconnection_delay_max=longest
        )
        self._sio.on("connect", lambda: self._see("~connect", self._sio.transport()))
        self._sio.on("disconnect", lambda reason: self._see("~disconnect", reason))
        self._sio.on("connect_error", self._refused)
        self._sio.on("*", lambda event, *args: self._see(event, args[0] if args else None))
        try:
            await self._sio.connect(
                url, socketio_path=PATH, auth=auth, transports=self.transports, wait_timeout=WAIT_SECONDS
            )
        except socketio.exceptions.ConnectionError as error:
            told = self._refusal if isinstance(self._refusal, dict) else {"message": str(error)}
            raise Refused(told["message"], told.get("data")) from None

    async def call(self, event: str, *args: Any) -> Any:
        return await self._sio.call(event, args, timeout=WAIT_SECONDS)

    async def disconnect(self) -> None:
        await self._sio.disconnect()

    async def transport(self) -> str:
        return str(self._sio.transport()) if self._sio.connected else ""

    async def connected(self) -> bool:
        return bool(self._sio.connected)

    async def engine_sid(self) -> str:
        return self._sio.eio.sid or ""

    async def close(self) -> None:
        if self._sio is not None:
            await self._sio.shutdown()
            if (http := self._sio.eio.http) is not None:
                await http.close()  # which it leaves open when it was refused

    def _refused(self, told: Any = None) -> None:
        self._refusal = told


class JavaScriptClient(Client):
    def __init__(self, transports: Sequence[str]) -> None:
        super().__init__(transports)
        self._node = NodeClient()
        self._reader: asyncio.Task[None] | None = None

    async def connect(self, url: str, auth: Mapping[str, Any] | None, *, reconnection: bool = False) -> None:
        await self._node.__aenter__()
        self._reader = asyncio.create_task(self._read())
        first, longest = COMING_BACK
        try:
            await self._node.connect(
                url,
                auth=auth,
                transports=self.transports,
                reconnection=reconnection,
                reconnectionDelay=first * 1000,
                reconnectionDelayMax=longest * 1000,
            )
        except NodeConnectError as refused:
            raise Refused(refused.message, refused.data) from None

    async def call(self, event: str, *args: Any) -> Any:
        return await self._node.call(event, *args, timeout=WAIT_SECONDS)

    async def disconnect(self) -> None:
        await self._node.disconnect()

    async def transport(self) -> str:
        return str((await self._node.state())["transport"])

    async def connected(self) -> bool:
        return bool((await self._node.state())["connected"])

    async def engine_sid(self) -> str:
        return (await self._node.state())["engine"] or ""

    async def close(self) -> None:
        if self._reader is not None:
            self._reader.cancel()
        await self._node.kill()

    async def _read(self) -> None:
        """Follows what the process tells, which has no end but the client's."""
        looked = 0
        while True:
            for each in self._node.seen[looked:]:
                looked += 1
                if each.type == "event":
                    self._see(each.event, each.data)
                elif each.type in ("connect", "disconnect"):
                    self._see(f"~{each.type}", each.detail.get("transport") or each.detail["reason"])
            await asyncio.sleep(0.005)
