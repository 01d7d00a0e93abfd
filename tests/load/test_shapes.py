"""`--shape`: how the number of users goes, what comes of it, and a server that is killed in the middle."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from sim.processes.instances import Instance
from tests.load.lab import BUSY, FalseServer, from_the_web_page, lines_of, most_connected, run

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


def test_from_the_web_page_each_test_has_its_shape_from_the_beginning(tmp_path: Path) -> None:
    steps = ("--shape", "steps", "--step-users", "2", "--step-seconds", "2")
    with FalseServer() as server:
        form = {"user_count": 0, "spawn_rate": 0, "host": server.url}
        impossible = ("--objective", "fan-out-p50<=0.000001")
        done = from_the_web_page(tmp_path, [form, form], 11, *steps, *impossible)
    (note,) = done.figures["notes"]
    assert note.startswith("0 users held within the bound; at 2 users broke")


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


def test_steps_end_where_users_cannot_connect_however_fast_the_others_are_served(tmp_path: Path) -> None:
    rhythm = ("--typing-every", "0.3", "--session-seconds", "60", "--max-lag", "30")
    steps = ("--shape", "steps", "--step-users", "2", "--step-seconds", "4")
    with FalseServer("full") as server:
        done = run(tmp_path, *steps, "--host", server.url, *rhythm, "WebsocketUser")
    (note,) = done.figures["notes"]
    # Without -u, they would go on to the first that breaks.
    assert note.startswith("2 users held within the bound; at 4 users broke: only 3 of them could connect")


def test_a_shape_has_defaults_of_its_own(tmp_path: Path) -> None:
    with FalseServer() as server:
        spike = ("--shape", "spike", "-u", "30", "-t", "15s", "--host", server.url, *BUSY)
        done = run(tmp_path, *spike, "WebsocketUser")
    # All of it at once, without -r; by one a second there would be seven in the middle.
    assert most_connected(done) == 30


def test_a_storm_kills_an_instance_and_its_users_come_back_elsewhere(tmp_path: Path) -> None:
    with FalseServer() as first, FalseServer() as second:
        instances = ("--instances", f"{first.url},{second.url}")
        storm = ("--shape", "storm", "-u", "6", "-r", "6", "-t", "12s", "--kill-pid", str(second.pid))
        done = run(tmp_path, *storm, *instances, *BUSY, "WebsocketUser")
        assert second.returncode == -signal.SIGKILL
    assert done.figures["counters"]["disconnects"] == 3
    assert sum(times["count"] for key, times in done.figures["times"].items() if "reconnect" in key) == 3
    assert any("was killed after" in note for note in done.figures["notes"])


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
