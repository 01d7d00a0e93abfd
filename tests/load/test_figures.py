"""Frames, packets, ledger and figures: the parts of the load tests that do no input or output."""

from __future__ import annotations

import random
import statistics

import msgpack
import pytest
from websockets.frames import Frame, Opcode

from loadtests._collector import MAX_ROWS, Collector
from loadtests._errors import LoadError, ProtocolBroken
from loadtests._frames import BINARY, CLOSE, PING, TEXT, FrameReader, encode_frame
from loadtests._ledger import Ledger, Verdict
from loadtests._objectives import check, doubts, parse_objective, seconds_at
from loadtests._options import DEMO_SECRET_KEY
from loadtests._packets import Assembler, encode, join_payload, split_payload
from loadtests._recorder import Recorder, Slice, share_of_core
from realtime import secret


def unmask(frame: bytes) -> tuple[int, bytes]:
    """By the letter of RFC 6455, byte by byte."""
    size, start = frame[1] & 0x7F, 2
    assert frame[1] & 0x80
    if size == 126:
        size, start = int.from_bytes(frame[2:4], "big"), 4
    elif size == 127:
        size, start = int.from_bytes(frame[2:10], "big"), 10
    key, payload = frame[start : start + 4], frame[start + 4 :]
    assert len(payload) == size
    return frame[0] & 0x0F, bytes(byte ^ key[at % 4] for at, byte in enumerate(payload))


@pytest.mark.parametrize("size", [0, 1, 3, 125, 126, 127, 65535, 65536, 70001])
def test_frames_are_masked_with_a_fresh_key(size: int) -> None:
    payload = random.Random(size).randbytes(size)
    frames = {encode_frame(BINARY, payload) for _ in range(3)}
    assert all(unmask(frame) == (BINARY, payload) for frame in frames)
    assert len(frames) == 3 or size == 0


def test_fragments_and_control_frames_between_them_become_whole_messages_however_they_arrive() -> None:
    sent = [
        Frame(Opcode.TEXT, b"one"),
        Frame(Opcode.BINARY, b"b" * 300, fin=False),
        Frame(Opcode.PING, b"now"),
        Frame(Opcode.CONT, b"c" * 70000),
        Frame(Opcode.CLOSE, b"\x03\xe8"),
    ]
    stream = b"".join(frame.serialize(mask=False) for frame in sent)
    expected = [(TEXT, b"one"), (PING, b"now"), (BINARY, b"b" * 300 + b"c" * 70000), (CLOSE, b"\x03\xe8")]
    for step in (1, 2, 7, 1000, len(stream)):
        reader = FrameReader()
        pieces = [stream[at : at + step] for at in range(0, len(stream), step)]
        assert [message for piece in pieces for message in reader.feed(piece)] == expected


@pytest.mark.parametrize(
    "broken",
    [
        b"\x81\x80\x00\x00\x00\x00",
        b"\xc1\x01a",
        b"\x80\x01a",
        b"\x09\x01a",
        b"\x83\x01a",
        b"\x01\x01a\x81\x01b",
    ],
)
def test_what_a_server_must_not_send_is_an_error(broken: bytes) -> None:
    with pytest.raises(ProtocolBroken):
        FrameReader().feed(broken)


def test_payloads_carry_text_and_bytes() -> None:
    packets = ["4text ü", b"\x00\x1e\xff", "2"]
    assert split_payload(join_payload(packets)) == packets
    with pytest.raises(ProtocolBroken):
        split_payload("b!")


def test_bytes_in_an_event_come_back_out_of_its_attachments() -> None:
    done: list[object] = []
    assembler = Assembler(lambda *found: done.append(found))
    data = ["event", {"a": b"1", "b": [b"2", None]}]
    text, *attachments = encode("2", data, 7)
    assert isinstance(text, str)
    assert text.startswith("452-7[")
    assembler.begin(text)
    for attachment in attachments:
        assert isinstance(attachment, bytes)
        assembler.attach(attachment)
    assert done == [("2", 7, data)]
    with pytest.raises(ProtocolBroken):
        assembler.attach(b"nobody asked")


def test_each_kind_of_mistreatment_is_counted_as_what_it_is() -> None:
    ledger = Ledger("here")
    inbox = ledger.inbox(frozenset({"general"}), since=10.0)
    for number in (1, 2, 2, 4, 3, 7):
        inbox.take("there-1", number)
    assert inbox.close(before=20.0) == Verdict(lost=2, duplicate=1, out_of_order=1)


def test_the_last_messages_of_a_local_sender_are_missed_though_no_gap_shows_them() -> None:
    ledger = Ledger("here")
    stream = ledger.stream("general")
    inbox = ledger.inbox(frozenset({"general"}), since=10.0)
    elsewhere = ledger.inbox(frozenset({"board"}), since=10.0)
    stream.sent += [8.0, 11.0, 12.0, 13.0, 19.0]
    inbox.take(stream.id, 2)
    # Number 1 was sent before it came; number 5 so late that it may still be on its way.
    assert inbox.close(before=18.0) == Verdict(lost=2)
    assert elsewhere.close(before=18.0) == Verdict()


