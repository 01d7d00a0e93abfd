"""Clients that do not read: what waits for them is bounded, they are closed, and nobody else notices."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import socketio

from realtime.errors import Close
from realtime.wire import Limits, WireManager, WireServer
from realtime.wire.connection import Connection
from realtime.wire.outgoing import Outgoing
from realtime.wire.packets import PACKET_COST, SharedPacket
from realtime.wire.session import BATCH_BYTES
from realtime.wire.watch import Watch
from sim import http, raw_transports
from tests.support import virtual_time

from .lab import BOUND, Client, Instance, Polling, Websocket, parsed, running, serving, until

PIECE = 16 * 1024
LIMIT = 20 * PIECE
HIGH_WATER = 64 * 1024
"""What asyncio's transports take before they say that they are full, and one write more."""


class Deaf:
    """A client by websocket that has connected and reads nothing more."""

    def __init__(self, transport: raw_transports.WebSocket) -> None:
        self.raw = transport

    @classmethod
    @asynccontextmanager
    async def to(cls, port: int) -> AsyncIterator[Deaf]:
        transport = raw_transports.WebSocket("127.0.0.1", port, "/socket.io/")
        await transport.open()
        await transport.receive()
        await transport.send("40")
        assert (await transport.receive())[0].startswith("40{")
        transport.stop_reading()
        try:
            yield cls(transport)
        finally:
            transport.reset()

    async def reads_again(self) -> tuple[list[str], str]:
        """All packets until the end, and how it ended."""
        self.raw.go_on_reading()
        packets: list[str] = []
        try:
            async with asyncio.timeout(BOUND):
                while True:
                    packets += await self.raw.receive()
        except raw_transports.Ended as ended:
            return packets, str(ended)


def session(instance: Instance, number: int = 0) -> Any:
    return list(instance.server.eio.sockets.values())[number]


async def emit_until(instance: Instance, done: Any, *, most: int = 5000) -> int:
    """Pieces to everyone, numbered, until `done()`; how many."""
    for number in range(most):
        if done():
            return number
        await instance.server.emit("piece", (number, "x" * PIECE))
        await asyncio.sleep(0)
    raise AssertionError(f"not so after {most} pieces")


async def fill(instance: Instance) -> None:
    """Until the deaf client's connection is full."""
    await emit_until(instance, lambda: session(instance).queue.outlet.buffered() > HIGH_WATER)


async def test_a_client_that_does_not_read_is_closed_and_what_waits_for_it_never_exceeds_its_bound() -> None:
    async with serving(limits=Limits(max_outgoing_bytes=LIMIT)) as instance, Deaf.to(instance.port):
        queue = session(instance).queue
        peaks = []

        def closed() -> bool:
            peaks.append(queue.waiting)
            return bool(session(instance).closing)

        await emit_until(instance, closed)
        assert LIMIT - PIECE < max(peaks) <= LIMIT + PIECE + 2 * PACKET_COST
        assert instance.server.counters.slow_consumers == 1
        assert instance.server.counters.closed_by_server == 1
        assert queue.waiting <= 2 * HIGH_WATER, "what waited in the queue was not let go of at once"


async def test_nobody_else_is_slowed_and_an_emit_waits_for_nobody() -> None:
    async with (
        serving(limits=Limits(max_outgoing_bytes=LIMIT)) as instance,
        Deaf.to(instance.port),
        Websocket.to(instance) as quick,
    ):
        slow, other = session(instance), session(instance, 1)
        seen: list[int] = []

        async def read() -> None:
            while True:
                seen.append(parsed(await quick.receive())[1])

        reading = asyncio.create_task(read())
        sent = 0
        while not (slow.closing and sent % 50 == 0):
            emit = instance.server.emit("piece", (sent, "x" * PIECE))
            with pytest.raises(StopIteration):
                emit.send(None)  # ended without having waited for anything
            sent += 1
            for _turn in range(50):
                await asyncio.sleep(0)
                if other.queue.waiting == 0:
                    break
            assert other.queue.waiting == 0, "what is for the quick client waits"
            assert sent < 5000
        await until(lambda: len(seen) == sent, "the quick client's last piece")
        assert seen == list(range(sent))
        assert not other.closing
        reading.cancel()


