"""``python -m sim … --on processes``, ``chaos``, ``confirm``, ``inclusion``: what they print, how they end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner, Result

from sim import confirmation
from sim.__main__ import main
from sim.interrupt import Interrupt
from sim.processes.chaos import faults, session
from sim.processes.chaos.faults import KINDS, SIGKILL
from sim.processes.redis import RedisServer
from sim.workers import Inline
from tests.e2e.pages import ROOT

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.filterwarnings("ignore:[Uu]nclosed:ResourceWarning"),
]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports are written where the command is run. All runs are made by this process: to start workers takes longer
    than the runs do. What is interrupted and killed is a process of its own."""
    monkeypatch.chdir(tmp_path)
    for command in ("trying", "confirming", "including"):
        monkeypatch.setattr(f"sim.cli.{command}.Processes", lambda _number: Inline())


def sim(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def test_a_run_on_processes_ends_as_one_in_the_simulator_does() -> None:
    held = sim("run", "join-twice", "--on", "processes")
    assert held.exit_code == 0, held.output
    assert held.output.startswith("join-twice: held (")
    assert "virtual" not in held.output
    broke = sim("run", "join-twice", "--on", "processes", "--target", "naive", "--json")
    assert broke.exit_code == 1
    shown = json.loads(broke.output)
    assert (shown["on"], shown["outcome"]) == ("processes", "violated")
    assert shown["invariant"] == "told-once"
    assert shown["messages"] > 100


def test_exploring_on_processes_counts_the_tries_that_showed_the_fault() -> None:
    ended = sim(
        "explore", "join-twice", "--on", "processes", "--target", "naive", "--schedules", "1", "--json"
    )
    assert ended.exit_code == 1
    shown = json.loads(ended.output)
    assert (shown["schedules"], shown["violations"]) == (1, 2)  # the undisturbed run is one more
    assert shown["first"]["file"] is None
    assert shown["on"] == "processes"


def test_confirm_counts_tries_and_makes_columns_of_races(tmp_path: Path) -> None:
    page = tmp_path / "races.md"
    page.write_text(
        "# Races\n\n| scenario | naive broken by | realtime |\n| --- | --- | --- |\n| join-twice | x | held |\n"
    )
    ended = sim(
        "confirm",
        "join-twice",
        "--tries",
        "2",
        "--realtime-tries",
        "2",
        "--jobs",
        "1",
        "--reports",
        ".",
    )
    assert ended.exit_code == 0, ended.output
    assert "the two labs agree" in ended.output
    assert (
        "| join-twice | x | held | 2 of 2 (left alone 1 of 1, delays 1 of 1) | 0 of 2 |" in page.read_text()
    )
    assert {row["target"] for row in json.loads(Path("confirm.json").read_text())["rows"]} == {
        "naive",
        "realtime",
    }


def test_a_confirm_that_tried_nothing_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_self: Interrupt) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        raise KeyboardInterrupt

    monkeypatch.setattr(Interrupt, "check", interrupted)
    monkeypatch.setattr(confirmation, "_begin", lambda _wanted: None)
    ended = sim("confirm", "join-twice", "--tries", "1")
    assert (ended.exit_code, ended.output) == (3, "interrupted before the first try\n")
    assert not Path("reports").exists()


def test_orders_of_real_runs_are_replayed_in_the_simulator(tmp_path: Path) -> None:
    ended = sim(
        *(
            "inclusion",
            "reload-goes-offline",
            "--runs",
            "1",
            "--jobs",
            "1",
            "--json",
            "--reports",
            str(tmp_path),
        )
    )
    shown = [json.loads(line) for line in ended.output.splitlines()]
    assert [(each["same_order"], each["agrees"]) for each in shown] == [(True, True)], shown
    assert "**1 of 1**" in (tmp_path / "inclusion.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("run", "join-twice", "--instances", "3"), "are for --on processes"),
        (("run", "join-twice", "--redis-url", "redis://x"), "are for --on processes"),
        (("run", "join-twice", "--on", "processes", "--redis-url", "127.0.0.1:1"), "no address of a Redis"),
        (
            ("run", "join-twice", "--on", "processes", "--redis-url", "redis://x:99999/0"),
            "no address of a Redis",
        ),
        (("chaos", "--redis-url", "redis://[x/0"), "no address of a Redis"),
        (
            ("explore", "join-twice", "--on", "processes", "--redis-url", "redis://x", "--jobs", "2"),
            "for one run at a time",
        ),
        (("run", "join-twice", "--on", "processes", "--save", "x.json"), "none to replay"),
        (("run", "join-twic", "--on", "processes"), "join-twice"),
        (("run", "join-twice", "--on", "processes", "--target", "nobody"), "no target"),
    ],
)
def test_wrong_usage_is_said(arguments: tuple[str, ...], says: str) -> None:
    ended = sim(*arguments)
    assert ended.exit_code == 2
    assert says in ended.output


