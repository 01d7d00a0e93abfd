"""The picture of a run: everything is in it, in order and in words; bytes stay text, and no network is asked."""

from __future__ import annotations

import base64
import html.parser
import itertools
import json
import re
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner
from click.testing import Result as ClickResult
from hypothesis import given
from hypothesis import strategies as st

from sim.case import Case, CaseError
from sim.explore import explore
from sim.history import Entry
from sim.picture import Recording, draw_page, record, write_page, write_svg
from sim.picture.__main__ import main
from sim.picture.axis import Axis, gap_pixels
from sim.picture.decoding import MAIN, MINOR, Decoder, packet_words
from sim.picture.layout import Layout, key_prefix, lay_out
from sim.picture.order import overtaken
from sim.picture.page import data, embedded, page
from sim.picture.recording import CLIENT, DATABASE, INSTANCE, REDIS, Sent
from sim.picture.redis_words import script_titles
from sim.plan import CRASH, Fault, Plan
from sim.run import Outcome, Result
from sim.scenario import Scenario, find
from sim.strategies import strategy

pytestmark = pytest.mark.filterwarnings("ignore:[Uu]nclosed:ResourceWarning")

HOSTS = {"tab": CLIENT, "api": INSTANCE, "redis": REDIS, "db": DATABASE}
HOSTILE = "</script><script>alert(1)</script><!-- <img src=x onerror=alert(2)>"


@pytest.fixture(scope="module")
def broken() -> Recording:
    """The naive design under the first hold that breaks it."""
    found = explore(find("user-pool-lost-update"), "naive", strategy("single-fault")).first
    assert found is not None
    assert len(found.plan.holds) == len(found.plan) == 1
    return record(find("user-pool-lost-update"), "naive", found.plan)


@pytest.fixture(scope="module")
def held(broken: Recording) -> Sent:
    (hold,) = broken.result.plan.holds
    return next(message for message in broken.messages if message.name == hold.message)


@pytest.fixture(scope="module")
def undisturbed() -> Recording:
    return record(find("user-pool-lost-update"), "naive", Plan())


@pytest.fixture(scope="module")
def layout(broken: Recording, undisturbed: Recording) -> Layout:
    return lay_out(broken, undisturbed)


def sent(
    source: str, target: str, payload: bytes | str, *, name: str = "", kind: str = "data", at: float = 0.0
) -> Sent:
    raw = payload.encode() if isinstance(payload, str) else payload
    return Sent(name or f"{source}→{target} #1", source, target, kind, raw, at, at + 0.0005, arrived=True)


def made_up(
    *messages: Sent, history: tuple[Entry, ...] = (), message: str = "", about: str = ""
) -> Recording:
    async def nothing(_lab: object) -> None: ...

    outcome = Outcome.VIOLATED if message else Outcome.HELD
    result = Result(outcome, Plan(), 0, "made-up", message, virtual_seconds=1.0)
    return Recording(Scenario("made-up", "s", about, nothing), "naive", result, HOSTS, messages, history)


def lines(source: str, target: str, payload: bytes | str) -> tuple[str, ...]:
    return Decoder(HOSTS).words(sent(source, target, payload)).lines


def resp(*words: str) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w.encode()), w.encode()) for w in words)


def frame(text: str, *, mask: bytes = b"") -> bytes:
    body = text.encode()
    size = bytes([len(body) | (0x80 if mask else 0)]) if len(body) < 126 else None
    head = size or bytes([126 | (0x80 if mask else 0)]) + len(body).to_bytes(2)
    masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(body)) if mask else body
    return b"\x81" + head + mask + masked


# The layout


def test_every_message_of_both_runs_is_in_the_picture(
    broken: Recording, undisturbed: Recording, layout: Layout
) -> None:
    for run, diagram in zip((broken, undisturbed), layout.diagrams, strict=True):
        assert len(run.messages) == run.result.messages > 100
        assert Counter(m.name for m in run.messages) == Counter(a.name for a in diagram.arrows)


def test_what_happens_later_stands_lower(layout: Layout) -> None:
    for diagram in layout.diagrams:
        moments = [(a.sent_at, a.top) for a in diagram.arrows] + [
            (a.arrives_at, a.bottom) for a in diagram.arrows
        ]
        moments += [(dot.at, dot.y) for dot in diagram.dots]
        moments.sort()
        for (at, pixel), (later, below) in itertools.pairwise(moments):
            assert pixel < below or later - at < 2e-6, (at, later)
        assert all(arrow.top < arrow.bottom <= layout.height for arrow in diagram.arrows)


