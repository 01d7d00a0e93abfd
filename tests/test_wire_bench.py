"""The wire benchmark still runs, row by row, and its load notices every frame that is not as it should be."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.bench import __main__ as command
from tests.bench import report
from tests.bench.report import Line, at_most, publish
from tests.bench.wire import event, run, swarm
from tests.bench.wire.acks import percentile
from tests.bench.wire.connection import LoadError
from tests.bench.wire.machine import cpu_seconds, memory_bytes
from tests.bench.wire.peers import DoorKey, Peer, Plain, auth, running
from tests.bench.wire.plot import draw
from tests.bench.wire.profile import profile
from tests.bench.wire.rows import ROWS, Findings, Scale
from tests.bench.wire.swarm import Swarm
from tests.support.node import NodeMissing

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(240),
    pytest.mark.skipif(sys.platform != "linux", reason="the wire benchmark reads /proc and pins cores"),
]

TINY = Scale(
    clients=6,
    rounds=2,
    events=10,
    few_idle=5,
    many_idle=20,
    askers=20,
    asking_seconds=1,
    quiet_seconds=0.5,
    profile_seconds=1.0,
    offers=(True,),
)
LINES = {"fan-out": 3, "fleet": 2, "memory": 1, "connects": 1, "acks": 2, "profile": 0}
GOALS = {"fan-out": 5, "fleet": 1, "memory": 1, "connects": 1, "acks": 1, "profile": 0}


@pytest.mark.node
@pytest.mark.parametrize("row", ROWS)
def test_every_row_measures_every_peer_and_has_its_goals(
    row: str, node_modules: Path, tmp_path: Path
) -> None:
    findings = Findings()
    ROWS[row](TINY, findings)
    assert [len(findings.lines), len(findings.figures)] == [LINES[row], GOALS[row]]
    assert all({"ours", "node", "stock"} <= set(line.values) for line in findings.lines)
    assert all(figure.met is not None for figure in findings.figures)
    if row != "memory":  # where so few clients cost less than a garbage collection gives back
        assert all(value > 0 for line in findings.lines for value in line.values.values())
    if findings.lines:
        draw(findings.lines, tmp_path / "wire.svg")  # with a colour for each
    assert busiest(findings.profile) == (12 if row == "profile" else 0)


@pytest.fixture(params=["bare", "stock"])
def peer(request: pytest.FixtureRequest) -> Iterator[Peer]:
    server = Plain(request.param)
    with running([server]):
        yield server


@pytest.fixture
def door(peer: Peer) -> Iterator[DoorKey]:
    key = DoorKey(peer.folder)
    yield key
    key.close()


@pytest.mark.parametrize("deflate", [False, True])
def test_the_load_takes_what_was_sent_in_order_however_often_it_is_asked(
    peer: Peer, door: DoorKey, deflate: bool
) -> None:
    clients = Swarm([peer.port], deflate=deflate, auth=auth)
    clients.connect(7)
    for first in range(event.FIRST, event.FIRST + 60, 20):
        assert len(clients.collect(packets(first, 20), lambda first=first: door.emit(first, 20))) == 7
    clients.close()


@pytest.mark.parametrize("deflate", [False, True])
def test_the_load_refuses_another_event_than_the_one_that_is_due(
    peer: Peer, door: DoorKey, deflate: bool
) -> None:
    clients = Swarm([peer.port], deflate=deflate, auth=auth)
    clients.connect(3)
    with pytest.raises(LoadError, match="not the event that was due"):
        clients.collect(packets(event.FIRST, 2), lambda: door.emit(event.FIRST + 1, 2))
    clients.close()


def test_the_load_refuses_an_event_that_comes_twice(peer: Peer, door: DoorKey) -> None:
    clients = Swarm([peer.port], deflate=False, auth=auth)
    clients.connect(3)
    clients.collect(packets(event.FIRST, 1), lambda: door.emit(event.FIRST, 1))
    door.emit(event.FIRST, 1)
    with pytest.raises(LoadError, match="not the event that was due"):
        clients.pump(30)
    clients.close()


def test_the_load_says_who_lacks_an_event(peer: Peer, door: DoorKey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swarm, "PATIENCE", 0.5)
    clients = Swarm([peer.port], deflate=False, auth=auth)
    clients.connect(3)
    with pytest.raises(LoadError, match="3 of 3 clients lack an event"):
        clients.collect(packets(event.FIRST, 2), lambda: door.emit(event.FIRST, 1))
    clients.close()


def test_swarms_in_company_read_for_each_other(peer: Peer, door: DoorKey) -> None:
    company: list[Swarm] = []
    one, other = (Swarm([peer.port], deflate=False, auth=auth, company=company) for _ in range(2))
    one.connect(2)
    other.connect(2)
    with pytest.raises(LoadError, match="not the event that was due"):  # what nobody told the other to expect
        one.collect(packets(event.FIRST, 1), lambda: door.emit(event.FIRST, 1))
        one.pump(5)
    one.close()
    other.close()
    assert not company


def test_the_load_notices_a_server_that_ends(peer: Peer) -> None:
    clients = Swarm([peer.port], deflate=False, auth=auth)
    clients.connect(3)
    peer.close()
    with pytest.raises(LoadError, match="closed a connection"):
        clients.pump(10)
    clients.close()


def test_a_process_is_charged_for_what_it_runs_and_holds() -> None:
    with running([server := Plain("bare")]):
        idle = cpu_seconds(server.pid)
        time.sleep(0.2)
        assert cpu_seconds(server.pid) - idle < 0.05
        assert 1e6 < memory_bytes(server.pid) < 1e9


def test_without_py_spy_the_profile_comes_from_the_server_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.bench.wire.profile._sampler", lambda: None)
    found = profile(clients=5, seconds=0.5)
    assert "(cProfile)" in found
    assert busiest(found) == 12


def test_a_percentile_is_a_wait_that_was_measured() -> None:
    waits = [float(number) for number in range(1, 101)]
    assert [percentile(waits, share) for share in (0.5, 0.99, 1.0)] == [50.0, 99.0, 100.0]
    assert percentile([7.0], 0.99) == 7.0


def test_medians_are_compared_and_a_missed_goal_is_told() -> None:
    findings = Findings()
    rounds = {"ours": [1.0, 20.0, 3.0], "node": [2.0, 40.0, 4.0], "stock": [1.0, 1.0, 1.0]}
    findings.compare(
        "cost", "µs", rounds, most={"node": 0.5, "stock": 3.0}, least={"stock": 4.0, "bare": 1.0}
    )
    assert [(it.what, it.value, it.met) for it in findings.figures] == [
        ("cost: ours to node", 0.75, False),
        ("cost: ours to stock", 3.0, True),
        ("cost: ours to stock", 3.0, False),
    ]
    assert findings.lines == [Line("cost", "µs", {"ours": 3.0, "node": 4.0, "stock": 1.0})]


def test_without_node_the_bench_says_so_and_claims_nothing_of_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing() -> Path:
        raise NodeMissing("no npm here")

    seen: list[Scale] = []
    monkeypatch.setattr(run, "install_modules", missing)
    monkeypatch.setitem(ROWS, "acks", lambda scale, _findings: seen.append(scale))
    assert run.run_wire(["acks"], quick=True)
    assert [scale.node for scale in seen] == [False]
    assert "Node was not run, and nothing is claimed of it: no npm here" in capsys.readouterr().err


def test_elsewhere_than_on_linux_the_bench_says_so_and_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not run.run_wire(["acks"], quick=True)
    assert "Linux" in capsys.readouterr().err


def test_a_report_has_both_tables_the_picture_and_the_missed_goal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(report, "REPORTS", tmp_path)
    lines = [Line("work", "µs", {"ours": 2.0, "stock": 1234.0}), Line("wait", "ms", {"ours": 0.5})]
    figures = [at_most("ours to stock", 2.0, 1.0, "×")]
    assert not publish("Some wire", "some", figures, beside=lines, picture=True, note="Why.")
    text = (tmp_path / "some.md").read_text()
    assert "| ours to stock | 2.00 × | ≤ 1 × | MISSED |" in text
    assert "| work | µs | 2.00 | 1,234 |" in text
    assert "| wait | ms | 0.50 |  |" in text
    assert "![Some wire](some.svg)" in text
    assert json.loads((tmp_path / "some.json").read_text())["beside"][0]["values"] == {
        "ours": 2.0,
        "stock": 1234.0,
    }
    assert "MISSED" in capsys.readouterr().out


def test_part_of_a_run_is_printed_and_leaves_the_report_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(report, "REPORTS", tmp_path)
    assert publish("Some wire", "some", [], save=False)
    assert not list(tmp_path.iterdir())
    assert "Some wire" in capsys.readouterr().out


def test_the_picture_has_a_panel_for_each_line_and_is_the_same_each_time(tmp_path: Path) -> None:
    lines = [Line(f"work {number}", "µs", {"ours": 1.0, "stock": number}) for number in range(1, 6)]
    for name in ("one.svg", "two.svg"):
        draw(lines, tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    groups = ElementTree.parse(tmp_path / "one.svg").iter("{http://www.w3.org/2000/svg}g")
    assert sum(group.get("id", "").startswith("axes_") for group in groups) == len(lines)


def test_the_command_knows_its_benchmarks_and_rows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[list[str], bool]] = []

    def run_wire(rows: list[str], *, quick: bool) -> bool:
        asked.append((rows, quick))
        return len(rows) > 1

    monkeypatch.setattr(command, "run_wire", run_wire)
    for words, status in ((["wire", "acks", "--quick"], 1), (["wire"], 0), (["wire", "akcs"], 2)):
        monkeypatch.setattr(sys, "argv", ["bench", *words])
        assert command.main() == status
    assert asked == [(["acks"], True), (list(ROWS), False)]
    assert "unknown benchmark: akcs" in capsys.readouterr().err


def busiest(profile: str) -> int:
    """How many functions of our server a profile names, with a share of its time."""
    return len(re.findall(r"^\| `.+ \(.+\)` \| \d+% \|$", profile, re.MULTILINE))


def packets(first: int, count: int) -> list[bytes]:
    return [event.packet(number, event.TEXT) for number in range(first, first + count)]