def test_a_redis_that_cannot_be_used_is_a_failure_of_the_lab(redis_server: RedisServer) -> None:
    redis_server.execute("SET", "somebody's", "key")
    ended = sim("run", "join-twice", "--on", "processes", "--redis-url", redis_server.url)
    assert ended.exit_code == 3
    assert "give an empty one" in ended.output
    assert redis_server.execute("GET", "somebody's") == "key"


def test_ctrl_c_before_anything_was_started_is_no_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_arguments: object, **_options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sim.cli.looking.undisturbed", interrupt)
    ended = sim("run", "join-twice")
    assert (ended.exit_code, ended.output) == (3, "interrupted\n")


def test_what_a_redis_of_others_cannot_do_makes_a_run_inconclusive(redis_server: RedisServer) -> None:
    ended = sim("run", "redis-failover-rollback", "--on", "processes", "--redis-url", redis_server.url)
    assert ended.exit_code == 3
    assert "inconclusive, the Redis of --redis-url cannot be" in ended.output


LONG_RUN = ("lock-released-by-stranger", "--on", "processes")


def test_nothing_is_left_running_however_a_command_ends(tmp_path: Path) -> None:
    ends = [
        (signal.SIGINT, ("run", *LONG_RUN)),
        (signal.SIGINT, ("explore", *LONG_RUN)),
        (signal.SIGTERM, ("run", *LONG_RUN)),
        (signal.SIGKILL, ("chaos",)),
    ]
    files = [tmp_path / str(number) for number in range(len(ends))]
    for folder in files:
        folder.mkdir()
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "sim", *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for (_number, arguments), folder in zip(ends, files, strict=True)
    ]
    deadline = time.monotonic() + 60
    for (number, _arguments), command, folder in zip(ends, started, files, strict=True):
        me = psutil.Process(command.pid)
        # The nursery and what it forked: Redis, then instances.
        while len(family := me.children(recursive=True)) < 4 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(family) >= 4
        command.send_signal(number)
        output, _errors = command.communicate(timeout=40)
        _gone, alive = psutil.wait_procs(family, timeout=20)
        assert not alive, output
        if number != signal.SIGKILL:
            assert command.returncode == 3, output
            assert "interrupted" in output
            assert "Traceback" not in output
            assert not [*folder.iterdir()]


def test_chaos_goes_through_kinds_of_faults_and_reports_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = [
        SIGKILL,
        "Redis CLIENT KILL",
        "Redis SIGSTOP",
        "Redis killed, back empty",
        "Redis killed, back with its data",
        "clients half closed",
        "clients vanish",
        "clients' connections reset",
        "connections to Redis reset",
        "cut in the middle of a message with Redis",
        "frames of clients cut in the middle",
        "half-open towards Redis",
    ]
    monkeypatch.setattr(session, "KINDS", {name: KINDS[name] for name in tried})
    monkeypatch.setattr(session, "STAYS_SECONDS", 0.1)
    monkeypatch.setattr(faults, "LASTS", 0.5)
    ended = sim("chaos", "--faults", "12", "--instances", "2", "--clients", "12", "--seed", "1", "--json")
    assert ended.exit_code == 0, ended.output
    shown = json.loads(ended.output)
    assert {each["kind"] for each in shown["struck"]} == set(tried)
    assert all(set(each["right"]) == {"presence", "usage", "delivery"} for each in shown["struck"])
    (killed,) = [each for each in shown["struck"] if each["kind"] == SIGKILL]
    assert 0 < killed["ghosts"] <= 11
    page = Path("reports/out/chaos.md").read_text()
    assert all(f"| {name} | 1 |" in page for name in tried)


def test_chaos_says_what_broke(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "KINDS", {SIGKILL: KINDS[SIGKILL]})
    monkeypatch.setattr(session, "GHOSTS_WITHIN", 0.1)
    monkeypatch.setattr(session, "STAYS_SECONDS", 0.1)
    ended = sim("chaos", "--faults", "1", "--instances", "2", "--clients", "10")
    assert ended.exit_code == 1
    assert "broken: #1:" in ended.output
    assert "ghosts 0.1 s after a SIGKILL" in ended.output
    assert "gone in" not in ended.output
