"""Anyone's scenarios: named ``module:name``, found by importing the module, apart from the simulator's own."""

from __future__ import annotations

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


def test_it_takes_nobody_s_name_and_is_not_among_the_simulator_s() -> None:
    find("my_races:join-twice")
    assert scenarios()["join-twice"].about != "an instance starts"
    assert not [name for name in scenarios() if ":" in name]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("my_races:join-twic", "near it: my_races:join-twice"),
        ("my_races:xyz", "my_races registers my_races:join-twice"),
        ("my_broken_races:x", "cannot be loaded: ModuleNotFoundError.*nothing_of_that_name"),
        ("no_such_races:x", "cannot be loaded"),
        (":x", "cannot be loaded"),
    ],
)
def test_an_unknown_one_is_told_with_what_there_is(name: str, reason: str) -> None:
    with pytest.raises(UnknownScenario, match=reason):
        find(name)
