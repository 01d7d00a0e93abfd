"""Processes forked from one that has imported everything: they are processes like others, and die with their owner."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from sim.processes.nursery import Nursery, NurseryGone
from sim.processes.process import wait_until
from tests.e2e.pages import ROOT

SLEEPER = [sys.executable, "-c", "import time; print('awake', flush=True); time.sleep(60)"]


def test_a_child_writes_to_its_log_takes_signals_and_leaves_its_status(
    nursery: Nursery, tmp_path: Path
) -> None:
    child = nursery.fork(SLEEPER, None, tmp_path / "log")
    wait_until("output", lambda: "awake" in (tmp_path / "log").read_text(), timeout=20)
    assert child.poll() is None
    child.terminate()
    assert child.wait(10) == -signal.SIGTERM
    child.kill()  # harmless


def test_a_wait_for_a_child_that_lives_on_ends(nursery: Nursery, tmp_path: Path) -> None:
    child = nursery.fork(SLEEPER, None, tmp_path / "log")
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(0.05)
    child.kill()
    assert child.wait(10) == -signal.SIGKILL


def test_an_exit_status_comes_through_and_so_does_the_environment(nursery: Nursery, tmp_path: Path) -> None:
    program = "import os, sys; sys.exit(int(os.environ['STATUS']))"
    child = nursery.fork([sys.executable, "-c", program], {**os.environ, "STATUS": "7"}, tmp_path / "log")
    assert child.wait(20) == 7


def test_a_module_that_it_has_imported_runs_in_the_fork_with_its_arguments(
    nursery: Nursery, tmp_path: Path
) -> None:
    child = nursery.fork(
        [
            sys.executable,
            "-m",
            "sim.targets.serve",
            "no-such-target",
            "--port",
            "1",
            "--redis-url",
            "redis://x",
        ],
        None,
        tmp_path / "log",
    )
    assert child.wait(20) == 2
    assert "no target 'no-such-target'" in (tmp_path / "log").read_text()


def test_a_closed_nursery_has_ended_its_children(tmp_path: Path) -> None:
    nursery = Nursery()
    child = nursery.fork(SLEEPER, None, tmp_path / "log")
    process = psutil.Process(child.pid)
    nursery.close()
    process.wait(10)
    assert child.poll() == -signal.SIGKILL


def test_a_nursery_that_cannot_start_says_so(tmp_path: Path) -> None:
    nursery = Nursery("no_such_module_anywhere")
    with pytest.raises(NurseryGone):
        nursery.fork(SLEEPER, None, tmp_path / "log")
    nursery.close()


def test_children_end_when_their_owner_is_killed(tmp_path: Path) -> None:
    program = (
        "import pathlib, sys, time\n"
        "from sim.processes.nursery import Nursery\n"
        f"child = Nursery().fork({SLEEPER!r}, None, pathlib.Path(sys.argv[1]))\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "log")], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    child = psutil.Process(int(owner.stdout.readline()))
    owner.kill()
    owner.wait()
    owner.stdout.close()
    deadline = time.monotonic() + 20
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
