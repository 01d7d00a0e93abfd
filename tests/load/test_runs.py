"""`locust -f loadtests/` from its command line to its reports."""

from __future__ import annotations

import re
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sim.processes.instances import Instance
from tests.load.lab import FalseServer, Run, run

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]
BUSY = ("--typing-every", "0.3", "--usage-every", "0.5", "--late-after", "0.5", "--max-lag", "30")


@pytest.fixture(scope="module")
def instance() -> Iterator[Instance]:
    with Instance(demo=True) as started:
        yield started


def most_connected(done: Run) -> float:
    return float(max(row["connected"] for row in done.figures["rows"]))


def own_requests(done: Run, name: str) -> int:
    return sum(each["num_requests"] - each["num_failures"] for each in done.locust if each["name"] == name)


def test_plain_options_are_obeyed_and_nothing_is_counted_twice(instance: Instance, tmp_path: Path) -> None:
    done = run(tmp_path, "-u", "6", "-r", "6", "-t", "6s", "--host", instance.url, *BUSY)
    assert done.status == 0, done.output
    assert "Ramping to 6 users at a rate of 6.00 per second" in done.output
    assert most_connected(done) == 6
    counters = done.figures["counters"]
    assert counters["sent"] == own_requests(done, "channel-events") > 0
    assert counters["acks"] == counters["sent"] + own_requests(done, "usage")
    assert counters["connects"] == own_requests(done, "connect") == 6
    assert counters["delivered"] <= 6 * counters["sent"]
    assert (counters["lost"], counters["duplicate"], counters["out-of-order"]) == (0, 0, 0)
    assert {key for key in done.figures["times"] if key.startswith("ack|")} >= {"ack|polling", "ack|upgrade"}


def test_users_that_are_made_at_once_do_not_act_at_once(tmp_path: Path) -> None:
    rhythm = ("--typing-every", "3", "--usage-every", "60", "--session-seconds", "60", "--max-lag", "30")
    with FalseServer() as server:
        users = ("-u", "30", "-r", "30", "-t", "12s", "--host", server.url, "WebsocketUser")
        done = run(tmp_path, *users, *rhythm)
    sent = [row["counters"].get("sent", 0) for row in done.figures["rows"]]
    steady = sent[3:-1]
    assert sum(steady) > 0
    # In step there would be a second of all and two of none; a phase of one's own makes ten of thirty.
    assert 0 not in steady, sent


def test_two_workers_add_up_and_a_missed_objective_is_status_1(instance: Instance, tmp_path: Path) -> None:
    done = run(
        tmp_path,
        *("-u", "6", "-r", "6", "-t", "6s", "--host", instance.url, "--processes", "2", *BUSY),
        *("--objective", "lost<=0", "--objective", "fan-out-p50<=0.000001"),
    )
    assert done.status == 1, done.output
    assert done.figures["objectives"] == {"lost<=0": True, "fan-out-p50<=0.000001": False}
    assert most_connected(done) == 6
    counters = done.figures["counters"]
    assert counters["sent"] == own_requests(done, "channel-events") > 0
    assert counters["acks"] == counters["sent"] + own_requests(done, "usage")
    counted = sum(times["count"] for key, times in done.figures["times"].items() if key.startswith("ack|"))
    assert counted == counters["acks"]


def test_an_objective_that_is_met_is_status_0(instance: Instance, tmp_path: Path) -> None:
    arguments = ("-u", "2", "-t", "4s", "--host", instance.url, *BUSY, "--objective", "ack-p99<=60")
    done = run(tmp_path, *arguments, "WebsocketUser")
    assert done.status == 0, done.output
    assert "objective ack-p99<=60: met" in done.output


def test_a_generator_that_is_late_itself_makes_the_result_invalid(instance: Instance, tmp_path: Path) -> None:
    arguments = ("-u", "2", "-t", "3s", "--host", instance.url, "--max-lag", "0.000001")
    done = run(tmp_path, *arguments, "--objective", "connect-p99<=60")
    assert done.status == 1
    assert "INVALID: the generator itself was late" in done.output
    assert not done.figures["valid"]


def test_a_shape_is_used_only_when_it_is_asked_for(instance: Instance, tmp_path: Path) -> None:
    spike = ("-u", "8", "-r", "50", "-t", "15s", "--host", instance.url, *BUSY, "--shape", "spike")
    done = run(tmp_path, *spike, "WebsocketUser")
    assert "Shape test starting" in done.output
    connected = [row["connected"] for row in done.figures["rows"]]
    assert max(connected) == 8
    assert connected[-2] < 8


def test_steps_end_at_the_first_broken_objective(instance: Instance, tmp_path: Path) -> None:
    steps = ("--shape", "steps", "--step-users", "2", "--step-seconds", "2", "--host", instance.url, *BUSY)
    done = run(tmp_path, *steps, "--objective", "fan-out-p50<=0.000001", "WebsocketUser")
    assert any("0 users held within the bound; at 2 users broke" in note for note in done.figures["notes"])


def test_a_storm_kills_an_instance_and_its_users_come_back_elsewhere(tmp_path: Path) -> None:
    with FalseServer() as first, FalseServer() as second:
        instances = ("--instances", f"{first.url},{second.url}")
        storm = ("--shape", "storm", "-u", "6", "-r", "6", "-t", "12s", "--kill-pid", str(second.pid))
        done = run(tmp_path, *storm, *instances, *BUSY, "WebsocketUser")
        assert second.returncode == -signal.SIGKILL
    assert done.figures["counters"]["disconnects"] == 3
    assert sum(times["count"] for key, times in done.figures["times"].items() if "reconnect" in key) == 3
    assert any("was killed after" in note for note in done.figures["notes"])


