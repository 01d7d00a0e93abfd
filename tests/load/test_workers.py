"""Locust's other ways to start and to end: workers, the web page, Ctrl-C, and a token that nobody takes."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from sim.processes.instances import Instance
from tests.load.lab import (
    BUSY,
    FalseServer,
    ended,
    free_port,
    from_the_web_page,
    lines_of,
    most_connected,
    own_requests,
    run,
    started,
    two_workers,
)

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


def test_two_workers_add_up_and_a_missed_objective_is_status_1(instance: Instance, tmp_path: Path) -> None:
    done = run(
        tmp_path,
        *("-u", "6", "-r", "6", "-t", "6s", "--host", instance.url, *two_workers(), *BUSY),
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


def test_workers_that_are_told_nothing_take_host_and_options_from_their_master(tmp_path: Path) -> None:
    port = str(free_port())
    folders = [tmp_path / name for name in ("first", "second")]
    workers = [started(each, "--worker", "--master-port", port) for each in folders]
    try:
        with FalseServer() as server:
            master = ("--master", "--master-bind-port", port, "--expect-workers", "2", "--host", server.url)
            done = run(tmp_path, *master, "-u", "6", "-r", "6", "-t", "6s", *BUSY)
        assert [ended(*each).status for each in zip(folders, workers, strict=True)] == [0, 0]
    finally:
        for worker in workers:
            worker.kill()
    assert done.status == 0, done.output
    assert done.figures["counters"]["connects"] == 6
    # By the default of 10 s the six would have typed some three times.
    assert done.figures["counters"]["sent"] > 20


def test_ctrl_c_keeps_what_workers_measured_up_to_then_and_closes_their_books(tmp_path: Path) -> None:
    long = ("--typing-every", "0.2", "--late-after", "0.2", "--session-seconds", "1000", "--max-lag", "30")
    with FalseServer("lose") as server:
        users = ("-u", "6", "-r", "6", "-t", "40s", "--host", server.url, "WebsocketUser")
        process = started(tmp_path, *users, *two_workers(), *long)
        time.sleep(12)
        os.killpg(process.pid, signal.SIGINT)
        done = ended(tmp_path, process)
    assert done.figures["valid"], done.figures["doubts"]
    assert done.figures["rows"][-1]["connected"] == 0
    # Each of the six is connected to the end: what it lost is known only then.
    assert done.figures["counters"]["lost"] > 0


def test_from_the_web_page_each_test_has_its_host_and_its_own_figures(tmp_path: Path) -> None:
    with FalseServer() as server:
        hosts = (f"http://127.0.0.1:{free_port()}", 5), (server.url, 3)
        forms = [{"user_count": users, "spawn_rate": 5, "host": host} for host, users in hosts]
        done = from_the_web_page(tmp_path, forms, 4)
    counters = done.figures["counters"]
    assert (counters["connects"], counters["errors"]) == (3, 0), done.output
    assert "nobody listens there" in done.output


@pytest.mark.parametrize("workers", [False, True])
def test_a_wrong_token_is_one_line_and_ends_the_run(
    instance: Instance, workers: bool, tmp_path: Path
) -> None:
    began = time.monotonic()
    arguments = ("-u", "3", "-r", "3", "-t", "40s", "--host", instance.url, "WebsocketUser")
    several = two_workers() if workers else ()
    done = run(tmp_path, *arguments, *several, secret="another-secret-of-another-fleet-0123456789")
    assert time.monotonic() - began < 35
    assert done.status == 1
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
