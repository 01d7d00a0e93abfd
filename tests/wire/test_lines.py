"""Lines and their flush over real sockets: whatever the kernel takes, each reader gets all that is its, in order."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop
from hypothesis import example, given, settings
from hypothesis import strategies as st

from realtime.wire.line import Flush, Line

LINES = 3
BOUND = 10.0


class Reader(asyncio.Protocol):
    """What a line needs of its protocol and of its session, and the other end of the connection."""

    transport: Any

    def __init__(self, flush: Flush, most: int) -> None:
        self._flush, self._most = flush, most
        self.writable = asyncio.Event()
        self.writable.set()
        self.overflows = 0
        self.line: Line
        self.other: socket.socket
        self.got = b""
        self.due = b""

    async def connect(self) -> None:
        ours, self.other = socket.socketpair()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        self.other.setblocking(False)
        await asyncio.get_running_loop().create_connection(lambda: self, sock=ours)
        self.line = Line(self, self, self._flush, most=self._most)  # type: ignore[arg-type]  # as much of both as it uses

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def pause_writing(self) -> None:
        self.line.pause()

    def resume_writing(self) -> None:
        self.line.resume()

    def overflowed(self) -> None:
        self.overflows += 1

    def begin_close(self, _code: int, _reason: str) -> bytes:
        return b"bye"

    def read(self, most: int) -> int:
        try:
            data = self.other.recv(most)
        except BlockingIOError:
            return 0
        self.got += data
        return len(data)

    async def read_all(self) -> None:
        async with asyncio.timeout(BOUND):
            while len(self.got) < len(self.due):
                self.read(1 << 20)
                await asyncio.sleep(0)
        self.read(1 << 20)

    def close(self) -> None:
        self.transport.abort()
        self.other.close()


def run(body: Callable[[], Any], loop: str) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop if loop == "uvloop" else None) as runner:
        runner.run(body())


@pytest.fixture(params=["asyncio", "uvloop"])
def loop(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


sends = st.tuples(st.sets(st.integers(0, LINES - 1), min_size=1), st.integers(1, 40_000))
reads = st.tuples(st.integers(0, LINES - 1), st.integers(1, 30_000))


@pytest.mark.parametrize("raw", [True, False], ids=["by the descriptor", "by the transport"])
def test_every_reader_gets_all_that_was_sent_to_it_in_order(loop: str, raw: bool) -> None:
    @settings(max_examples=60, deadline=None)
    @given(turns=st.lists(st.tuples(st.lists(sends, max_size=6), st.lists(reads, max_size=4)), max_size=12))
    @example(turns=[([({0}, 30_000)], [(0, 30_000)]), ([({0}, 2_000)], [])])
    def check(turns: list[tuple[list[tuple[set[int], int]], list[tuple[int, int]]]]) -> None:
        async def body() -> None:
            flush = Flush()
            readers = [Reader(flush, 1 << 30) for _ in range(LINES)]
            for reader in readers:
                await reader.connect()
                if not raw:
                    reader.line._descriptor = None
            number = 0
            for sent, read in turns:
                for to, size in sent:
                    number += 1
                    data = (b"%d," % number) * (1 + size // 6)
                    for at in to:
                        readers[at].due += data
                    if len(to) == 1:
                        readers[min(to)].line.send(data)
                    else:
                        flush.send(data, [readers[at].line for at in to])
                await asyncio.sleep(0)
                for at, most in read:
                    readers[at].read(most)
            for reader in readers:
                await reader.read_all()
                assert reader.got == reader.due
                assert reader.line.buffered() == 0
                reader.close()

        run(body, loop)

    check()


def test_what_the_kernel_does_not_take_waits_in_sight_and_is_reported_beyond_the_bound(loop: str) -> None:
    async def body() -> None:
        flush = Flush()
        slow, good = Reader(flush, 50_000), Reader(flush, 50_000)
        for reader in (slow, good):
            await reader.connect()
        for _ in range(100):
            flush.send(b"x" * 4000, [slow.line, good.line])
            good.due += b"x" * 4000
            await asyncio.sleep(0)
            good.read(1 << 20)
            waiting = slow.line.buffered()
            assert (slow.overflows > 0) == (waiting > 50_000)
            if slow.overflows:
                break
        assert slow.overflows == 1
        assert good.overflows == 0
        # Progress shows in this: what ever had to wait, less what waits.
        before = slow.line.sent - slow.line.buffered()
        assert before >= 0
        async with asyncio.timeout(BOUND):
            while slow.line.sent - slow.line.buffered() == before:
                slow.read(2000)
                await asyncio.sleep(0)
        await good.read_all()
        for reader in (slow, good):
            reader.close()

    run(body, loop)


def test_who_is_told_of_a_slow_reader_may_send_and_order_holds(loop: str) -> None:
    async def body() -> None:
        flush = Flush()
        slow, good = Reader(flush, 1000), Reader(flush, 1 << 30)
        for reader in (slow, good):
            await reader.connect()

        def overflowed() -> None:
            note = b"slow one!" * (
                10_000 if b"slow" not in good.due else 1
            )  # more than waits for the end of a turn
            flush.send(note, [good.line])
            good.due += note

        slow.overflowed = overflowed  # type: ignore[method-assign]
        for number in range(20):
            for data in (b"%d," % number * 500, b"%d;" % number * 500):
                good.due += data
                flush.send(data, [slow.line, good.line])
            await asyncio.sleep(0)
            good.read(1 << 20)
        await good.read_all()
        assert good.got == good.due
        assert b"slow one!" in good.due
        for reader in (slow, good):
            reader.close()

    run(body, loop)


def test_a_close_comes_after_all_that_was_sent_and_nothing_after_it(loop: str) -> None:
    async def body() -> None:
        flush = Flush()
        for paused in (False, True):
            reader, other = Reader(flush, 1 << 30), Reader(flush, 1 << 30)
            await reader.connect()
            await other.connect()
            for number in range(200 if paused else 3):
                data = b"%d," % number * (1000 if paused else 1)
                flush.send(data, [other.line, reader.line])
                reader.due += data
                other.due += data
                if paused:
                    await asyncio.sleep(0)
                    other.read(1 << 20)
            assert (reader.line.buffered() > 0) == paused
            reader.line.close(1000, "")
            reader.due += b"bye"
            reader.line.send(b"too late")
            other.line.send(b"still here")
            other.due += b"still here"
            for each in (reader, other):
                await each.read_all()
                assert each.got == each.due
                assert each.line.buffered() == 0
                each.close()

    run(body, loop)


def test_a_descriptor_is_not_written_once_the_connection_is_lost(loop: str) -> None:
    """Its number may be somebody else's by then."""

    async def body() -> None:
        flush = Flush()
        reader = Reader(flush, 1 << 30)
        await reader.connect()
        seen: list[bool] = []

        def connection_lost(_error: Exception | None) -> None:
            # Still open: whoever has a line is told before the number can be had by another.
            seen.append(socket.socket(fileno=reader.line._descriptor).detach() == reader.line._descriptor)
            reader.line.put_nowait({"type": "websocket.disconnect"})

        reader.connection_lost = connection_lost  # type: ignore[method-assign]
        reader.lost = lambda: None  # type: ignore[attr-defined]
        reader.transport.abort()
        async with asyncio.timeout(BOUND):
            while not seen:
                await asyncio.sleep(0)
        await asyncio.sleep(0)
        other, its_reader = socket.socketpair()
        its_reader.setblocking(False)
        reader.line._descriptor = other.fileno()
        reader.line.send(b"for somebody else")
        await asyncio.sleep(0)
        with pytest.raises(BlockingIOError):
            its_reader.recv(100)
        for each in (other, its_reader, reader.other):
            each.close()

    run(body, loop)


