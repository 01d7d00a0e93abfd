"""What the tour works on: one Redis, two instances, an application that has the layer inside, and the clients."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import aiohttp

from sim.processes.instances import Fleet, Instance
from sim.processes.redis import RedisServer, server_version
from sim.processes.tour import node
from sim.processes.tour.clients import WAIT_SECONDS, Client, Off, PythonClient, short, token_for

APPLICATION = "sim.processes.lab_app"
MODES = {"websocket": ["websocket"], "polling": ["polling"], "upgrade": ["polling", "websocket"]}

_T = TypeVar("_T")


class Lab:
    """`async with Lab() as lab:` starts everything, and ends it. Raises `ProcessError` when that cannot be."""

    def __init__(self, *, redis_binary: Path | None = None, without_node: bool = False) -> None:
        self.redis = RedisServer(binary=redis_binary)
        version = server_version(self.redis.binary)
        self.redis_name = f"{version.product} {version.major}.{version.minor}"
        self.no_node = "not wanted" if without_node else node.missing()
        self.clients: list[Client] = []
        self.usual: list[Client] = []
        """The clients that stay for the whole tour."""
        self.started_in = 0.0
        self._stack = contextlib.AsyncExitStack()
        self._http: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        start = time.perf_counter()
        try:
            await self._stack.enter_async_context(self.redis)
            fleet = Fleet(2, redis_url=self.redis.url, demo=True)
            self.one, self.two = fleet.instances
            self.application = Instance(
                redis_url=self.redis.url,
                database_url=self.one.database_url,
                demo=True,
                name="application",
                module=APPLICATION,
            )
            fleet.instances.append(self.application)
            await self._stack.enter_async_context(fleet)
            self._http = await self._stack.enter_async_context(
                aiohttp.ClientSession(self.application.url, timeout=aiohttp.ClientTimeout(WAIT_SECONDS))
            )
        except BaseException:
            await self._stack.aclose()
            raise
        self.started_in = time.perf_counter() - start
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.gather(*(client.close() for client in self.clients), return_exceptions=True)
        await self._stack.aclose()

    @property
    def servers(self) -> tuple[Instance, Instance, Instance]:
        return self.one, self.two, self.application

    def client(
        self,
        user_id: str,
        at: Instance,
        mode: str,
        *,
        library: type[Client] = PythonClient,
        token: str | None = None,
        diffs: bool = False,
    ) -> Client:
        """A client of `user_id`, not connected yet; closed with the lab."""
        made = library(
            user_id, at.url, transports=MODES[mode], token=token or token_for(user_id), diffs=diffs
        )
        self.clients.append(made)
        return made

    @contextlib.asynccontextmanager
    async def guest(
        self, user_id: str, at: Instance, mode: str = "websocket", *, token: str | None = None
    ) -> AsyncIterator[Client]:
        """A client that is connected for a while, and gone for the checks that follow, however this one ends."""
        made = self.client(user_id, at, mode, token=token)
        try:
            await made.open()
            yield made
        finally:
            await made.close()

    def called(self, name: str) -> Client:
        """The usual client of that name."""
        for client in self.usual:
            if client.name == name:
                return client
        raise Off(f"{name} to be connected", "it never was")

    def at(self, instance: Instance) -> list[Client]:
        """The usual clients of an instance."""
        return [client for client in self.usual if client.url == instance.url]

    async def all_online(
        self, users: Iterable[str], clients: Iterable[Client], *, within: float = WAIT_SECONDS
    ) -> float:
        """Wait until all of these clients hold exactly this list; returns when the last one did."""
        wanted = sorted(users)
        waits = [client.wait_online(wanted, within=within) for client in clients]
        return max(await together(waits), default=time.perf_counter())

    async def ask(self, path: str, **query: str) -> Any:
        """`GET /lab/…` of the application: the result."""
        answer = await self._request("GET", path, params=query)
        return answer["result"]

    async def tell(self, path: str, **request: Any) -> dict[str, Any]:
        """`POST /lab/…`: `{"result"}` or `{"error", "message"}`."""
        return await self._request("POST", path, json=request)

    async def _request(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        try:
            async with self._http.request(method, f"/lab/{path}", **options) as answer:
                told: dict[str, Any] = await answer.json()
                return told
        except (TimeoutError, aiohttp.ClientError) as error:
            expected = f"the application to answer {method} /lab/{path} within {WAIT_SECONDS:g} s"
            raise Off(expected, f"{type(error).__name__} {error}".strip()) from None

    async def until(
        self,
        expected: str,
        look: Callable[[], Awaitable[Any]],
        true: Callable[[Any], object],
        *,
        within: float = WAIT_SECONDS,
    ) -> Any:
        """Look until it is as expected, and return what was seen; raises `Off` with what was seen last."""
        deadline = time.perf_counter() + within
        while not true(seen := await look()):
            if time.perf_counter() > deadline:
                raise Off(f"{expected} within {within:g} s", short(seen))
            await asyncio.sleep(0.02)
        return seen


async def together(waits: Iterable[Awaitable[_T]]) -> list[_T]:
    """All results; when some fail, the first failure after all have ended."""
    results = await asyncio.gather(*waits, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if not isinstance(result, BaseException)]