def test_both_runs_are_the_same_down_to_the_disturbance_at_the_same_height(
    layout: Layout, held: Sent
) -> None:
    one, other = layout.diagrams
    before = [a for a in one.arrows if a.arrives_at < held.sent_at]
    there = {arrow.name: arrow for arrow in other.arrows}
    assert len(before) > 50
    assert all(abs(a.sent_at - there[a.name].sent_at) < 1e-9 for a in before)
    assert max(abs(a.top - there[a.name].top) for a in before) < 1


def test_a_host_s_messages_of_one_moment_do_not_cover_each_other(layout: Layout) -> None:
    for diagram in layout.diagrams:
        ends = Counter((arrow.source, round(arrow.top, 3)) for arrow in diagram.arrows)
        assert max(ends.values()) == 1


def test_clients_stand_on_the_left_and_redis_right_of_the_instances(layout: Layout) -> None:
    assert [name for name, _ in layout.lanes] == [
        "watcher",
        "ann-1",
        "ann-2",
        "api-1",
        "api-2",
        "redis",
        "db",
    ]


def test_the_held_message_is_marked_and_long(layout: Layout, held: Sent) -> None:
    arrow = next(arrow for arrow in layout.diagrams[0].arrows if arrow.name == held.name)
    assert arrow.trouble == "held"
    assert arrow.why.startswith("held for ")
    others = [arrow.bottom - arrow.top for arrow in layout.diagrams[0].arrows if not arrow.trouble]
    assert arrow.bottom - arrow.top > 4 * sorted(others)[len(others) // 2]
    assert not any(each.trouble for each in layout.diagrams[1].arrows)


def test_the_violation_stands_at_its_moment_with_its_words(broken: Recording, layout: Layout) -> None:
    first, second = layout.diagrams
    assert first.broken
    assert first.message == broken.result.message
    assert first.ends_at == broken.result.virtual_seconds > 0
    assert first.end_y >= max(arrow.bottom for arrow in first.arrows)
    assert not second.broken


def test_ten_idle_seconds_are_cut_short_and_said_to_be() -> None:
    busy = [sent("api", "redis", resp("GET", "x"), name=f"api→redis #{n}", at=n * 0.0005) for n in range(10)]
    late = sent("api", "redis", resp("GET", "x"), name="api→redis #10", at=10.0)
    layout = lay_out(made_up(*busy, late))
    (idle,) = [each for each in layout.breaks if each.seconds > 5]
    arrows = {arrow.name: arrow for arrow in layout.diagrams[0].arrows}
    assert arrows["api→redis #9"].bottom <= idle.top < idle.bottom <= arrows["api→redis #10"].top
    assert idle.bottom - idle.top < arrows["api→redis #9"].bottom - arrows["api→redis #0"].top


def test_a_crash_marks_the_host_that_it_hit_and_what_is_lost_is_dashed() -> None:
    plan = Plan(faults=(Fault(CRASH, "watcher→api-1 #3"),))
    run = record(find("user-pool-lost-update"), "naive", plan)
    layout = lay_out(run)
    (diagram,) = layout.diagrams
    assert [layout.lanes[lane][0] for mark in diagram.marks for lane in mark.lanes] == ["api-1"]
    assert next(a for a in diagram.arrows if a.name == "watcher→api-1 #3").trouble == "fault"
    assert {a.trouble for a, m in zip(diagram.arrows, run.messages, strict=True) if not m.arrived} <= {
        "lost",
        "fault",
    }


def test_a_pause_lasts_on_its_lane() -> None:
    faults = (
        Entry(0.1, "lab", "fault", "redis stalls for 0.5 s"),
        Entry(0.7, "lab", "fault", "api restarts"),
    )
    (diagram,) = lay_out(made_up(sent("api", "redis", resp("GET", "x")), history=faults)).diagrams
    pause, other = diagram.marks
    assert pause.lanes != other.lanes
    assert pause.bottom > pause.top
    assert other.bottom == other.top


def test_what_was_overtaken_is_told_in_both_orders(
    broken: Recording, undisturbed: Recording, held: Sent
) -> None:
    (order,) = overtaken(broken, undisturbed)
    assert order.held == held.name
    assert order.key == "open-webui:user_pool"
    assert order.passed
    for name in order.passed:
        assert order.disturbed.index(name) < order.disturbed.index(order.held)
        assert order.undisturbed.index(name) > order.undisturbed.index(order.held)


def test_nothing_is_overtaken_where_nothing_was_held(undisturbed: Recording) -> None:
    assert overtaken(undisturbed, undisturbed) == []


@given(st.dictionaries(st.integers(0, 10**9), st.integers(1, 8), min_size=1, max_size=40))
def test_the_axis_never_goes_back_and_keeps_rows_apart(rows: dict[int, int]) -> None:
    axis = Axis({at / 1e6: count for at, count in rows.items()})
    pixels = [axis.place(at / 1e6, row) for at, count in sorted(rows.items()) for row in range(count)]
    assert all(one < other for one, other in itertools.pairwise(pixels))
    assert pixels[-1] <= axis.height
    between = sorted({at / 1e6 + 0.0000005 for at in rows})
    places = [axis.place(at) for at in between]
    assert places == sorted(places)


@given(st.floats(1e-6, 1e6), st.floats(1e-6, 1e6))
def test_the_longer_gap_is_never_the_smaller_one_and_a_day_fits_a_screen(one: float, other: float) -> None:
    assert gap_pixels(min(one, other)) <= gap_pixels(max(one, other)) < 400


# Words


def test_commands_are_told_as_one_would_type_them_all_of_a_message() -> None:
    both = resp("HSET", "pool", "ann", '["a", "b"]') + resp("SET", "k", "two words")
    assert lines("api", "redis", both) == ('HSET pool ann ["a", "b"]', 'SET k "two words"')


def test_a_message_on_the_bus_is_told_by_its_event_and_room() -> None:
    said = json.dumps(
        {"method": "emit", "event": "typing", "data": [{"by": "ann"}], "room": "general", "skip_sid": None}
    )
    assert lines("api", "redis", resp("PUBLISH", "socketio", said)) == (
        'PUBLISH socketio emit typing {"by": "ann"} room=general',
    )
    pushed = b">" + resp("message", "socketio", said)[1:]
    words = Decoder(HOSTS).words(sent("redis", "api", pushed))
    assert words.lines == ('message on socketio: emit typing {"by": "ann"} room=general',)
    assert (words.family, words.weight) == ("bus", MAIN)


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (b"+OK\r\n+OK\r\n", ("OK", "OK")),
        (b":2\r\n_\r\n", ("2", "nil")),
        (b"*2\r\n$3\r\nann\r\n$-1\r\n", ("[ann, nil]",)),
        (b"%1\r\n$1\r\na\r\n:1\r\n", ("{a: 1}",)),
        (b"-NOSCRIPT No such script\r\n", ("error NOSCRIPT No such script",)),
    ],
)
def test_replies_are_told(reply: bytes, words: tuple[str, ...]) -> None:
    assert lines("redis", "api", reply) == words


