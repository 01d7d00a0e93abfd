"""Clients that poll, in a thread of their own: each asks again as soon as it has its answer."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import aiohttp

from sim.processes.process import LOOPBACK

START_SECONDS = 30.0


class Pollers:
    """``messages``: how many events they have had. Raises what one of them met, when left."""

    def __init__(self, port: int, tokens: Sequence[str]) -> None:
        self.messages = 0
        self._url = f"http://{LOOPBACK}:{port}/ws/socket.io/?EIO=4&transport=polling"
        self._tokens = tokens
        self._ready = threading.Semaphore(0)
        self._loop = asyncio.new_event_loop()
        self._main: asyncio.Task[None] | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        for _ in self._tokens:
            if not self._ready.acquire(timeout=START_SECONDS):
                raise TimeoutError("the polling clients were not connected in time")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(lambda: self._main and self._main.cancel())
        self._thread.join()
        if error is None and self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._all())
        except asyncio.CancelledError:
            pass
        except Exception as error:  # told where the clients are ended
            self._error = error
        finally:
            self._loop.close()

    async def _all(self) -> None:
        self._main = asyncio.current_task()
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=60)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as http,
            asyncio.TaskGroup() as group,
        ):
            for token in self._tokens:
                group.create_task(self._one(http, token))

    async def _one(self, http: aiohttp.ClientSession, token: str) -> None:
        url = f"{self._url}&sid={json.loads((await self._get(http, self._url))[1:])['sid']}"
        await self._post(http, url, "40" + json.dumps({"token": token}))
        connected = False
        while True:
            packets = (await self._get(http, url)).split("\x1e")
            if not connected and any(packet.startswith("40") for packet in packets):
                connected = True
                self._ready.release()
            self.messages += sum(packet.startswith('42["chat-events"') for packet in packets)
            if "2" in packets:
                await self._post(http, url, "3")

    async def _get(self, http: aiohttp.ClientSession, url: str) -> str:
        async with http.get(url) as response:
            response.raise_for_status()
            return await response.text()

    async def _post(self, http: aiohttp.ClientSession, url: str, body: str) -> None:
        async with http.post(url, data=body) as response:
            response.raise_for_status()
