"""What the tests of the link share: its parts running, and servers between it and Redis that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from realtime.link import Connector, RedisLink
from realtime.tasks import Supervisor

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def linked(
    connector: Connector, *, timeout: float = 2.0, listens: str | None = None
) -> AsyncIterator[RedisLink]:
    """A link without its tasks: commands only, unless ``listens`` names a channel; then all of it runs."""
    link = RedisLink(connector, timeout=timeout)
    tasks = Supervisor()
    try:
        if listens is not None:
            link.subscriber.listen(listens, lambda _message: None)
            await link.start(supervise=tasks.spawn)
        yield link
    finally:
        await tasks.close()
        await link.close()
    assert not tasks.failures, "a task of the link failed"


@contextlib.asynccontextmanager
async def background(run: Callable[[], Awaitable[None]]) -> AsyncIterator[asyncio.Task[None]]:
    """A part that runs for ever, ended with the test; the test fails if it ended by itself."""

    async def forever() -> None:
        await run()

    task = asyncio.create_task(forever())
    try:
        yield task
        assert not task.done(), "it ended by itself"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@dataclass
class Proxy:
    """A server in front of Redis that can be watched and disturbed."""

    port: int = 0
    connections: int = 0
    seen: list[bytes] = field(default_factory=list)
    """What clients sent, piece by piece, while ``silent`` is not set."""
    silent: bool = False
    """Takes everything and answers nothing, and passes nothing on."""
    writers: set[asyncio.StreamWriter] = field(default_factory=set)

    def sent(self, text: bytes) -> int:
        """How often clients sent this."""
        return b"".join(self.seen).count(text)

    def cut(self) -> None:
        """Resets every connection."""
        for writer in self.writers:
            writer.transport.abort()


@contextlib.asynccontextmanager
async def serving(serve: Serve, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A TCP server on a free port of 127.0.0.1."""

    connections: dict[asyncio.StreamWriter, asyncio.Task[None] | None] = {}

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections[writer] = asyncio.current_task()
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await serve(reader, writer)
        writer.close()

    server = await asyncio.start_server(one, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in connections:
            writer.transport.abort()
        if tasks := [task for task in connections.values() if task is not None]:
            await asyncio.wait(tasks, timeout=5)


@contextlib.asynccontextmanager
async def proxied(target: int, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Proxy]:
    """A proxy of the server on port ``target`` of 127.0.0.1; with ``tls`` it ends TLS."""
    proxy = Proxy()
    tasks: set[asyncio.Task[None]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, keep: bool) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(65536):
                if proxy.silent:
                    continue
                if keep:
                    proxy.seen.append(piece)
                writer.write(piece)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        proxy.connections += 1
        proxy.writers.add(writer)
        upstream, downstream = await asyncio.open_connection("127.0.0.1", target)
        there = asyncio.create_task(pump(reader, downstream, True))
        back = asyncio.create_task(pump(upstream, writer, False))
        tasks.update((there, back))
        await asyncio.gather(there, back)
        proxy.writers.discard(writer)

    async with serving(serve, tls=tls) as port:
        proxy.port = port
        yield proxy
        proxy.cut()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def say_nothing(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """A server that hangs from the start."""
    await reader.read()


async def say_garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A server that speaks another protocol."""
    while await reader.read(65536):
        writer.write(b"HTTP/1.1 400 Bad Request\r\n$zz\r\n*\xff\r\n\r\n")
        await writer.drain()
