"""Node's socket.io-client, driven from an async test: one process, one socket."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from tests.support.node import FOLDER, install_modules, node_binary

_LINE_LIMIT = 64 * 1024 * 1024
_COMMAND_SECONDS = 10.0


class NodeClientError(Exception):
    """The client refused a command, saw something else than expected, or ended; the text says what it saw."""


class NodeConnectError(NodeClientError):
    """The server refused the connection: `message` and `data` are what `connect_error` carried."""

    def __init__(self, message: str, data: Any) -> None:
        super().__init__(f"{message} {data!r}")
        self.message = message
        self.data = data


@dataclass(frozen=True, slots=True)
class Seen:
    """One thing the client told.

    `type` is "connect", "connect_error", "disconnect", "upgrade", "reconnect_attempt" or "event"; `event` and
    `args` are set for events, `call` (for `NodeClient.answer`) if the server waits for an acknowledgement; `detail`
    holds the rest.
    """

    type: str
    event: str
    args: tuple[Any, ...]
    call: int | None
    detail: Mapping[str, Any]

    @property
    def data(self) -> Any:
        """The event's first argument, None if it has none."""
        return self.args[0] if self.args else None


class NodeClient:
    """A Socket.IO client in Node.js: `async with NodeClient() as client: await client.connect(url, auth=…)`.

    `seen` holds everything told so far, in order. Binary data is `bytes` in both directions. Every wait is bounded and
    raises `TimeoutError` with what was seen, or `NodeClientError` when the process ended.
    """

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self._process: asyncio.subprocess.Process | None = None
        self._readers: list[asyncio.Task[None]] = []
        self._done: dict[int, asyncio.Future[Any]] = {}
        self._news = asyncio.Condition()
        self._errors = ""
        self._ended = False

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(install_modules)
        self._process = await asyncio.create_subprocess_exec(
            str(node_binary()),
            str(FOLDER / "client.mjs"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=_LINE_LIMIT,
        )
        self._readers = [asyncio.create_task(self._read()), asyncio.create_task(self._read_errors())]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.kill()

    @property
    def pid(self) -> int | None:
        """The process id; None before the start."""
        return None if self._process is None else self._process.pid

    @property
    def events(self) -> list[Seen]:
        """The Socket.IO events among what was seen."""
        return [seen for seen in self.seen if seen.type == "event"]

    async def connect(
        self,
        url: str,
        *,
        path: str = "/ws/socket.io",
        auth: Mapping[str, Any] | None = None,
        transports: Sequence[str] = ("websocket",),
        upgrade: bool = True,
        reconnection: bool = False,
        timeout: float = _COMMAND_SECONDS,
        **options: Any,
    ) -> Seen:
        """Connect, and wait for it; further `options` are socket.io-client's own. Raises `NodeConnectError`."""
        await self.begin_connect(
            url,
            path=path,
            auth=auth,
            transports=transports,
            upgrade=upgrade,
            reconnection=reconnection,
            **options,
        )
        answer = await self.wait_for_any(("connect", "connect_error"), timeout=timeout)
        if answer.type == "connect_error":
            raise NodeConnectError(answer.detail["message"], answer.detail["data"])
        return answer

    async def begin_connect(
        self,
        url: str,
        *,
        path: str = "/ws/socket.io",
        auth: Mapping[str, Any] | None = None,
        transports: Sequence[str] = ("websocket",),
        **options: Any,
    ) -> None:
        """Start connecting; what comes of it is in `seen`."""
        options = {"path": path, "auth": dict(auth or {}), "transports": list(transports), **options}
        await self._command("connect", url=url, options=options)

    async def emit(self, event: str, *args: Any) -> None:
        await self._command("emit", event=event, args=args)

    async def call(self, event: str, *args: Any, timeout: float = 5.0) -> Any:
        """Emit, wait for the acknowledgement and return its value. `NodeClientError` when none comes in time."""
        return await self._command(
            "call", _seconds=timeout + _COMMAND_SECONDS, event=event, args=args, timeout=round(timeout * 1000)
        )

    async def reply(self, event: str, *args: Any) -> None:
        """From now on answer the server's calls of `event` with `args`."""
        await self._command("reply", event=event, args=args)

    async def reply_echo(self, event: str) -> None:
        """From now on answer the server's calls of `event` with what they carry."""
        await self._command("reply", event=event, args="echo")

    async def answer(self, seen: Seen, *args: Any) -> None:
        """Answer one call of the server that no `reply` covers."""
        await self._command("answer", call=seen.call, args=args)

    async def set_auth(self, auth: Mapping[str, Any]) -> None:
        """What the next (re)connect sends."""
        await self._command("auth", auth=auth)

    async def state(self) -> dict[str, Any]:
        """`{"connected": bool, "sid": str | None, "transport": "websocket" | "polling" | None, "engine": str | None}`
        as of now; `engine` is the id of Engine.IO's session.
        """
        state: dict[str, Any] = await self._command("state")
        return state

    async def disconnect(self) -> None:
        await self._command("disconnect")

    async def drop(self) -> None:
        """Close the connection below Socket.IO, without saying goodbye."""
        await self._command("drop")

    async def kill(self) -> None:
        """End the process at once; the server sees its connection close."""
        if self._process is None:
            return
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        await asyncio.gather(*self._readers)

    async def wait_for(
        self,
        event: str,
        predicate: Callable[[Seen], bool] = lambda seen: True,
        *,
        timeout: float = _COMMAND_SECONDS,
        after: int = 0,
    ) -> Seen:
        """The first event of that name, from `seen[after]` on, for which `predicate` holds; waited for."""
        return await self._wait(
            f"event {event!r}",
            lambda s: s.type == "event" and s.event == event and predicate(s),
            timeout,
            after,
        )

    async def wait_for_any(
        self, types: Sequence[str], *, timeout: float = _COMMAND_SECONDS, after: int = 0
    ) -> Seen:
        """The first thing seen of one of these types ("connect", "disconnect", …), from `seen[after]` on."""
        return await self._wait(" or ".join(types), lambda s: s.type in types, timeout, after)

    async def _wait(self, what: str, fits: Callable[[Seen], bool], timeout: float, after: int) -> Seen:
        position = after
        try:
            async with asyncio.timeout(timeout), self._news:
                while True:
                    while position < len(self.seen):
                        seen = self.seen[position]
                        position += 1
                        if fits(seen):
                            return seen
                    if self._ended:
                        raise NodeClientError(f"{what}: the client ended; {self._report()}")
                    await self._news.wait()
        except TimeoutError:
            raise TimeoutError(f"{what}: not seen within {timeout:g} s; {self._report()}") from None

    async def _command(self, name: str, *, _seconds: float = _COMMAND_SECONDS, **parameters: Any) -> Any:
        if self._process is None or self._process.stdin is None or self._ended:
            raise NodeClientError(f"{name}: the client is not running; {self._report()}")
        number = len(self._done) + 1
        done = self._done[number] = asyncio.get_running_loop().create_future()
        line = json.dumps({"id": number, "do": name, **parameters}, default=_pack)
        self._process.stdin.write(line.encode() + b"\n")
        try:
            return await asyncio.wait_for(done, _seconds)
        except TimeoutError:
            raise TimeoutError(f"{name}: no answer within {_seconds:g} s; {self._report()}") from None

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        try:
            async for line in self._process.stdout:
                await self._take(json.loads(line, object_hook=_unpack))
        finally:
            async with self._news:
                self._ended = True
                self._news.notify_all()
            for waiting in self._done.values():
                if not waiting.done():
                    waiting.set_exception(NodeClientError(f"the client ended; {self._report()}"))
                    waiting.exception()  # Whoever waits sees it; nobody waiting is no news.

    async def _take(self, told: dict[str, Any]) -> None:
        if told["type"] == "done":
            waiting = self._done[told["id"]]
            if waiting.done():
                return
            if told.get("error") is not None:
                waiting.set_exception(NodeClientError(told["error"]))
            else:
                waiting.set_result(told["result"])
            return
        detail = {key: value for key, value in told.items() if key not in ("type", "event", "args", "call")}
        seen = Seen(
            told["type"], told.get("event", ""), tuple(told.get("args", ())), told.get("call"), detail
        )
        async with self._news:
            self.seen.append(seen)
            self._news.notify_all()

    async def _read_errors(self) -> None:
        assert self._process is not None
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            self._errors = (self._errors + line.decode(errors="replace"))[-4000:]

    def _report(self) -> str:
        last = ", ".join(f"{s.type} {s.event or dict(s.detail)}" for s in self.seen[-10:]) or "nothing"
        return f"last seen: {last}" + (f"; it printed: {self._errors.strip()}" if self._errors else "")


def _pack(value: object) -> object:
    if isinstance(value, bytes | bytearray | memoryview):
        return {"$binary": base64.b64encode(value).decode()}
    raise TypeError(f"{type(value).__name__} cannot be sent to the JavaScript client")


def _unpack(value: dict[str, Any]) -> Any:
    return base64.b64decode(value["$binary"]) if value.keys() == {"$binary"} else value