def test_a_receiver_that_came_later_misses_nothing_of_what_was_before() -> None:
    ledger = Ledger("here")
    stream = ledger.stream("general")
    stream.sent += [8.0, 11.0]
    inbox = ledger.inbox(frozenset({"general"}), since=12.0)
    assert inbox.close(before=18.0) == Verdict()


def test_what_was_sent_before_a_receiver_came_and_comes_late_is_out_of_order_and_not_heard_twice() -> None:
    ledger = Ledger("w")
    inbox = ledger.inbox(frozenset({"general"}), since=0.0)
    inbox.take("elsewhere-1", 5)
    inbox.take("elsewhere-1", 4)
    verdict = inbox.close(before=9.0)
    assert (verdict.lost, verdict.duplicate, verdict.out_of_order) == (0, 0, 1)


def test_a_stream_is_forgotten_when_nobody_is_left_who_should_have_heard_it() -> None:
    ledger = Ledger("here")
    stream = ledger.stream("general")
    early, late = (ledger.inbox(frozenset({"general"}), since=at) for at in (1.0, 5.0))
    ledger.end(stream, 3.0)
    late.close(before=9.0)
    assert ledger.find(stream.id) is stream
    early.close(before=9.0)
    assert ledger.find(stream.id) is None


def slices_of(source: str, values: list[float], *, second: int = 100) -> list[Slice]:
    """What a worker would send, after its journey."""
    recorder = Recorder(source)
    for value in values:
        recorder.time("ack", value, "websocket")
    recorder.cut(second, {"cpu": 0.5})
    wire = msgpack.packb([each.to_wire() for each in recorder.take()])
    assert recorder.take() == []
    return [Slice.from_wire(fields) for fields in msgpack.unpackb(wire)]


def test_percentiles_of_two_workers_are_those_of_all_values_together() -> None:
    chance = random.Random(1)
    fast = [chance.uniform(0.001, 0.002) for _ in range(9000)]
    slow = [chance.uniform(0.5, 1.0) for _ in range(1000)]
    collector = Collector()
    for piece in slices_of("a", fast) + slices_of("b", slow, second=101):
        collector.add(piece)
    together = sorted(fast + slow)
    for percentile in (50, 95, 99, 99.9):
        exact = together[int(len(together) * percentile / 100) - 1]
        for merged in (collector.total("ack"), collector.between("ack", 100, 102)):
            assert seconds_at(merged, percentile) == pytest.approx(exact, rel=0.002)
    p50s = [statistics.median(values) for values in (fast, slow)]
    assert statistics.mean(p50s) > 100 * (seconds_at(collector.total("ack"), 50) or 1)


def test_a_soak_is_kept_in_bounds_and_loses_no_value() -> None:
    collector = Collector()
    for second in range(2 * MAX_ROWS + 10):
        for piece in slices_of("a", [0.001], second=second):
            collector.add(piece)
    assert len(collector.rows()) <= MAX_ROWS
    whole = collector.between("ack", 0, 3 * MAX_ROWS)
    assert whole.get_total_count() == collector.total("ack").get_total_count() == 2 * MAX_ROWS + 10


def test_corrected_and_raw_figures_are_not_mixed_up() -> None:
    recorder, collector = Recorder("a"), Collector()
    recorder.time("ack", 2.0, "polling")
    recorder.time("ack raw", 0.001, "polling")
    recorder.cut(1, {})
    for piece in recorder.take():
        collector.add(piece)
    assert collector.total("ack").get_total_count() == 1
    assert not check(parse_objective("ack-p50<=1"), collector).met
    assert check(parse_objective("ack-raw-p99.9<=1"), collector).met
    # Nothing was delivered: that nothing was lost shows nothing.
    assert not check(parse_objective("lost<=0"), collector).met


def test_errors_are_counted_by_their_text_and_in_all() -> None:
    recorder, collector = Recorder("a"), Collector()
    for text in ("one", "two", "one"):
        recorder.error(text)
    recorder.cut(5, {})
    (piece,) = recorder.take()
    assert collector.add(piece) == ["one", "two"]
    assert collector.add(piece) == [], "a line is told once"
    assert not check(parse_objective("errors<=5"), collector).met
    assert check(parse_objective("errors<=6"), collector).met
    assert collector.counted("errors", 5, 6) == 6


def test_a_generator_that_uses_its_core_up_is_a_doubt() -> None:
    collector = Collector()
    for second in range(10):
        recorder = Recorder("a")
        recorder.time("generator lag", 0.001)
        recorder.cut(second, {"cpu": 0.99 if second < 5 else 0.1})
        for piece in recorder.take():
            collector.add(piece)
    assert any("used its core up in 5 of 10 seconds" in doubt for doubt in doubts(collector, 0.1))


def test_a_slice_that_the_end_cuts_short_says_nothing_of_how_busy_the_generator_was() -> None:
    assert share_of_core(0.3, 1.0) == 0.3
    assert share_of_core(0.1, 0.1) is None


@pytest.mark.parametrize("text", ["ack-p98<=1", "ack<=1", "lost-p99<=1", "ack-p99<1", "ack-p99<=-1", ""])
def test_what_is_no_objective_is_refused(text: str) -> None:
    with pytest.raises(LoadError):
        parse_objective(text)


def test_the_demo_key_is_the_one_that_the_layer_publishes() -> None:
    assert DEMO_SECRET_KEY == secret.DEMO_SECRET_KEY
