"""Simulated TCP: everything arrives once and in order, nobody sends without bound, and every end is noticed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.network import Network
from sim.schedule import JitterSchedule, Message, PlainSchedule
from sim.tcp import SEND_BUFFER, WINDOW
from tests.sim.hosts import Hosts, Recorder, Seen

pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")

PORT = 7


class DrawnSchedule:
    """Delays and splits as Hypothesis draws them."""

    def __init__(self, delays: Sequence[float], splits: Sequence[float]) -> None:
        self._delays = delays
        self._splits = splits

    def delay(self, message: Message) -> float:
        return self._delays[hash_of(message.name) % len(self._delays)]

    def pieces(self, message: Message) -> Sequence[int]:
        if not self._splits:
            return ()
        cut = int(len(message.data) * self._splits[hash_of(message.name) % len(self._splits)])
        return (cut, len(message.data) - cut) if 0 < cut < len(message.data) else ()


def hash_of(name: str) -> int:
    return sum(map(ord, name))


@settings(max_examples=60, deadline=None)
@given(
    writes=st.lists(st.integers(1, 120_000), max_size=12),
    pauses=st.lists(st.sampled_from([0.0, 0.0, 0.001, 0.05]), min_size=1, max_size=6),
    delays=st.lists(st.sampled_from([0.0001, 0.001, 0.02, 0.4]), min_size=1, max_size=7),
    splits=st.lists(st.floats(0, 1), max_size=5),
    reads=st.sampled_from([1, 1000, 65_536, 10**6]),
    cut=st.booleans(),
)
def test_all_bytes_arrive_once_and_in_order(
    writes: list[int], pauses: list[float], delays: list[float], splits: list[float], reads: int, cut: bool
) -> None:
    hosts = Hosts(DrawnSchedule(delays, splits))
    sent = b"".join(bytes([number]) * size for number, size in enumerate(writes))
    if reads == 1 and len(sent) > 3000:
        reads = 1000
    got = bytearray()

    async def serve() -> None:
        finished = asyncio.Event()

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.read(reads):
                got.extend(data)
            writer.write(b"thanks")
            writer.close()
            finished.set()

        await asyncio.start_server(handle, "b", PORT)
        await finished.wait()

    async def send() -> bytes:
        reader, writer = await asyncio.open_connection("b", PORT)
        if cut:
            hosts.network.cut("a", "b")
            hosts.world.later(1.5, lambda: hosts.network.mend("a", "b"))
        for number, size in enumerate(writes):
            writer.write(bytes([number]) * size)
            await asyncio.sleep(pauses[number % len(pauses)])
            await writer.drain()
        writer.write_eof()
        return await reader.read()

    _, answer = hosts.run((hosts.b, serve()), (hosts.a, send()))
    assert bytes(got) == sent
    assert answer == b"thanks"


def test_a_receiver_that_stops_reading_stops_the_sender() -> None:
    hosts = Hosts()
    far = Recorder(reading=False)
    hosts.b.serve(lambda: far, PORT)
    most = WINDOW + SEND_BUFFER

    class Sender(asyncio.Protocol):
        paused = resumed = 0

        def pause_writing(self) -> None:
            self.paused += 1

        def resume_writing(self) -> None:
            self.resumed += 1

    async def send() -> Sender:
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.create_connection(Sender, "b", PORT)
        size = 0
        while not protocol.paused:
            transport.write(b"x" * 10_000)
            size += 10_000
            await asyncio.sleep(0.01)
        assert most < size < most + 3 * 65_536
        await asyncio.sleep(100)
        assert transport.get_write_buffer_size() == size - most
        assert not protocol.resumed
        hosts.b.deliver(far.transport.resume_reading)
        await asyncio.sleep(1)
        assert (protocol.paused, protocol.resumed) == (1, 1)
        assert len(far.data) == size
        return protocol

    hosts.run((hosts.a, send()))


def test_half_close_leaves_the_other_direction_open() -> None:
    hosts = Hosts()

    async def serve() -> bytes:
        done: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked = await reader.read()
            await asyncio.sleep(1)
            writer.write(asked.upper())
            writer.close()
            done.set_result(asked)

        await asyncio.start_server(handle, "b", PORT)
        return await done

    async def ask() -> bytes:
        reader, writer = await asyncio.open_connection("b", PORT)
        writer.write(b"question")
        writer.write_eof()
        return await reader.read()

    assert hosts.run((hosts.b, serve()), (hosts.a, ask())) == [b"question", b"QUESTION"]


def test_closing_sends_what_was_written_before() -> None:
    hosts = Hosts()
    far = Recorder()
    hosts.b.serve(lambda: far, PORT)

    async def send() -> None:
        _reader, writer = await asyncio.open_connection("b", PORT)
        writer.write(b"x" * 500_000)
        writer.close()
        await writer.wait_closed()
        await asyncio.sleep(1)

    hosts.run((hosts.a, send()))
    assert len(far.data) == 500_000
    assert far.eof
    assert far.lost == [None]


def test_closing_with_unread_bytes_resets_as_a_kernel_does() -> None:
    hosts = Hosts()
    far = Recorder(reading=False)
    hosts.b.serve(lambda: far, PORT)

    async def send() -> str:
        reader, writer = await asyncio.open_connection("b", PORT)
        writer.write(b"unread")
        await asyncio.sleep(0.01)
        hosts.b.deliver(far.transport.close)
        with pytest.raises(ConnectionResetError):
            await reader.read()
        return "reset"

    assert hosts.run((hosts.a, send())) == ["reset"]


def test_writing_to_a_process_that_is_gone_is_answered_by_a_reset() -> None:
    hosts = Hosts()
    far = Recorder()
    hosts.b.serve(lambda: far, PORT)

    async def send() -> None:
        reader, writer = await asyncio.open_connection("b", PORT)
        await asyncio.sleep(0.01)
        hosts.b.deliver(far.transport.close)
        assert await reader.read() == b""
        writer.write(b"too late")
        await asyncio.sleep(0.01)
        with pytest.raises(ConnectionError):
            writer.write(b"again")
            await writer.drain()

    hosts.run((hosts.a, send()))


def test_nobody_there_refuses() -> None:
    hosts = Hosts()
    seen = Seen()
    hosts.network.observers.append(seen)

    async def connect(host: str) -> None:
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(host, PORT)

    hosts.run((hosts.a, connect("b")), (hosts.b, connect("nowhere")))
    assert [(message.name, message.kind) for message in seen.messages if message.target == "a"] == [
        ("b→a #1", "refuse")
    ]


@pytest.mark.parametrize("silent", [True, False])
def test_a_host_that_does_not_answer_times_the_connect_out(silent: bool) -> None:
    hosts = Hosts()
    hosts.b.serve(Recorder, PORT)
    if silent:
        hosts.network.crash(hosts.b, silent=True)
    else:
        hosts.network.cut("a", "b")

    async def connect() -> float:
        with pytest.raises(TimeoutError):
            await asyncio.open_connection("b", PORT)
        return hosts.world.now

    assert hosts.run((hosts.a, connect())) == [pytest.approx(127, abs=0.1)]


def test_an_opening_that_is_cancelled_is_taken_back() -> None:
    hosts = Hosts(PlainSchedule(latency=1.0))
    far = Recorder()
    hosts.b.serve(lambda: far, PORT)

    async def connect() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.5):
                await asyncio.open_connection("b", PORT)
        await asyncio.sleep(5)

    hosts.run((hosts.a, connect()))
    assert len(far.lost) == 1


def test_what_a_cut_loses_arrives_after_it_is_mended_late_and_in_order() -> None:
    hosts = Hosts()
    far = Recorder()
    hosts.b.serve(lambda: far, PORT)

    async def send() -> float:
        _reader, writer = await asyncio.open_connection("b", PORT)
        writer.write(b"1")
        await asyncio.sleep(0.1)
        hosts.network.cut("a", "b")
        for each in b"2345":
            writer.write(bytes([each]))
            await asyncio.sleep(0.5)
        assert far.data == b"1"
        hosts.network.mend("a", "b")
        mended = hosts.world.now
        writer.write(b"6")
        while far.data != b"123456":
            assert b"123456".startswith(far.data)
            await asyncio.sleep(0.01)
        return hosts.world.now - mended

    (late,) = hosts.run((hosts.a, send()))
    assert 0 < late < 4


def test_a_cut_that_lasts_breaks_the_connection_of_whoever_sends() -> None:
    hosts = Hosts()
    far = Recorder()
    hosts.b.serve(lambda: far, PORT)

    async def send() -> float:
        reader, writer = await asyncio.open_connection("b", PORT)
        hosts.network.cut("a", "b")
        writer.write(b"lost")
        with pytest.raises(TimeoutError):
            await reader.read()
        return hosts.world.now

    assert hosts.run((hosts.a, send())) == [pytest.approx(924.6, abs=0.1)]
    assert not far.data
    assert not far.lost


@pytest.mark.parametrize("silent", [True, False])
def test_a_crash_is_seen_as_a_reset_or_not_at_all(silent: bool) -> None:
    hosts = Hosts()
    hosts.b.serve(Recorder, PORT)

    async def wait() -> str:
        reader, _writer = await asyncio.open_connection("b", PORT)
        hosts.network.crash(hosts.b, silent=silent)
        try:
            async with asyncio.timeout(600):
                return repr(await reader.read())
        except (ConnectionResetError, TimeoutError) as error:
            return type(error).__name__

    assert hosts.run((hosts.a, wait())) == ["TimeoutError" if silent else "ConnectionResetError"]


def test_a_host_that_came_back_resets_connections_of_its_former_life() -> None:
    hosts = Hosts()
    hosts.b.serve(Recorder, PORT)

    async def wait() -> None:
        reader, writer = await asyncio.open_connection("b", PORT)
        hosts.network.crash(hosts.b, silent=True)
        writer.write(b"lost, and sent again")
        await asyncio.sleep(5)
        hosts.host("b")
        with pytest.raises(ConnectionResetError):
            await reader.read()

    hosts.run((hosts.a, wait()))


def test_a_process_that_ends_closes_its_connections() -> None:
    hosts = Hosts()
    hosts.b.serve(Recorder, PORT)

    async def wait() -> bytes:
        reader, _writer = await asyncio.open_connection("b", PORT)
        hosts.network.exit(hosts.b)
        return await reader.read()

    assert hosts.run((hosts.a, wait())) == [b""]


def test_a_port_is_listened_on_once_and_free_after_closing() -> None:
    hosts = Hosts()

    async def listen() -> None:
        server = await asyncio.start_server(lambda *_: None, "b", PORT)
        with pytest.raises(OSError, match="in use"):
            await asyncio.start_server(lambda *_: None, "b", PORT)
        server.close()
        again = await asyncio.start_server(lambda *_: None, "b", PORT)
        assert again.sockets[0].getsockname() == ("b", PORT)
        chosen = await asyncio.start_server(lambda *_: None, "b", 0)
        assert chosen.sockets[0].getsockname()[1] > 0

    hosts.run((hosts.b, listen()))


def test_a_closed_server_refuses_and_keeps_its_connections() -> None:
    hosts = Hosts()

    async def serve() -> None:
        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.read(100):
                writer.write(data)

        server = await asyncio.start_server(echo, "b", PORT)
        await asyncio.sleep(1)
        server.close()
        await asyncio.sleep(2)

    async def talk() -> None:
        await asyncio.sleep(0.5)
        reader, writer = await asyncio.open_connection("b", PORT)
        await asyncio.sleep(1)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("b", PORT)
        writer.write(b"still here")
        assert await reader.read(100) == b"still here"

    hosts.run((hosts.b, serve()), (hosts.a, talk()))


def test_what_follows_a_held_message_on_its_connection_waits_with_it_and_nothing_else_does() -> None:
    schedule = PlainSchedule(holds={"a→b #3": 1.0})
    hosts = Hosts(schedule)
    got: list[tuple[float, bytes]] = []

    class Clocked(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            got.append((hosts.world.now, data))

    hosts.b.serve(Clocked, PORT)

    async def send() -> None:
        _, one = await asyncio.open_connection("b", PORT)
        _, two = await asyncio.open_connection("b", PORT)
        one.write(b"held")
        await asyncio.sleep(0.1)
        one.write(b", with this")
        two.write(b"free")
        await asyncio.sleep(2)

    hosts.run((hosts.a, send()))
    assert [data for _, data in got] == [b"free", b"held, with this"]
    assert schedule.bitten == ["a→b #3"]


def test_the_pieces_of_a_split_message_are_messages_of_their_own() -> None:
    hosts = Hosts(JitterSchedule(seed=1, splits=1.0))
    seen = Seen()
    hosts.network.observers.append(seen)
    far = Recorder()
    hosts.b.serve(lambda: far, PORT)

    async def send() -> None:
        _, writer = await asyncio.open_connection("b", PORT)
        writer.write(b"some bytes")
        await asyncio.sleep(1)

    hosts.run((hosts.a, send()))
    pieces = [message for message in seen.messages if message.kind == "data"]
    assert [piece.name for piece in pieces] == ["a→b #2.1", "a→b #2.2"]
    assert b"".join(piece.data for piece in pieces) == far.data == b"some bytes"


class Executioner(Seen):
    """Kills a host when a message is sent, or when it arrives."""

    def __init__(self, network: Network, name: str, victim: str, *, at_arrival: bool) -> None:
        super().__init__()
        self._network = network
        self._wanted = (name, at_arrival)
        self._victim = victim

    def sent(self, message: Message, arrives_at: float) -> None:
        super().sent(message, arrives_at)
        self._look(message.name, False)

    def arrived(self, message: Message, now: float) -> None:
        super().arrived(message, now)
        self._look(message.name, True)

    def _look(self, name: str, at_arrival: bool) -> None:
        if (name, at_arrival) == self._wanted:
            self._network.crash(self._network.world.nodes[self._victim])


@pytest.mark.parametrize(
    ("victim", "at_arrival", "expected"),
    [("a", False, b"first"), ("b", True, b""), ("b", False, b""), ("a", True, b"firstsecond")],
)
def test_a_host_may_crash_at_any_message(victim: str, at_arrival: bool, expected: bytes) -> None:
    hosts = Hosts()
    hosts.network.observers.append(
        Executioner(
            hosts.network, "a→b #2" if expected != b"firstsecond" else "a→b #3", victim, at_arrival=at_arrival
        )
    )
    far = Recorder()
    hosts.b.serve(lambda: far, PORT)
    after: list[str] = []

    async def send() -> None:
        _, writer = await asyncio.open_connection("b", PORT)
        writer.write(b"first")
        await asyncio.sleep(0.001)
        writer.write(b"second")
        await asyncio.sleep(1)
        after.append("goes on")

    c = hosts.host("c")
    hosts.a.spawn(send())
    hosts.run((c, asyncio.sleep(3)))
    assert far.data == expected
    assert after == ([] if victim == "a" else ["goes on"])
