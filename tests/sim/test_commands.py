"""``python -m sim``: what it prints, what it saves, how it ends."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from click.testing import CliRunner, Result

from sim import compare
from sim import scenario as registry
from sim.__main__ import main
from sim.cli import determinism, exploring
from sim.determinism_check import LEAK, Finding
from sim.explore import Report
from sim.leaks import LEAKS
from sim.plan import Plan
from sim.run import Outcome
from sim.run import Result as ResultOfRun
from sim.scenario import Scenario, find
from sim.strategies import Strategy
from sim.workers import Inline
from tests.sim.apps.mortal_app import STATUS

pytestmark = [
    pytest.mark.explores,
    pytest.mark.filterwarnings("ignore:[Uu]nclosed:ResourceWarning"),
]

APPS = Path(__file__).parent / "apps"
CONTRACT = {
    "scenario", "target", "strategy", "schedules", "possible", "inconclusive", "violations", "first", "steps",
    "messages", "virtual_seconds", "wall_seconds",
}  # fmt: skip
RACY = "user-pool-lost-update"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports are written where the command is run."""
    monkeypatch.chdir(tmp_path)


def sim(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def test_what_was_silenced_speaks_again_afterwards() -> None:
    sim("run", "join-twice")
    assert logging.root.manager.disable == logging.NOTSET


def test_every_scenario_is_listed_with_its_kind() -> None:
    listed = [json.loads(line) for line in sim("list", "--json").output.splitlines()]
    assert len(listed) >= 20
    assert {each["kind"] for each in listed} == {"d", "n", "r", "s"}


def test_a_scenario_that_holds_ends_with_0_and_says_what_was_run() -> None:
    done = sim("run", "join-twice", "--json")
    assert done.exit_code == 0
    assert json.loads(done.output)["outcome"] == "held"


def test_an_unknown_scenario_ends_with_2_and_names_the_nearest() -> None:
    done = sim("run", "join-twic")
    assert done.exit_code == 2
    assert "join-twice" in done.output


@pytest.mark.parametrize("target", ["nobody", "no.such.module:factory", "sim.errors:factory"])
def test_an_unknown_target_ends_with_2(target: str) -> None:
    done = sim("run", "join-twice", "--target", target)
    assert done.exit_code == 2
    assert target.split(":")[0] in done.output


def test_a_saved_run_replays_bit_for_bit(tmp_path: Path) -> None:
    saved = tmp_path / "case.json"
    assert sim("run", "join-twice", "--seed", "7", "--save", str(saved)).exit_code == 0
    done = sim("replay", str(saved))
    assert done.exit_code == 0, done.output
    assert "the same run again" in done.output


def test_a_run_and_its_replay_are_drawn_where_a_page_is_asked_for(tmp_path: Path) -> None:
    sim("run", "join-twice", "--save", "case.json", "--html", "pages/run.html")
    assert sim("replay", "case.json", "--html", "replay.html").exit_code == 0
    drawn = [(tmp_path / name).read_text() for name in ("pages/run.html", "replay.html")]
    assert all("join-twice" in page and "</html>" in page for page in drawn)


def test_a_saved_run_that_no_longer_applies_is_no_pass(tmp_path: Path) -> None:
    saved = tmp_path / "case.json"
    sim("run", "join-twice", "--save", str(saved))
    case = json.loads(saved.read_text())
    case["plan"]["holds"] = [{"message": "nobody→redis #1", "seconds": 0.01}]
    case["fingerprint"] = "another"
    saved.write_text(json.dumps(case))
    done = sim("replay", str(saved))
    assert done.exit_code == 3
    assert "never sent: nobody→redis #1" in done.output


def test_what_is_no_saved_run_ends_with_3(tmp_path: Path) -> None:
    (tmp_path / "case.json").write_text("{}")
    assert sim("replay", str(tmp_path / "case.json")).exit_code == 3


# explore


def found(*arguments: str) -> list[dict[str, Any]]:
    """The objects that a command prints, without what depends on the machine."""
    done = sim(*arguments, "--json")
    objects = [json.loads(line) for line in done.output.splitlines()]
    return [
        {name: value for name, value in each.items() if name not in ("wall_seconds", "found_seconds")}
        for each in objects
    ]


def test_what_was_found_is_told_with_every_field_of_the_contract() -> None:
    done = sim("explore", RACY, "--target", "naive", "--json")
    assert done.exit_code == 1
    report = json.loads(done.output)
    assert set(report) >= CONTRACT
    first = report["first"]
    assert set(first) >= {"seed", "invariant", "message", "holds", "faults", "file"}
    assert 1 <= len(first["holds"]) + len(first["faults"]) <= 3
    assert report["violations"] == 1
    assert 0 < report["schedules"] < report["possible"]
    assert report["orders"]["by_quarter"][-1] == report["orders"]["distinct"] > 1
    assert sum(report["bitten"].values()) + sum(report["unbitten"].values()) == sum(
        report["planned"].values()
    )


def test_a_violation_is_printed_with_a_command_that_replays_it() -> None:
    done = sim("explore", RACY, "--target", "naive")
    assert done.exit_code == 1
    (command,) = [line.strip() for line in done.output.splitlines() if "python -m sim replay" in line]
    replayed = sim(*command.removeprefix("python -m sim ").split())
    assert replayed.exit_code == 1
    assert "the same run again: violated" in replayed.output


def test_what_shrinking_left_out_is_told_beside_what_the_scenario_says_of_it() -> None:
    said = sim("explore", "cleaner-dies-for-good", "--target", "naive").output
    saved = json.loads(Path("reports/out/cases/cleaner-dies-for-good-naive.json").read_text())
    (left_out,) = saved["plan"]["skips"]
    assert f"    left out, as it breaks without: {left_out}\n    {saved['message']}\n" in said


@pytest.mark.parametrize(("target", "schedules"), [("naive", "20"), ("realtime", "6")])
def test_the_results_are_the_same_whatever_the_number_of_jobs(target: str, schedules: str) -> None:
    arguments = ("explore", RACY, "--target", target, "--schedules", schedules)
    assert found(*arguments, "--jobs", "1") == found(*arguments, "--jobs", "2")


def test_all_violations_are_counted_alike_by_any_number_of_jobs() -> None:
    arguments = ("explore", RACY, "--target", "naive", "--schedules", "40", "--all")
    (alone,), (together,) = found(*arguments, "--jobs", "1"), found(*arguments, "--jobs", "2")
    assert alone == together
    assert alone["violations"] > 1
    assert alone["schedules"] == 40


def test_random_schedules_end_only_where_they_are_told_to() -> None:
    assert sim("explore", RACY, "join-twice", "--strategy", "random").exit_code == 2
    (report,) = found("explore", "join-twice", "--strategy", "random", "--schedules", "3")
    assert (report["schedules"], report["possible"]) == (3, None)


def test_too_many_inconclusive_runs_end_with_3(monkeypatch: pytest.MonkeyPatch) -> None:
    never = replace(find("join-twice"), reaches=("never",))
    monkeypatch.setitem(registry._registry, "join-twice", never)
    done = sim("explore", "join-twice", "--schedules", "2")
    assert done.exit_code == 3
    assert "3 inconclusive" in done.output


def test_a_worker_that_dies_ends_with_3_and_says_in_which_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(APPS))
    done = sim("explore", RACY, "--target", "mortal_app:make", "--jobs", "2")
    assert done.exit_code == 3
    assert (
        f"ended with status {STATUS} in the middle of: {RACY} on mortal_app:make, seed 0: hold" in done.output
    )


