"""A load balancer of one page: HTTP and websockets to the instance whose tag the session id begins with.

`python -m sim.processes.small_balancer --listen HOST:PORT FILE`; the file has a line `TAG HOST:PORT NAME` for each
instance (`python -m realtime balancer tags` prints it) and is read again on SIGHUP. One request a connection, which
spares it HTTP's framing. A request is given to another instance only if its own could not be reached.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import urllib.parse
from collections.abc import Coroutine, Iterator
from pathlib import Path

import click

CONNECT_SECONDS = 2.0
HEAD_SECONDS = 10.0
REST_SECONDS = 300.0
"""How long either side may send nothing: far longer than polls and pings need."""

_CHUNK = 65_536
_UNREACHABLE = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class SmallBalancer:
    """Takes connections, one task each; see `serve`."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._turn = 0
        self._instances: list[tuple[str, str]] = []
        self.load()

    def load(self) -> None:
        """Reads tags and addresses from the file."""
        lines = (line.split() for line in self._file.read_text().splitlines())
        self._instances = [(tag, address) for tag, address, *_name in lines]

    def ways(self, sid: str) -> list[str]:
        """The addresses to try, one after the other: the session's own instance first, else each in turn."""
        self._turn += 1
        turn = self._turn % max(1, len(self._instances))
        turned = self._instances[turn:] + self._instances[:turn]
        return [
            address for tag, address in sorted(turned, key=lambda it: not (sid and sid.startswith(it[0])))
        ]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of a client, to its end."""
        there: asyncio.StreamWriter | None = None
        try:
            async with asyncio.timeout(HEAD_SECONDS):
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            request, *headers = head.rstrip("\r\n").split("\r\n")
            query = urllib.parse.parse_qs(urllib.parse.urlsplit(request.split(" ")[1]).query)
            found = await self._connect(self.ways(query.get("sid", [""])[0]))
            if found is None:
                writer.write(_UNREACHABLE)
                return
            answers, there = found
            client: str = writer.get_extra_info("peername")[0]
            there.write("\r\n".join([request, *_passed_on(headers, client), "", ""]).encode("latin-1"))
            await _first_to_end(_pass(reader, there), _pass(answers, writer))
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, IndexError):
            pass  # whoever is left sees the connection close
        finally:
            writer.close()
            if there is not None:
                there.close()

    async def _connect(self, ways: list[str]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        for address in ways:
            host, _, port = address.rpartition(":")
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(CONNECT_SECONDS):
                    return await asyncio.open_connection(host, int(port))
        return None


def _passed_on(headers: list[str], client: str) -> Iterator[str]:
    named = {name.lower(): value.strip() for name, _, value in (header.partition(":") for header in headers)}
    switches = "upgrade" in named
    for header in headers:
        name = header.partition(":")[0].lower()
        if not name.startswith("x-forwarded-") and (name != "connection" or switches):
            yield header
    if not switches:
        yield "Connection: close"
    yield f"X-Forwarded-For: {client}"
    yield "X-Forwarded-Proto: http"
    yield f"X-Forwarded-Host: {named.get('host', '')}"


async def _pass(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while True:
        async with asyncio.timeout(REST_SECONDS):
            data = await source.read(_CHUNK)
            if not data:
                return
            sink.write(data)
            await sink.drain()


async def _first_to_end(*ways: Coroutine[None, None, None]) -> None:
    """Until one of the two sides has closed; the other is then to be closed too."""
    tasks = [asyncio.create_task(way) for way in ways]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@click.command()
@click.option("--listen", required=True, metavar="HOST:PORT")
@click.argument("file", type=click.Path(path_type=Path, exists=True))
def main(listen: str, file: Path) -> None:
    """Balance between the instances named in FILE until SIGTERM or SIGINT."""
    asyncio.run(_balance(listen, file))


async def _balance(listen: str, file: Path) -> None:
    balancer = SmallBalancer(file)
    host, _, port = listen.rpartition(":")
    server = await asyncio.start_server(balancer.serve, host, int(port))
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGHUP, balancer.load)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()
    server.close()


if __name__ == "__main__":
    main(prog_name="python -m sim.processes.small_balancer")