async def test_who_reads_late_is_told_why_and_gets_nothing_of_what_was_dropped() -> None:
    async with serving(limits=Limits(max_outgoing_bytes=LIMIT)) as instance, Deaf.to(instance.port) as deaf:
        sent = await emit_until(instance, lambda: session(instance).closing)
        packets, how = await deaf.reads_again()
        assert how == "closed 1012 client reads too slowly"
        assert parsed(packets[-1]) == ["closing", {"code": 4014, "reason": "client reads too slowly"}]
        numbers = [parsed(packet)[1] for packet in packets[:-1]]
        assert numbers == list(range(len(numbers)))
        assert len(numbers) < sent - LIMIT // PIECE // 2
        await until(instance.nothing_left)


async def test_nothing_follows_what_was_dropped_but_the_reason() -> None:
    """Also not what was sent in the very turn in which the client was found too slow."""
    async with serving() as instance, Deaf.to(instance.port) as deaf:
        await emit_until(instance, lambda: session(instance).line._frames)
        await instance.server.emit("piece", (-1, "after the gap"))
        instance.server.eio.refuse(session(instance).sid, Close.SLOW_CONSUMER)
        packets, _end = await deaf.reads_again()
        assert parsed(packets[-1]) == ["closing", {"code": 4014, "reason": "client reads too slowly"}]
        numbers = [parsed(packet)[1] for packet in packets[:-1]]
        assert numbers == list(range(len(numbers)))
        assert numbers
        assert instance.server.counters.slow_consumers == 1


@pytest.mark.parametrize("why", [Close.SLOW_CONSUMER, Close.KICKED])
async def test_the_connection_of_a_client_that_never_reads_is_aborted_whyever_it_is_closed(
    why: Close,
) -> None:
    bound = LIMIT if why is Close.SLOW_CONSUMER else 1 << 30
    async with (
        serving(limits=Limits(max_outgoing_bytes=bound, slow_seconds=3600)) as instance,
        Deaf.to(instance.port) as deaf,
    ):
        stuck = session(instance)
        stuck.linger = 0.3
        await fill(instance)
        if why is Close.KICKED:
            await instance.server.close(next(iter(instance.manager.book.members)), why)
        else:
            await emit_until(instance, lambda: stuck.closing)
        await until(instance.nothing_left)
        _packets, how = await deaf.reads_again()
        assert how in ("end of stream", "reset")


async def test_its_session_has_left_at_once_while_its_connection_is_still_full() -> None:
    async with serving(limits=Limits(max_outgoing_bytes=LIMIT)) as instance, Deaf.to(instance.port):
        left: list[str] = []
        instance.server.on("disconnect", lambda sid, reason: left.append(sid))
        (sid,) = instance.manager.book.members
        stuck = session(instance)
        await emit_until(instance, lambda: stuck.closing)
        assert instance.server.is_gone(sid)
        for _turn in range(10):
            await asyncio.sleep(0)
        assert left == [sid]
        assert stuck.queue.outlet.buffered() > 0


@asynccontextmanager
async def wrapped(wrap: Any, **options: Any) -> AsyncIterator[tuple[Instance, list[Any]]]:
    """An instance behind a middleware `wrap(receive, send)`; and the requests that it still handles."""
    manager = WireManager(None)
    server = WireServer(manager, limits=Limits(max_outgoing_bytes=LIMIT), **options)
    server.on("connect", lambda sid, environ, auth: manager.admit(sid))
    inner = socketio.ASGIApp(server)
    handled: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        handled.append(scope)
        try:
            await inner(scope, *wrap(receive, send))
        finally:
            handled.remove(scope)

    async with running(server, app) as port:
        yield Instance(server, port), handled
        await server.aclose(timeout=1.0)


async def test_where_the_connection_cannot_be_seen_everything_ends_all_the_same() -> None:
    def hide(receive: Any, send: Any) -> Any:
        async def hidden() -> Any:
            return await receive()

        return hidden, send

    async with (
        wrapped(hide, ping_interval=0.5, ping_timeout=0.5) as (instance, handled),
        Deaf.to(instance.port),
    ):
        stuck = session(instance)
        stuck.linger = 0.2
        await emit_until(instance, lambda: stuck.closing)
        assert stuck.queue.outlet.buffered() == 0
        assert instance.server.counters.slow_consumers == 1
        await until(lambda: instance.nothing_left() and not handled, "the end of the websocket's task")


