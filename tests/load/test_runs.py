"""`locust -f loadtests/` from its command line to its reports."""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from pathlib import Path

import pytest

from sim.processes.instances import Instance
from tests.load.false_server import REFUSALS
from tests.load.lab import (
    BUSY,
    FalseServer,
    ended,
    lines_of,
    most_connected,
    own_requests,
    run,
    started,
)

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


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


def test_a_generator_that_stood_still_for_a_while_makes_the_result_invalid(tmp_path: Path) -> None:
    with FalseServer() as server:
        users = ("-u", "2", "-r", "2", "-t", "12s", "--host", server.url, "WebsocketUser")
        process = started(tmp_path, *users, "--objective", "errors<=0")
        time.sleep(8)
        os.kill(process.pid, signal.SIGSTOP)
        time.sleep(1.5)
        os.kill(process.pid, signal.SIGCONT)
        done = ended(tmp_path, process)
    # One beat of a hundred and more was late, but it stands for thirty that did not come.
    assert not done.figures["valid"]
    assert "INVALID: the generator itself was late" in done.output
    assert done.status == 1


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


def test_users_whom_the_server_asks_to_try_again_later_do(tmp_path: Path) -> None:
    with FalseServer("refuse") as server:
        done = run(tmp_path, "-u", "3", "-r", "3", "-t", "10s", "--host", server.url, *BUSY, "WebsocketUser")
    assert done.figures["counters"]["connects"] == 3, done.output
    assert done.figures["counters"]["errors"] == REFUSALS
    # Who was never connected lost nothing, and did not come back.
    assert done.figures["counters"]["disconnects"] == 0
    assert not any(key.startswith("reconnect|") for key in done.figures["times"])
    said = "the server refused the connect (unavailable): try again in a moment"
    assert lines_of(done, "ERROR/load") == [f"{server.url}: {said}"]


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


def test_the_page_needs_nothing_but_a_browser(instance: Instance, tmp_path: Path) -> None:
    page, text = tmp_path / "load.html", tmp_path / "load.md"
    reports = ("--report-html", str(page), "--report-md", str(text), "--watch-pid", str(instance.pid))
    done = run(tmp_path, "-u", "2", "-r", "2", "-t", "4s", "--host", instance.url, *BUSY, *reports)
    assert done.status == 0, done.output
    html = page.read_text()
    assert not re.search(r"<script|<link|src=|@import|url\(", html)
    for chart in (
        "Ack round trip",
        "Users connected",
        "Connects, disconnects, errors",
        "Server CPU",
        "Server memory",
        "Answer of /health",
    ):
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
