"""Socket.IO clients that keep what they hear and when; python-socketio's here, Node's in `node`."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import jwt
import socketio
from socketio.exceptions import ConnectionError as ConnectFailed
from socketio.exceptions import SocketIOError

from sim.processes.instances import SECRET_KEY

PATH = "/ws/socket.io"
WAIT_SECONDS = 5.0
RECONNECT_SECONDS = (0.1, 0.3)
"""First and longest delay of a client that comes back: short, because here nobody else is waiting."""

CONNECTED, DISCONNECTED = "~connected", "~disconnected"
"""Kept beside the events, with the transport and the reason."""


class Off(Exception):
    """Something is not as it should be: what was expected, and what was seen instead."""

    def __init__(self, expected: str, seen: str) -> None:
        super().__init__(f"expected {expected}; saw {seen}")
        self.expected = expected
        self.seen = seen


@dataclass(frozen=True, slots=True)
class Heard:
    """One event and its first argument; `at` is `time.perf_counter()`."""

    event: str
    data: Any
    at: float


def token_for(user_id: str, *, expires_in: float = 3600) -> str:
    """A token as a lab's sign-in would make it; `expires_in` seconds."""
    return jwt.encode({"id": user_id, "exp": time.time() + expires_in}, SECRET_KEY, algorithm="HS256")


class Client(ABC):
    """One socket of one user. `name` is how reports call it; `online` the users that it holds to be online."""

    library: str

    def __init__(
        self,
        name: str,
        url: str,
        *,
        transports: Sequence[str],
        token: str | None,
        diffs: bool = False,
    ) -> None:
        self.name = name
        self.url = url
        self.transports = list(transports)
        self.auth: dict[str, str] = ({} if token is None else {"token": token}) | (
            {"presence": "diff"} if diffs else {}
        )
        self.heard: list[Heard] = []
        self.sid = ""
        self.online: list[str] = []
        self._news = asyncio.Event()

    @abstractmethod
    async def open(self) -> None:
        """Connect; raises `Off` when that is refused or takes too long."""

    @abstractmethod
    async def close(self) -> None:
        """Leave, and end what belongs to the client. Harmless when repeated."""

    @abstractmethod
    async def call(self, event: str, *args: Any) -> Any:
        """Send an event and return its ack; raises `Off` when none comes."""

    @abstractmethod
    async def transport(self) -> str:
        """ "websocket" or "polling", as of now; "" when not connected."""

    def of(self, event: str, *, after: int = 0) -> list[Any]:
        """What came with the events of that name, in order, from `heard[after]` on."""
        return [heard.data for heard in self.heard[after:] if heard.event == event]

    async def wait(
        self,
        event: str,
        true: Callable[[Any], object] = lambda _data: True,
        *,
        what: str = "",
        after: int = 0,
        within: float = WAIT_SECONDS,
    ) -> Heard:
        """The first event of that name for which `true` holds, from `heard[after]` on; raises `Off`."""
        looked = after
        try:
            async with asyncio.timeout(within):
                while True:
                    for heard in self.heard[looked:]:
                        if heard.event == event and true(heard.data):
                            return heard
                    looked = len(self.heard)
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            last = self.of(event, after=after)[-1:]
            seen = f"the last one with {short(last[0])}" if last else "none"
            raise Off(f"{self.name} to hear {what or event} within {within:g} s", seen) from None

    async def wait_online(
        self, users: Sequence[str], *, after: int = 0, within: float = WAIT_SECONDS
    ) -> float:
        """Wait until the client holds exactly this list; returns when that was heard."""
        wanted = sorted(users)
        deadline = time.perf_counter() + within
        while self.online != wanted:
            left = deadline - time.perf_counter()
            self._news.clear()
            try:
                await asyncio.wait_for(self._news.wait(), max(0.0, left))
            except TimeoutError:
                raise Off(f"{self.name} to hold the list {short(wanted)}", short(self.online)) from None
        lists = [heard.at for heard in self.heard[after:] if heard.event in ("user-list", "presence-diff")]
        return lists[-1] if lists else time.perf_counter()

    def hear(self, event: str, data: Any) -> None:
        """Keep one event."""
        if event == "user-list" and isinstance(data, dict):
            self.online = sorted(data["user_ids"])
        elif event == "presence-diff":
            self.online = sorted(set(self.online) - set(data["leaves"]) | set(data["joins"]))
        self.heard.append(Heard(event, data, time.perf_counter()))
        self._news.set()


def answer_to(data: Any) -> Any:
    """What every client here answers when the server calls: the question, and that it was heard."""
    return {"heard": data["data"].get("data")}


class PythonClient(Client):
    """python-socketio's `AsyncClient`."""

    library = "Python"

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        first, longest = RECONNECT_SECONDS
        # Seconds are whole numbers in the stubs only.
        self._sio = socketio.AsyncClient(
            reconnection_delay=cast(int, first), reconnection_delay_max=cast(int, longest)
        )
        self._sio.on("connect", self._connected)
        self._sio.on("disconnect", lambda reason=None: self.hear(DISCONNECTED, reason))
        self._sio.on("*", self._event)

    async def open(self) -> None:
        try:
            await self._sio.connect(
                self.url,
                socketio_path=PATH,
                auth=self.auth,
                transports=cast(Any, self.transports),
                wait_timeout=cast(int, WAIT_SECONDS),
            )
        except ConnectFailed as error:
            raise Off(f"{self.name} to be connected", f"refused: {error}") from None

    async def close(self) -> None:
        await self._sio.shutdown()

    async def call(self, event: str, *args: Any) -> Any:
        try:
            return await self._sio.call(event, args or None, timeout=cast(int, WAIT_SECONDS))
        except SocketIOError as error:
            raise Off(f"an ack for {event} to {self.name}", type(error).__name__) from None

    async def transport(self) -> str:
        return str(self._sio.transport()) if self._sio.connected else ""

    async def _connected(self) -> None:
        self.sid = str(self._sio.get_sid())
        self.hear(CONNECTED, self._sio.transport())

    async def _event(self, event: str, *args: Any) -> Any:
        data = args[0] if args else None
        self.hear(event, data)
        return answer_to(data) if event == "chat-events" else None


def short(value: Any, *, longest: int = 110) -> str:
    """A value as a report shows it."""
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return (text if len(text) <= longest else text[: longest - 1] + "…") or "an empty list"