async def test_of_what_the_writer_has_taken_only_the_one_packet_under_way_still_goes_out() -> None:
    gate = asyncio.Semaphore(2)  # the handshake and CONNECT

    def hold(receive: Any, send: Any) -> Any:
        async def held(message: Any) -> None:
            if message["type"] == "websocket.send":
                await gate.acquire()
            await send(message)

        return receive, held

    async with wrapped(hold, direct=False) as (instance, _handled), Websocket.to(instance) as client:
        stuck = session(instance)
        take, batches = stuck.queue.take, []

        async def noted(*most: int) -> list[Any]:
            batches.append(await take(*most))
            return list(batches[-1])

        stuck.queue.take = noted
        for number in range(15):
            await instance.server.emit("piece", (number, "x" * PIECE))
        for number in range(5):
            gate.release()
            assert parsed(await client.receive())[1] == number
        await until(lambda: batches, "the second time that the writer takes")
        assert 1 < max(map(len, batches)) <= BATCH_BYTES // PIECE, "a writer takes little at once"
        sent = await emit_until(instance, lambda: stuck.closing)
        assert sent > LIMIT // PIECE // 2
        for _ in range(100):
            gate.release()
        code, _reason, packets = await client.closed()
        assert code == 1012
        assert [parsed(packet)[0] for packet in packets] == ["piece", "closing"]


@pytest.mark.parametrize("transport", ["websocket", "polling"])
async def test_who_reads_nothing_for_a_time_is_closed_though_little_waits(transport: str) -> None:
    limits = Limits(max_outgoing_bytes=1 << 30, slow_seconds=0.3)
    async with serving(limits=limits) as instance:
        async with Deaf.to(instance.port) if transport == "websocket" else Polling.to(instance) as client:
            stuck = session(instance)
            if transport == "websocket":
                await fill(instance)
            else:
                await instance.server.emit("x")
            await until(lambda: instance.server.counters.slow_consumers == 1, "the end of the slow client")
            if isinstance(client, Polling):
                assert parsed((await client.get())[1])[1]["code"] == 4014
            assert stuck.closing


async def test_a_client_that_has_nothing_to_read_or_reads_is_left_alone() -> None:
    limits = Limits(slow_seconds=0.1)
    async with (
        serving(limits=limits) as instance,
        Websocket.to(instance) as quick,
        Polling.to(instance) as poller,
    ):
        async with Polling.to(instance) as deaf:
            await instance.server.emit("x")
            assert parsed(await quick.receive()) == ["x"]
            assert parsed(await poller.receive()) == ["x"]
            await until(
                lambda: instance.server.counters.slow_consumers == 1, "the end of the one that is slow"
            )
            assert "closing" in (await deaf.get())[1]
        await instance.server.emit("y")
        assert parsed(await quick.receive()) == ["y"]
        assert parsed(await poller.receive()) == ["y"]
        assert instance.server.counters.slow_consumers == 1


async def test_a_client_that_does_not_poll_is_closed_and_its_next_poll_tells_why() -> None:
    async with serving(limits=Limits(max_outgoing_bytes=LIMIT)) as instance, Polling.to(instance) as client:
        queue = session(instance).queue
        sent = await emit_until(instance, lambda: session(instance).closing)
        assert LIMIT // PIECE <= sent <= LIMIT // PIECE + 2
        assert queue.waiting < 3 * PACKET_COST
        assert instance.server.counters.slow_consumers == 1
        status, payload = await client.get()
        assert status == 200
        assert parsed(payload) == ["closing", {"code": 4014, "reason": "client reads too slowly"}]
        assert (await client.get())[0] == 400
        await until(instance.nothing_left)


async def test_an_answer_to_a_poll_that_was_not_read_is_seen_when_the_client_polls_on() -> None:
    limits = Limits(max_outgoing_bytes=1 << 30, slow_seconds=3600)
    async with serving(limits=limits) as instance, Polling.to(instance) as client:
        stuck = session(instance)
        for number in range(15):
            await instance.server.emit("piece", (number, "x" * 100 * PIECE))
        _reader, writer = await asyncio.open_connection("127.0.0.1", instance.port)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        path = client.url.removeprefix(instance.http)
        writer.write(http.request("GET", "x", path))
        await until(lambda: stuck.queue.outlet is not None and stuck.queue.outlet.buffered() > HIGH_WATER)
        unread = stuck.queue.outlet
        status, payload = await client.get()
        assert (status, parsed(payload)[1]["code"]) == (200, 4014)
        assert instance.server.counters.slow_consumers == 1
        await until(lambda: unread.buffered() == 0, "the end of the unread answer")
        writer.transport.abort()