def test_ctrl_c_prints_what_was_found_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    class Pressed(exploring.Bar):
        def show(self, what: str, done: int, total: int | None) -> None:
            if done == 2:
                os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(exploring, "Bar", Pressed)
    done = sim("explore", RACY, "join-twice")
    assert done.exit_code == 0
    assert "2 of " in done.output
    assert "interrupted" in done.output
    assert "join-twice" not in done.output


def test_ctrl_c_leaves_no_worker_behind(tmp_path: Path) -> None:
    """As a terminal does it: the signal goes to every process of the group."""
    process = subprocess.Popen(
        [sys.executable, "-m", "sim", "explore", RACY, "--jobs", "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        start_new_session=True,
    )
    try:
        workers = _workers_at_work(psutil.Process(process.pid))
        os.killpg(process.pid, signal.SIGINT)
        output, errors = process.communicate(timeout=30)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    assert "interrupted" in output
    assert errors == "", "nothing but what was found: no bar and no traceback"
    assert process.returncode == 0
    assert not any(worker.is_running() for worker in workers)


def _workers_at_work(process: psutil.Process) -> list[psutil.Process]:
    """Waits until two workers have been given time for some runs."""
    while True:
        assert process.status() != psutil.STATUS_ZOMBIE, "it has ended by itself"
        spawned = [child for child in process.children() if "spawn_main" in " ".join(child.cmdline())]
        if len(spawned) == 2 and all(sum(child.cpu_times()[:2]) > 2.0 for child in spawned):
            return spawned
        psutil.wait_procs([process], timeout=0.05)


# compare


def test_time_is_shared_out_over_the_scenarios(monkeypatch: pytest.MonkeyPatch) -> None:
    shares: list[float] = []

    def search(scenario: Scenario, target: str, _strategy: Strategy, **limits: Any) -> Report:
        shares.append(limits["seconds"])
        return Report(scenario.name, target, "single-fault")

    monkeypatch.setattr(compare, "search", search)
    scenarios = [replace(find("fleet-died-together"), name=f"calm-{number}", run=calm) for number in range(4)]
    for scenario in scenarios:
        monkeypatch.setitem(registry._registry, scenario.name, scenario)
    compare.Comparing(scenarios, Inline(), 400.0).run()
    assert 80 < shares[0] <= 100.0
    assert 320 < shares[3] <= 400.0, "what the others did not need"


def test_compare_shows_that_naive_breaks_and_realtime_holds(tmp_path: Path) -> None:
    names = (RACY, "token-expires", "fleet-died-together")
    done = sim("compare", *names, "--seconds", "6", "--jobs", "2", "--json")
    assert done.exit_code == 0, done.output
    rows = {row["scenario"]: row for row in map(json.loads, done.output.splitlines())}
    assert set(rows) == set(names)
    assert all(set(row) >= CONTRACT and row["target"] == "realtime" for row in rows.values())
    assert all(0 < row["schedules"] < row["possible"] for row in rows.values()), "as many as time allowed"
    race, design, leases = (rows[name] for name in names)
    assert (race["naive_undisturbed"], design["naive_undisturbed"]) == ("held", "violated")
    assert 1 <= len(race["naive"]["first"]["holds"] + race["naive"]["first"]["faults"]) <= 3
    assert design["naive"]["schedules"] == 0
    assert leases["naive"] is None
    assert sim("replay", race["naive"]["first"]["file"]).exit_code == 1
    page = (tmp_path / "reports" / "out" / "races.md").read_text()
    assert all(f"| {name} |" in page for name in names)
    assert "presence-converges" in page, "invariants are counted"
    assert "sessions of the dead reaped" in page, "and so are safeguards"
    assert (tmp_path / "reports" / "out" / "pages" / f"{RACY}-naive.html").exists()


def test_compare_ends_with_a_table_and_what_was_written() -> None:
    done = sim("compare", "token-expires", "--seconds", "2", "--jobs", "1")
    assert done.exit_code == 0, done.output
    assert "proves nothing about exploring" in done.output
    assert "reports/out/races.md" in done.output
    assert "python -m sim replay reports/out/cases/token-expires-naive.json" in done.output


def test_compare_tries_everything_where_it_is_to_be_exhaustive(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shown on the naive target and a fault that it does not have, which is quick."""
    monkeypatch.setattr("sim.compare.REALTIME", "naive")
    monkeypatch.setattr("sim.compare.SOAK_SCHEDULES", 2)
    monkeypatch.setitem(
        registry._registry, "calm", replace(find("token-expires"), name="calm", kind="n", run=calm)
    )
    done = sim("compare", "calm", "--exhaustive", "--jobs", "1", "--json")
    (row,) = map(json.loads, done.output.splitlines())
    assert row["schedules"] == row["possible"] > 10
    assert not Path("reports", "races.md").exists(), "only the whole comparison is kept"


async def calm(lab: Any) -> None:
    await lab.start("api-1")
    lab.checks.hold("calm", True, "")
    for mark in find("token-expires").reaches:
        lab.reach(mark)


def test_a_safeguard_that_no_run_ever_reached_fails_the_whole_comparison(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scenario = replace(find("fleet-died-together"), run=calm)
    report = Report(scenario.name, "realtime", "single-fault")
    report.add(ResultOfRun(Outcome.HELD, Plan(), 0, marks=Counter({"never seen": 0, "seen": 2})))
    rows = [compare.Row(scenario, realtime=report)]
    assert compare.Comparison(None, rows).silent_safeguards() == [], "other scenarios may reach it"
    monkeypatch.setattr(compare, "scenarios", lambda: {scenario.name: scenario})
    assert compare.Comparison(None, rows).silent_safeguards() == ["never seen"]
    assert Outcome.FAILED in compare.Comparison(None, rows).outcomes
    assert compare.Comparison(60.0, rows).silent_safeguards() == [], "so may other schedules"
    assert compare.Comparison(None, rows, interrupted=True).silent_safeguards() == []


def test_compare_ends_with_1_if_realtime_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sim.compare.REALTIME", "naive")
    done = sim("compare", RACY, "--seconds", "20", "--jobs", "1")
    assert done.exit_code == 1
    assert "realtime broke: " in done.output


@pytest.mark.parametrize("name", [RACY, "token-expires"])
def test_compare_ends_with_3_if_naive_does_not_break(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sim.compare.NAIVE", "realtime")
    monkeypatch.setattr("sim.compare.NAIVE_SECONDS", 0.5)
    done = sim("compare", name, "--seconds", "1", "--jobs", "1")
    assert done.exit_code == 3
    assert "no schedule broke naive" in done.output or "has to break naive at once" in done.output


def test_compare_ends_with_3_if_naive_breaks_a_race_undisturbed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry._registry, "token-expires", replace(find("token-expires"), kind="r"))
    done = sim("compare", "token-expires", "--seconds", "1", "--jobs", "1")
    assert done.exit_code == 3
    assert "naive has to hold undisturbed" in done.output


def test_a_scenario_that_waits_is_listed_with_the_reason_and_is_no_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waiting = replace(find("token-expires"), waits="the wire of tomorrow")
    monkeypatch.setitem(registry._registry, "token-expires", waiting)
    done = sim("compare", "token-expires", "--jobs", "1")
    assert done.exit_code == 0
    assert "the wire of tomorrow" in done.output


# determinism


def test_runs_that_differ_and_leaks_that_are_not_found_end_with_3(monkeypatch: pytest.MonkeyPatch) -> None:
    differs = Finding(RACY, "realtime", 1, "elsewhere", "this", "that")
    monkeypatch.setattr(determinism, "check_all", lambda jobs, watch: [differs] * (len(jobs) == 1))
    done = sim("determinism", "--seeds", "2", "--scenario", RACY)
    assert done.exit_code == 3
    assert "1 of 2 seeds are the same run again" in done.output
    assert str(differs) in done.output
    assert "0 of 10 planted leaks detected" in done.output


def test_that_all_leaks_but_one_are_found_is_not_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    def all_but_one(jobs: Any, watch: Any) -> list[Finding]:
        leaks = [job.scenario for job in jobs if job.scenario.startswith(LEAK)]
        return [Finding(name, "naive", 1, "elsewhere", "this", "that") for name in leaks[1:]]

    monkeypatch.setattr(determinism, "check_all", all_but_one)
    done = sim("determinism", "--seeds", "2", "--scenario", RACY)
    assert done.exit_code == 3
    assert "2 of 2 seeds are the same run again" in done.output
    assert f"NOT FOUND {next(iter(LEAKS))}" in done.output


@pytest.mark.e2e
@pytest.mark.timeout(180)
def test_determinism_finds_the_planted_leaks_and_nothing_else() -> None:
    done = sim("determinism", "--seeds", "2", "--scenario", "join-twice")
    assert done.exit_code == 0, done.output
    assert "2 of 2 seeds are the same run again" in done.output
    assert "10 of 10 planted leaks detected" in done.output