def test_scripts_are_called_by_what_only_they_say_of_themselves() -> None:
    shared = "-- What all share.\n"
    one, other = shared + "-- Registers a session, or not.\nreturn 1", shared + "-- Reaps.\nreturn 2"
    messages = [
        sent("api", "redis", resp("EVAL", one, "1", "k", "x")),
        sent("api", "redis", resp("SCRIPT", "LOAD", other)),
    ]
    titles = script_titles(message.data for message in messages)
    assert sorted(titles.values()) == ["Reaps", "Registers a session"]
    digest = next(each for each, title in titles.items() if title == "Reaps")
    called = sent("api", "redis", resp("EVALSHA", digest, "1", "k"))
    decoder = Decoder(HOSTS, [*messages, called])
    assert decoder.words(called).lines == ("EVALSHA ‹Reaps› k",)
    assert decoder.words(messages[0]).lines == ("EVAL ‹Registers a session› k x",)


def test_frames_are_unmasked_and_their_packets_told_each() -> None:
    event = '42["user-list",{"user_ids":["ann"]}]'
    told = 'user-list {"user_ids": ["ann"]}'
    assert lines("api", "tab", frame(event) + frame("2")) == (told, "Engine.IO ping")
    assert lines("tab", "api", frame(event, mask=b"\x01\x02\x03\x04")) == (told,)
    assert lines("tab", "api", frame('42["' + "x" * 300 + '"]', mask=b"abcd")) == ("x" * 300,)