@pytest.mark.parametrize(
    ("fault", "counter"), [("lose", "lost"), ("double", "duplicate"), ("reorder", "out-of-order")]
)
def test_a_server_that_mistreats_messages_is_found_out(fault: str, counter: str, tmp_path: Path) -> None:
    with FalseServer(fault) as server:
        done = run(tmp_path, "-u", "3", "-r", "9", "-t", "6s", "--host", server.url, *BUSY, "WebsocketUser")
    counters = done.figures["counters"]
    assert counters[counter] > 0, counters
    others = {"lost", "duplicate", "out-of-order"} - {counter}
    # What is held for good at the end of a reordering server is lost as well, and rightly so.
    assert all(counters[other] == 0 for other in others if (fault, other) != ("reorder", "lost")), counters


def test_a_stall_shows_in_the_corrected_figure_and_not_in_the_raw_one(tmp_path: Path) -> None:
    rhythm = ("--typing-every", "0.1", "--usage-every", "60", "--session-seconds", "60", "--max-lag", "30")
    with FalseServer("stall") as server:
        done = run(tmp_path, "-u", "2", "-r", "2", "-t", "8s", "--host", server.url, *rhythm, "WebsocketUser")
    corrected, raw = done.seconds("ack", "p95"), done.seconds("ack raw", "p95")
    assert corrected > 1.0, done.output
    assert raw < corrected / 3, done.output


def test_a_wrong_host_and_a_server_that_is_down_are_one_line_each(tmp_path: Path) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        done = run(tmp_path, "-u", "3", "-r", "3", "-t", "5s", "--host", url, "WebsocketUser")
    assert done.status == 1
    assert lines_of(done, "ERROR/load") == [f"{url}: nobody listens there: start the server or check --host"]
    assert "Traceback" not in done.output

    done = run(tmp_path, "-u", "3", "-r", "3", "-t", "3s", "--host", "nonsense")
    assert "load: 'nonsense' is no address: give --host http://HOST:PORT" in done.output
    assert "Traceback" not in done.output


def test_a_wrong_token_is_one_line_and_ends_the_run(instance: Instance, tmp_path: Path) -> None:
    began = time.monotonic()
    arguments = ("-u", "3", "-r", "3", "-t", "40s", "--host", instance.url, "WebsocketUser")
    done = run(tmp_path, *arguments, secret="another-secret-of-another-fleet-0123456789")
    assert time.monotonic() - began < 35
    told = "the server refused the token (invalid-token): set WEBUI_SECRET_KEY to the server's"
    assert lines_of(done, "ERROR/load") == [f"{instance.url}: {told}"]
    assert "Traceback" not in done.output


def test_a_server_that_knows_no_load_users_is_told_as_that(tmp_path: Path) -> None:
    with Instance() as server:
        arguments = ("-u", "1", "-r", "1", "-t", "40s", "--host", server.url, "WebsocketUser")
        done = run(tmp_path, *arguments, secret=server.secret_key)
    (told,) = lines_of(done, "ERROR/load")
    assert "the server does not know load-" in told
    assert "WEBUI_SECRET_KEY" not in told


def test_a_server_killed_in_the_middle_is_told_and_the_figures_are_kept(tmp_path: Path) -> None:
    with FalseServer() as server:
        storm = ("--shape", "storm", "-t", "12s", "--kill-pid", str(server.pid))
        done = run(tmp_path, "-u", "3", "-r", "3", *storm, "--host", server.url, *BUSY, "WebsocketUser")
    told = lines_of(done, "ERROR/load")
    assert f"{server.url}: the server closed the connection without a word: was it killed?" in told
    assert len(told) == len(set(told))
    assert done.figures["counters"]["acks"] > 0
    assert done.figures["counters"]["disconnects"] == 3
    assert done.figures["counters"]["lost"] == 0


def test_the_page_needs_nothing_but_a_browser(instance: Instance, tmp_path: Path) -> None:
    page, text = tmp_path / "load.html", tmp_path / "load.md"
    reports = ("--report-html", str(page), "--report-md", str(text), "--watch-pid", str(instance.pid))
    done = run(tmp_path, "-u", "2", "-r", "2", "-t", "4s", "--host", instance.url, *BUSY, *reports)
    assert done.status == 0, done.output
    html = page.read_text()
    assert not re.search(r"<script|<link|src=|@import|url\(", html)
    for chart in ("Ack round trip", "Users connected", "Server CPU", "Server memory", "Answer of /health"):
        assert re.search(rf"<figcaption>{chart}[^<]*</figcaption><svg", html), chart
    assert "| ack |" in text.read_text()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--objective", "speed<=1"), "is no objective: write NAME-pP<=SECONDS"),
        (("--objective", "ack<=1"), "is no objective"),
        (("--typing-every", "0"), "must be seconds above 0"),
        (("--shape", "circle"), "there is no such shape; there are ramp, steps, spike, storm, soak"),
    ],
)
def test_what_an_option_may_be_is_said(arguments: tuple[str, ...], told: str, tmp_path: Path) -> None:
    done = run(tmp_path, "-u", "1", "-t", "1s", *arguments)
    assert done.status != 0
    assert told in done.output
    assert "Traceback" not in done.output


def lines_of(done: Run, mark: str) -> list[str]:
    return [line.partition(": ")[2] for line in done.output.splitlines() if mark in line]
