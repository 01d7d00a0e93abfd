"""Anyone's scenarios: named ``module:name``, found by importing the module, apart from the simulator's own."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sim.case import Case
from sim.plan import Plan
from sim.run import Outcome, run
from sim.scenario import UnknownScenario, find, scenarios
from sim.targets import load

pytestmark = pytest.mark.filterwarnings("ignore:[Uu]nclosed:ResourceWarning")

MODULE = """
from sim.scenario import scenario


@scenario("join-twice", "r", "an instance starts", reaches=("started",))
async def starts(lab):
    await lab.start("api-1")
    lab.reach("started")


@scenario("somebody-comes", "r", "a client comes to an instance", reaches=("came",))
async def comes(lab):
    await lab.start("api-1")
    ann = await lab.connect("ann-1", "ann", "api-1")
    if ann.sid:
        lab.reach("came")


@scenario("somebody-asks", "r", "a client asks and believes the answer", reaches=("came",))
async def asks(lab):
    await lab.start("api-1")
    ann = await lab.connect("ann-1", "ann", "api-1")
    answer = await lab.call(ann, "who")
    lab.checks.hold("all-here", answer["all"], "nobody is here")


async def _nothing_here(scope, receive, send):
    if scope["type"] != "lifespan":
        await send({"type": "http.response.start", "status": 404})
        await send({"type": "http.response.body"})


def elsewhere(context):
    return _nothing_here


def broken(context):
    raise ValueError("no such table")


async def _refuses_to_start(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no such table"})


def unwilling(context):
    return _refuses_to_start
"""


@pytest.fixture(autouse=True)
def _module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "my_races.py").write_text(MODULE)
    (tmp_path / "my_broken_races.py").write_text("import nothing_of_that_name")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    for name in ("my_races", "my_broken_races"):
        sys.modules.pop(name, None)


def test_a_scenario_of_ones_own_is_run_and_saved_under_its_whole_name() -> None:
    mine = find("my_races:join-twice")
    result = run(mine, load("naive"), Plan())
    assert result.outcome is Outcome.HELD
    case = Case.of(mine.name, "naive", result)
    assert find(case.scenario) is mine


def test_where_the_extra_is_missing_the_import_says_how_to_install_it() -> None:
    program = "import sys; sys.modules['fakeredis'] = None; import sim.lab"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert "the simulator needs fakeredis" in done.stderr
    assert "pip install -e '.[sim]'" in done.stderr


def test_it_takes_nobody_s_name_and_is_not_among_the_simulator_s() -> None:
    find("my_races:join-twice")
    assert scenarios()["join-twice"].about != "an instance starts"
    assert not [name for name in scenarios() if ":" in name]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("my_races:join-twic", "near it: my_races:join-twice"),
        ("my_races", "one of your own is MODULE:NAME"),
        ("my_races:xyz", "my_races registers my_races:join-twice"),
        ("my_broken_races:x", "cannot be loaded: ModuleNotFoundError.*nothing_of_that_name"),
        ("no_such_races:x", "cannot be loaded"),
        (":x", "cannot be loaded"),
    ],
)
def test_an_unknown_one_is_told_with_what_there_is(name: str, reason: str) -> None:
    with pytest.raises(UnknownScenario, match=reason):
        find(name)


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("my_races:broken", r"its factory raised ValueError: no such table \(my_races.py:\d+\)"),
        ("my_races:unwilling", r"its lifespan failed \(python -m sim --verbose"),
    ],
)
def test_an_application_that_does_not_start_is_told_with_what_it_raised(target: str, reason: str) -> None:
    result = run(find("my_races:join-twice"), load(target), Plan())
    assert result.outcome is Outcome.FAILED
    assert re.search(f"api-1 did not start within 30 virtual seconds: {reason}", result.message), (
        result.message
    )


@pytest.mark.parametrize(
    ("scenario", "outcome", "came_of_it"),
    [
        ("my_races:somebody-comes", Outcome.INCONCLUSIVE, "never reached: came; before"),
        ("my_races:somebody-asks", Outcome.FAILED, "the scenario itself failed: KeyError: 'all'"),
    ],
)
def test_where_no_client_was_let_in_it_is_said_who_and_what_clients_do(
    scenario: str, outcome: Outcome, came_of_it: str
) -> None:
    result = run(find(scenario), load("my_races:elsewhere"), Plan())
    assert result.outcome is outcome
    assert came_of_it in result.message
    assert "ann-1 was not let in by api-1: " in result.message
    assert "/ws/socket.io" in result.message