@pytest.mark.parametrize(
    ("packet", "words"),
    [
        ('421["say",{"a":1},2]', 'say {"a": 1} 2 (ack 1 wanted)'),
        ('431["yes"]', 'ack 1 ["yes"]'),
        ('40/admin,{"sid":"x"}', 'CONNECT in /admin {"sid":"x"}'),
        ('44{"message":"no"}', 'CONNECT_ERROR {"message":"no"}'),
        ("41", "DISCONNECT"),
        ("3", "Engine.IO pong"),
        ('0{"sid":"x"}', 'Engine.IO open {"sid":"x"}'),
        ("bAAEC", "binary, 4 characters of base64"),
        ("48what", "48what"),
        ("42{", "{"),
    ],
)
def test_packets_are_told(packet: str, words: str) -> None:
    assert packet_words(packet) == words


def test_a_token_is_told_by_whose_it_is() -> None:
    claims = base64.urlsafe_b64encode(b'{"id":"ann"}').decode().rstrip("=")
    assert packet_words(f'40{{"token":"eyJh.{claims}.sig-na_ture"}}') == 'CONNECT {"token":"‹token of ann›"}'


def test_polling_is_told_with_the_packets_in_its_bodies() -> None:
    request = "POST /ws/socket.io/?transport=polling&EIO=4&t=17.1&sid=x HTTP/1.1\r\nHost: api\r\n\r\n3\x1e41"
    assert lines("tab", "api", request) == (
        "POST /ws/socket.io/?transport=polling&EIO=4&sid=x",
        "Engine.IO pong",
        "DISCONNECT",
    )
    reply = 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n42["a",1]\r\n0\r\n\r\n'
    assert lines("api", "tab", reply) == ("200 OK", "a 1")


def test_look_ups_of_users_and_ends_of_connections_are_told() -> None:
    assert lines("api", "db", '["login", "ann"]\n') == ('["login", "ann"]',)
    words = Decoder(HOSTS).words(sent("api", "db", b"", kind="open"))
    assert (words.lines, words.weight) == (("opens a connection",), MINOR)


@given(st.binary(max_size=200), st.sampled_from(["tab→api", "api→redis", "redis→api", "api→db"]))
def test_any_bytes_have_words(payload: bytes, link: str) -> None:
    source, _, target = link.partition("→")
    found = lines(source, target, payload)
    assert found
    assert all(isinstance(line, str) for line in found)


def test_every_message_of_a_real_run_is_understood(broken: Recording) -> None:
    decoder = Decoder(broken.hosts, broken.messages)
    unknown = [
        decoder.words(message).lines
        for message in broken.messages
        if " bytes: " in decoder.words(message).label
    ]
    assert unknown == []


def test_what_all_keys_begin_with_is_left_out_of_labels(broken: Recording) -> None:
    assert key_prefix(broken.messages) == "open-webui:"
    assert (
        key_prefix([sent("api", "redis", resp("GET", "a:1")), sent("api", "redis", resp("GET", "b:1"))]) == ""
    )


# The files


