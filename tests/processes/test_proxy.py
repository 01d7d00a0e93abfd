"""The proxy between processes: what passes it, when, under which name, and what is done to it on the way."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest

from sim.processes.process import LOOPBACK
from sim.processes.proxy import Link, Proxy
from sim.processes.resp import Values, command, is_published
from sim.schedule import Message, PlainSchedule

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Seen:
    def __init__(self) -> None:
        self.arrivals: list[Message] = []

    def sent(self, message: Message, arrives_at: float) -> None:
        return None

    def arrived(self, message: Message, now: float) -> None:
        self.arrivals.append(message)


class Stage:
    """A server that says everything back, and a link to it."""

    def __init__(self, proxy: Proxy, port: int) -> None:
        self.proxy = proxy
        self.seen = Seen()
        proxy.observers.append(self.seen)
        self.link = proxy.link("api-1", "redis", lambda: (LOOPBACK, port))

    async def connect(self) -> Streams:
        return await asyncio.open_connection(LOOPBACK, self.link.port)


@contextlib.asynccontextmanager
async def stage(proxy: Proxy | None = None) -> AsyncIterator[Stage]:
    async def say_back(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
            writer.write(command("BYE"))
            writer.close()

    proxy = proxy or Proxy(time.monotonic, PlainSchedule())
    server = await asyncio.start_server(say_back, LOOPBACK, 0)
    try:
        yield Stage(proxy, server.sockets[0].getsockname()[1])
    finally:
        await proxy.close()
        server.close()


PING, PONG = command("PING"), command("PONG")


async def test_messages_are_counted_on_each_lane_and_are_whole_commands() -> None:
    async with stage() as here:
        reader, writer = await here.connect()
        writer.write(PING[:5])
        await writer.drain()
        await asyncio.sleep(0.01)
        writer.write(PING[5:] + PONG)
        assert await reader.readexactly(len(PING + PONG)) == PING + PONG
        named = [(message.name, message.kind) for message in here.seen.arrivals]
        assert named == [
            ("api-1→redis #1", "open"),
            ("redis→api-1 #1", "accept"),
            ("api-1→redis #2", "data"),
            ("redis→api-1 #2", "data"),
        ]
        assert here.seen.arrivals[2].data == PING + PONG


async def test_a_held_message_and_what_follows_it_on_its_connection_come_later_and_others_do_not() -> None:
    schedule = PlainSchedule({"api-1→redis #3": 0.3})
    async with stage(Proxy(time.monotonic, schedule)) as here:
        held_reader, held = await here.connect()
        free_reader, free = await here.connect()
        while here.proxy.messages < 4:  # both were opened and accepted
            await asyncio.sleep(0.01)
        held.write(PING)
        while here.proxy.messages < 5:
            await asyncio.sleep(0.01)
        free.write(PING)
        await free_reader.readexactly(len(PING))
        held.write(PONG)
        await held_reader.readexactly(len(PING + PONG))
        data = [message.name for message in here.seen.arrivals if message.kind == "data"]
        towards = [name for name in data if name.startswith("api-1")]
        assert towards == ["api-1→redis #4", "api-1→redis #3", "api-1→redis #5"]
        assert schedule.bitten == ["api-1→redis #3"]


async def test_a_hold_delays_by_its_seconds() -> None:
    async with stage(Proxy(time.monotonic, PlainSchedule({"api-1→redis #2": 0.25}))) as here:
        reader, writer = await here.connect()
        began = time.monotonic()
        writer.write(PING)
        await reader.readexactly(len(PING))
        assert time.monotonic() - began >= 0.24


async def test_a_message_that_is_to_come_after_another_waits_until_that_was_answered() -> None:
    after = {"api-1→redis #3": "api-2→redis #2"}
    async with stage(Proxy(time.monotonic, PlainSchedule(), after=after)) as here:
        second = here.proxy.link("api-2", "redis", here.link.upstream)
        reader, writer = await here.connect()
        other_reader, other_writer = await asyncio.open_connection(LOOPBACK, second.port)
        writer.write(PING)
        await reader.readexactly(len(PING))
        writer.write(PONG)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.readexactly(1), 0.1)
        other_writer.write(PING)
        await other_reader.readexactly(len(PING))
        await reader.readexactly(len(PONG) - 1)
        order = [message.name for message in here.seen.arrivals if message.target == "redis"]
        assert order.index("api-2→redis #2") < order.index("api-1→redis #3")


async def test_what_a_blocked_lane_keeps_is_sent_on_when_it_passes_again_and_the_other_lane_works() -> None:
    async with stage() as here:
        reader, writer = await here.connect()
        writer.write(PING)
        await reader.readexactly(len(PING))
        here.link.down.block()
        writer.write(PONG)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.readexactly(1), 0.1)
        assert here.seen.arrivals[-1].source == "api-1"
        here.link.down.pass_on()
        assert len(await reader.readexactly(len(PONG) - 1)) == len(PONG) - 1


async def test_nothing_comes_out_of_a_void_lane_and_nobody_is_told() -> None:
    async with stage() as here:
        reader, writer = await here.connect()
        here.link.up.void = True
        writer.write(PING)
        writer.write_eof()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.1)


async def test_a_torn_message_arrives_half_and_then_the_connection_is_reset() -> None:
    async with stage() as here:
        reader, writer = await here.connect()
        here.link.down.tears = True
        writer.write(PING)
        got = b""
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(100):
                got += data
        assert got in (b"", PING[: len(PING) // 2])
        assert not here.link.down.tears


async def test_little_bandwidth_takes_its_time() -> None:
    async with stage() as here:
        reader, writer = await here.connect()
        here.link.up.bytes_per_second = 10_000
        big = command("SET", "key", "x" * 3000)
        began = time.monotonic()
        writer.write(big)
        await reader.readexactly(len(big))
        assert time.monotonic() - began >= 0.25


async def test_latency_is_added_to_each_message() -> None:
    async with stage() as here:
        reader, writer = await here.connect()
        here.link.down.latency = 0.1
        began = time.monotonic()
        writer.write(PING)
        await reader.readexactly(len(PING))
        assert time.monotonic() - began >= 0.1


async def test_a_half_closed_connection_still_hears() -> None:
    async with stage() as here:
        reader, writer = await here.connect()
        writer.write(PING)
        await reader.readexactly(len(PING))
        here.link.half_close()
        assert await reader.readexactly(len(command("BYE"))) == command("BYE")


async def test_a_reset_ends_the_connections_of_a_link_and_not_those_that_come_then() -> None:
    async with stage() as here:
        reader, writer = await here.connect()
        writer.write(PING)
        await reader.readexactly(len(PING))
        here.link.reset()
        with pytest.raises(ConnectionError):
            await reader.readexactly(1)
        reader, writer = await here.connect()
        writer.write(PING)
        assert await reader.readexactly(len(PING)) == PING


async def test_whoever_connects_to_nobody_is_reset() -> None:
    async with stage() as here:
        nobody = here.proxy.link("ann-1", "api-1", lambda: (LOOPBACK, 1))
        reader, _writer = await asyncio.open_connection(LOOPBACK, nobody.port)
        with pytest.raises(ConnectionError):
            await reader.readexactly(1)


async def test_published_messages_can_be_lost_and_are_counted_and_nothing_else_is() -> None:
    async with stage() as here:
        reader, writer = await here.connect()
        here.link.down.loses_published = True
        writer.write(
            command("message", "channel", "lost") + PING + command("pmessage", "*", "channel", "lost")
        )
        writer.write(PONG)
        assert await reader.readexactly(len(PING + PONG)) == PING + PONG
        assert here.link.down.lost == 2


def test_values_of_the_protocol_are_split_wherever_they_are_cut() -> None:
    whole = [
        b"+OK\r\n",
        b"-ERR no\r\n",
        b":12\r\n",
        b"$-1\r\n",
        b"$4\r\n\r\n\r\n\r\n",
        b"*-1\r\n",
        b"*2\r\n$1\r\na\r\n*1\r\n:1\r\n",
        b"%1\r\n+key\r\n*0\r\n",
        b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nd\r\n",
        b"_\r\n",
        b"=8\r\ntxt:text\r\n",
    ]
    stream = b"".join(whole)
    for step in range(1, 12):
        values = Values()
        found = [value for at in range(0, len(stream), step) for value in values.feed(stream[at : at + step])]
        assert found == whole
    assert [is_published(value) for value in whole].count(True) == 1


def test_links_are_found_by_both_ends() -> None:
    async def look() -> None:
        proxy = Proxy(time.monotonic, PlainSchedule())
        link: Link = proxy.link("ann-1", "api-1", lambda: (LOOPBACK, 1))
        assert proxy.between("api-1", "ann-1") == [link]
        assert proxy.lane("api-1", "ann-1") is link.down
        assert proxy.of("ann-1") == [link]
        with pytest.raises(KeyError):
            proxy.lane("ann-1", "api-2")
        await proxy.close()

    asyncio.run(look())