def test_by_tls_all_arrives_in_order_and_what_waits_is_in_sight(
    loop: str, certificate: tuple[Path, Path]
) -> None:
    """The transport does the writing: the descriptor would get what nobody encrypted."""
    served, trusted = (
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER),
        ssl.create_default_context(cafile=certificate[0]),
    )
    served.load_cert_chain(*certificate)

    async def body() -> None:
        ours, theirs = socket.socketpair()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        flush, running = Flush(), asyncio.get_running_loop()
        slow = Reader(flush, 100_000)
        accepted = asyncio.create_task(running.connect_accepted_socket(lambda: slow, ours, ssl=served))
        stream, writer = await asyncio.open_connection(
            sock=theirs, ssl=trusted, server_hostname="127.0.0.1", limit=10_000
        )
        await accepted
        slow.line = Line(slow, slow, flush, most=100_000)  # type: ignore[arg-type]  # as much of both as it uses
        assert slow.line._descriptor is None
        async with asyncio.timeout(BOUND):
            for number in range(10):
                data = b"%d," % number
                slow.line.send(data)
                assert await stream.readexactly(len(data)) == data
            due = b""
            while not slow.overflows:
                data = b"%d," % len(due) * 1000
                slow.line.send(data)
                due += data
                await asyncio.sleep(0)
            assert slow.line.buffered() > 100_000
            assert await stream.readexactly(len(due)) == due
            while slow.line.buffered():
                await asyncio.sleep(0)
        slow.transport.abort()
        writer.transport.abort()

    run(body, loop)