class _Reader(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        kind = f"{self.lasttag}:{self.tags[-1][1].get('type', '')}" if self.tags else ""
        self.texts[kind] = self.texts.get(kind, "") + data


def read(text: str) -> _Reader:
    reader = _Reader()
    reader.feed(text)
    return reader


def test_the_page_holds_what_its_script_draws_and_nothing_else_is_fetched(
    broken: Recording, undisturbed: Recording
) -> None:
    text = page(broken, undisturbed)
    reader = read(text)
    assert json.loads(reader.texts["script:application/json"]) == json.loads(
        json.dumps(data(broken, undisturbed))
    )
    for _tag, attributes in reader.tags:
        assert not attributes.keys() & {"src", "href", "srcset", "action", "background", "poster"}
        assert not [name for name in attributes if name.startswith("on")]
    own = re.sub(r'<script type="application/json".*?</script>', "", text, flags=re.DOTALL)
    assert not re.search(r"https?:/|url\(|@import|fetch\(|XMLHttp|WebSocket\(|import\(|innerHTML|eval\(", own)
    policy = next(attrs["content"] for tag, attrs in reader.tags if tag == "meta" and "http-equiv" in attrs)
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy


def test_hostile_bytes_stay_text(tmp_path: Path) -> None:
    emitted = sent("tab", "api", f'42["{HOSTILE}"]', name="tab→api #1")
    asked = sent("api", "redis", resp("SET", HOSTILE, HOSTILE), at=0.1)
    history = (Entry(0.0, "tab", "emit", HOSTILE, {"x": HOSTILE}), Entry(0.1, "lab", "fault", HOSTILE))
    run = made_up(emitted, asked, history=history, message=HOSTILE, about=HOSTILE)
    plain = [tag for tag, _ in read(page(made_up(sent("tab", "api", "hello")))).tags]
    draw_page(tmp_path / "page.html", run)
    text = (tmp_path / "page.html").read_text()
    reader = read(text)
    assert [tag for tag, _ in reader.tags] == plain
    assert text.count("</script") == 2
    assert json.loads(reader.texts["script:application/json"])["message"] == HOSTILE


@given(st.text())
def test_embedded_data_is_the_same_when_read_and_closes_no_element(text: str) -> None:
    out = embedded({"text": text})
    assert not re.search(r"[<>&\u2028\u2029]", out)
    out.encode()
    assert json.loads(out)["text"] == text.encode(errors="replace").decode()


def test_a_saved_run_is_drawn_with_its_undisturbed_twin(broken: Recording, tmp_path: Path) -> None:
    case = Case.of("user-pool-lost-update", "naive", broken.result)
    write_page(tmp_path / "made" / "page.html", case)
    drawn = json.loads(read((tmp_path / "made" / "page.html").read_text()).texts["script:application/json"])
    assert [run["broken"] for run in drawn["diagrams"]] == [True, False]
    assert {"watcher", "ann-1", "ann-2"} == {entry["who"] for entry in drawn["program"]}
    write_svg(tmp_path / "run.svg", case)
    still = ElementTree.fromstring((tmp_path / "run.svg").read_text())
    texts = [each.text or "" for each in still.iter("{http://www.w3.org/2000/svg}text")]
    assert any(text.startswith("held for ") and "user_pool" in text for text in texts)
    assert any(text.startswith(f"✗ {broken.result.invariant} broken at ") for text in texts)
    assert still.get("width") == "900"
    drawn_arrows = list(still.iter("{http://www.w3.org/2000/svg}g"))
    assert 10 < len(drawn_arrows) <= 60


def test_a_saved_run_that_no_longer_applies_is_not_drawn(broken: Recording, tmp_path: Path) -> None:
    case = Case.of("user-pool-lost-update", "naive", broken.result)
    stale = Case.of(
        "user-pool-lost-update", "naive", record(find("user-pool-lost-update"), "naive", Plan()).result
    )
    changed = type(case)(
        **{name: getattr(case, name) for name in case.__slots__} | {"fingerprint": stale.fingerprint}
    )
    with pytest.raises(CaseError, match="no longer applies"):
        write_page(tmp_path / "page.html", changed)
    assert not (tmp_path / "page.html").exists()


def test_drawing_changes_nothing_in_the_run(broken: Recording) -> None:
    from sim.run import run
    from sim.targets import load

    again = run(find("user-pool-lost-update"), load("naive"), broken.result.plan)
    assert again.fingerprint == broken.result.fingerprint


def test_the_command_draws_a_saved_run_by_the_file_s_ending(broken: Recording, tmp_path: Path) -> None:
    Case.of("user-pool-lost-update", "naive", broken.result).save(tmp_path / "case.json")

    def draw(case: str, file: str) -> ClickResult:
        return CliRunner().invoke(main, [str(tmp_path / case), str(tmp_path / file)])

    assert draw("case.json", "a.html").exit_code == 0
    assert draw("case.json", "a.svg").exit_code == 0
    assert (tmp_path / "a.html").read_text().startswith("<!doctype html>")
    assert (tmp_path / "a.svg").read_text().startswith("<svg")
    assert draw("case.json", "a.png").exit_code == 2
    assert draw("none.json", "a.svg").exit_code == 3