@pytest.mark.parametrize("end", ["shut", "ping timeout"])
async def test_an_answer_that_nobody_reads_is_given_up_some_time_after_the_session(end: str) -> None:
    limits = Limits(max_outgoing_bytes=1 << 30, slow_seconds=3600)
    pings = {"ping_interval": 0.2, "ping_timeout": 0.2} if end == "ping timeout" else {}
    async with serving(limits=limits, **pings) as instance, Polling.to(instance) as client:
        stuck = session(instance)
        stuck.linger = 0.1
        for number in range(15):
            await instance.server.emit("piece", (number, "x" * 100 * PIECE))
        if end == "shut":
            stuck.shut(instance.server.reason.SERVER_DISCONNECT)
        _reader, writer = await asyncio.open_connection("127.0.0.1", instance.port)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(http.request("GET", "x", client.url.removeprefix(instance.http)))
        await until(lambda: stuck.queue.outlet is not None and stuck.queue.outlet.buffered() > HIGH_WATER)
        unread = stuck.queue.outlet
        await until(instance.nothing_left)
        await until(lambda: unread.buffered() == 0, "the end of the unread answer")
        writer.transport.abort()


async def test_nobody_answers_for_whoever_used_the_same_connection_after_him() -> None:
    """As behind a proxy that keeps its connections: one that goes on to a deaf client was a good one's before."""
    limits = Limits(max_outgoing_bytes=1 << 30, slow_seconds=3600)
    async with (
        serving(limits=limits) as instance,
        Polling.to(instance) as good,
        Polling.to(instance) as deaf,
    ):
        (good_sid, deaf_sid), sockets = instance.manager.book.members, instance.server.eio.sockets
        mine, his = sockets.values()
        reader, writer = await asyncio.open_connection("127.0.0.1", instance.port)
        await instance.server.emit("x", to=good_sid)
        writer.write(_get(good.url.removeprefix(instance.http)))
        assert parsed((await http.response(reader)).body.decode()) == ["x"]
        for number in range(15):
            await instance.server.emit("piece", (number, "x" * 100 * PIECE), to=deaf_sid)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(_get(deaf.url.removeprefix(instance.http)))
        await until(lambda: his.queue.outlet is not None and his.queue.outlet.buffered() > HIGH_WATER)
        assert mine.queue.waiting == 0
        await instance.server.emit("y", to=good_sid)
        assert parsed(await good.receive()) == ["y"]
        assert instance.server.counters.slow_consumers == 0
        writer.transport.abort()


def _get(path: str) -> bytes:
    """A poll on a connection that is to be used again."""
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


async def test_one_message_larger_than_the_bound_reaches_who_reads() -> None:
    async with serving(limits=Limits(max_outgoing_bytes=1024)) as instance, Websocket.to(instance) as client:
        await instance.server.emit("large", "x" * 100_000)
        assert len(await client.receive()) > 100_000
        assert instance.server.counters.slow_consumers == 0


@pytest.mark.parametrize("transport", ["websocket", "polling"])
async def test_what_follows_a_message_larger_than_the_bound_reaches_who_reads_too(transport: str) -> None:
    async with serving(limits=Limits(max_outgoing_bytes=1024)) as instance:

        @instance.server.on("connect")
        async def connect(sid: str, environ: Any, auth: Any) -> None:
            instance.manager.admit(sid)
            await instance.server.emit("large", "x" * 100_000, to=sid)
            await instance.server.emit("small", 1, to=sid)

        async with Client.to(instance, transport) as client:
            assert await client.got("large") == ("large", "x" * 100_000)
            assert await client.got("small") == ("small", 1)
            await instance.server.emit("larger", "x" * 200_000)
            await instance.server.emit("last", 2)
            assert await client.got("larger") == ("larger", "x" * 200_000)
            assert await client.got("last") == ("last", 2)
        assert instance.server.counters.slow_consumers == 0


