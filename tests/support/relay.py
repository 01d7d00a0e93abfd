"""A TCP relay before a server, which can go silent as a half-dead network does: connected, and nothing comes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator


class Relay:
    """Passes connections on to a port of 127.0.0.1. ``port`` is its own."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self._clients: list[asyncio.StreamWriter] = []
        self._passing = asyncio.Event()
        self._passing.set()
        self._born_silent = 0
        self.connections = 0

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    def silence(self) -> None:
        """From now on nothing reaches the clients; connections that come later are as silent."""
        self._passing.clear()

    def reset(self) -> None:
        """Resets the clients' connections, as a middlebox does that has forgotten them."""
        for writer in self._clients:
            connection = writer.get_extra_info("socket")
            if connection is not None and not writer.is_closing():
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()

    def heal(self) -> None:
        """New connections work. Those that were silent stay so."""
        self._born_silent = self.connections
        self._passing.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers += [writer, there_writer]
        self._clients.append(writer)
        for source, sink, down in ((reader, there_writer, False), (there_reader, writer, True)):
            task = asyncio.create_task(self._pass(source, sink, number, down=down))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, number: int, *, down: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                if down and not self._passing.is_set():
                    await self._passing.wait()
                if down and number <= self._born_silent:
                    await asyncio.Event().wait()
                sink.write(data)
                await sink.drain()
            sink.close()

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.close()
        if self._server is not None:
            self._server.close()


@contextlib.asynccontextmanager
async def relay(target: int) -> AsyncIterator[Relay]:
    """A relay to this port, closed afterwards."""
    it = Relay(target)
    it._server = await asyncio.start_server(it._accept, "127.0.0.1", 0)
    try:
        yield it
    finally:
        await it.close()