async def test_a_message_larger_than_the_bound_raises_it_until_it_has_been_read() -> None:
    limits = Limits(max_outgoing_bytes=LIMIT, slow_seconds=0.5)
    async with serving(limits=limits) as instance, Deaf.to(instance.port) as deaf:
        stuck = session(instance)
        await instance.server.emit("large", "x" * 64 * LIMIT)
        for number in range(10):
            await asyncio.sleep(0.01)
            await instance.server.emit("small", number)
        assert not stuck.closing
        deaf.raw.go_on_reading()
        received: list[str] = []
        while len(received) < 11:
            received += await deaf.raw.receive()
        assert [parsed(packet)[0] for packet in received] == ["large", *["small"] * 10]
        await until(lambda: stuck.queue.allowance == 0)
        deaf.raw.stop_reading()
        waited: list[int] = []
        await emit_until(instance, lambda: waited.append(stuck.queue.waiting) or stuck.closing)
        assert LIMIT - 2 * PIECE < max(waited) <= LIMIT + 2 * PIECE


async def test_what_is_kept_until_connect_is_answered_is_bounded_by_its_bytes() -> None:
    async with serving(limits=Limits(max_outgoing_bytes=LIMIT)) as instance:

        @instance.server.on("connect")
        async def connect(sid: str, environ: Any, auth: Any) -> None:
            for _ in range(100):
                await instance.server.emit("early", "x" * PIECE, to=sid)

        async with Websocket.to(instance, connect=False) as client:
            await client.send("40")
            code, _reason, packets = await client.closed()
            assert code == 1012
            assert not any("early" in packet for packet in packets)
        assert instance.server.counters.packets_held_back_dropped == 1


# --- the watch, in virtual time


class Watched:
    """A watch over one made-up connection."""

    def __init__(self, **limits: Any) -> None:
        self.queue = Outgoing()
        socket: Any = SimpleNamespace(queue=self.queue, closing=False, sid="s")
        nothing: Any = None
        connection = Connection(socket, {}, reader=nothing, lane=nothing, events=nothing)
        connection.joined = True
        self.connection = connection
        self.ended: list[tuple[str, float]] = []
        self.watch = Watch(
            {"s": connection}, Limits(**limits), silent=self._end("silent"), slow=self._end("slow")
        )

    def _end(self, how: str) -> Any:
        def end(connection: Connection) -> None:
            connection.socket.closing = True
            self.ended.append((how, asyncio.get_running_loop().time()))

        return end


def test_a_client_that_reads_nothing_is_closed_after_the_time_that_was_set() -> None:
    async def scenario() -> None:
        watched = Watched()
        watched.watch.start()
        await asyncio.sleep(60.5)
        assert watched.ended == []
        watched.queue.put_nowait(SharedPacket(4, "x"))
        began = asyncio.get_running_loop().time()
        await asyncio.sleep(60)
        ((how, at),) = watched.ended
        assert how == "slow"
        assert 10.0 <= at - began <= 12.0
        watched.watch.stop()

    virtual_time.run(scenario())


def test_a_client_that_reads_slowly_and_steadily_is_left_alone_within_its_bound() -> None:
    async def scenario() -> None:
        watched = Watched()
        watched.watch.start()
        for _ in range(100):
            watched.queue.put_nowait(SharedPacket(4, "x" * 1000))
        for _ in range(40):
            await asyncio.sleep(7)
            await watched.queue.get()
            watched.queue.handed_over()
        assert watched.ended == []
        watched.queue.put_nowait(SharedPacket(4, "x" * 1_048_576))
        await asyncio.sleep(2)
        assert [how for how, _at in watched.ended] == ["slow"]
        watched.watch.stop()

    virtual_time.run(scenario())


def test_the_time_that_the_server_itself_stood_still_is_not_the_clients() -> None:
    async def scenario() -> None:
        watched = Watched()
        watched.watch.start()
        watched.queue.put_nowait(SharedPacket(4, "x"))
        await asyncio.sleep(5)
        asyncio.get_running_loop()._now += 100  # type: ignore[attr-defined]  # as after a stop of the process
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await watched.queue.get()
        watched.queue.handed_over()
        await asyncio.sleep(60)
        assert watched.ended == []
        watched.watch.stop()

    virtual_time.run(scenario())
