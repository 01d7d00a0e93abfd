"""What is made of tries: figures, sentences on where the labs disagree, and columns of a table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sim.confirmation import NAIVE, REALTIME, Confirmation, Confirmed, outcome_of, problems, with_columns
from sim.plan import Plan
from sim.run import Outcome, Result
from sim.strategies.tries import ALONE, DELAYS, FOUND

HELD = Result(Outcome.HELD, Plan(), 0)
BROKE = Result(Outcome.VIOLATED, Plan(), 0, "presence-converges", "somebody is missing")
UNCLEAR = replace(HELD, outcome=Outcome.INCONCLUSIVE)
RACE, DESIGN = "user-pool-lost-update", "join-twice"


def row(scenario: str, target: str, *results: tuple[Result, str]) -> Confirmed:
    made = Confirmed(scenario, target)
    for result, kind in results:
        made.add(result, kind)
    return made


def test_tries_are_counted_by_kind() -> None:
    found = row(RACE, NAIVE, (HELD, ALONE), (HELD, DELAYS), (BROKE, FOUND), (BROKE, FOUND))
    assert str(found) == "2 of 4 (left alone 0 of 1, delays 0 of 1, the simulator's schedule 2 of 2)"
    assert found.invariants == {"presence-converges": 2}
    assert not problems([found])
    assert outcome_of([found]) is Outcome.HELD


def test_what_broke_is_told_where_it_was_not_always_the_same() -> None:
    other = replace(BROKE, invariant="asked-list-is-right")
    found = row(RACE, NAIVE, (other, ALONE), (BROKE, ALONE), (BROKE, ALONE))
    assert str(found) == "3 of 3 (left alone 3 of 3): presence-converges 2, asked-list-is-right 1"


def test_what_the_lab_could_not_run_is_no_try_and_a_problem() -> None:
    failed = replace(HELD, outcome=Outcome.FAILED, message="no Redis")
    found = row(RACE, REALTIME, (HELD, ALONE), (failed, ALONE))
    assert str(found) == "0 of 1, 1 FAILED"
    assert "the lab failed 1 times on realtime: failed (undisturbed): no Redis" in problems([found])[0]
    assert outcome_of([found]) is Outcome.FAILED


def test_an_inconclusive_try_is_counted_apart_and_shows_nothing() -> None:
    assert str(row(RACE, NAIVE, (UNCLEAR, ALONE))) == "0 of 1, 1 inconclusive"


@pytest.mark.parametrize(
    ("found", "says", "outcome"),
    [
        (row(RACE, NAIVE, (HELD, ALONE)), "none of 1 tries broke naive", Outcome.FAILED),
        (row(RACE, REALTIME, (BROKE, ALONE)), "1 of 1 tries broke realtime", Outcome.VIOLATED),
        (
            row(RACE, REALTIME, (UNCLEAR, ALONE), (HELD, ALONE)),
            "1 of 2 tries of realtime said nothing",
            Outcome.FAILED,
        ),
        (row(DESIGN, NAIVE, (HELD, ALONE), (BROKE, DELAYS)), "did not show without", Outcome.FAILED),
        (row(DESIGN, NAIVE, (BROKE, ALONE), (HELD, DELAYS)), "", Outcome.HELD),
    ],
)
def test_where_the_labs_disagree_is_said(found: Confirmed, says: str, outcome: Outcome) -> None:
    said = problems([found])
    assert len(said) == bool(says)
    assert says in "".join(said)
    assert outcome_of([found]) is outcome


def test_tries_of_another_time_are_added() -> None:
    found = row(RACE, NAIVE, (BROKE, ALONE), (HELD, DELAYS))
    found.add_all(row(RACE, NAIVE, (BROKE, ALONE), (HELD, FOUND)))
    assert str(found) == "2 of 4 (left alone 2 of 2, delays 0 of 1, the simulator's schedule 0 of 1)"


def test_a_page_gets_columns_and_gets_them_anew(tmp_path: Path) -> None:
    page = (
        "# Races\n\n| scenario | naive broken by | realtime | inconclusive |\n| --- | --- | --- | ---: |\n"
        f"| {RACE} | hold a\\|b | held | 0 |\n| unknown | x | held | 0 |\n\n"
        "| scenario | realtime |\n| --- | --- |\n| soak | held |\n\n"
        "| invariant | on realtime |\n| --- | --- |\n| x | 1 |\n"
    )
    first = Confirmation({(RACE, NAIVE): row(RACE, NAIVE, (BROKE, ALONE))})
    first.save(tmp_path)
    first = Confirmation.read(tmp_path)
    once = with_columns(page, first)
    assert f"| {RACE} | hold a\\|b | held | 0 | 1 of 1 (left alone 1 of 1) |  |" in once
    assert "| scenario | realtime | realtime on processes |" in once
    assert "| x | 1 |\n" in once
    first.rows[RACE, REALTIME] = row(RACE, REALTIME, (HELD, ALONE))
    twice = with_columns(once, first)
    assert f"| {RACE} | hold a\\|b | held | 0 | 1 of 1 (left alone 1 of 1) | 0 of 1 |" in twice
    assert len(twice.splitlines()) == len(page.splitlines())


def test_a_folder_without_figures_has_none(tmp_path: Path) -> None:
    assert not Confirmation.read(tmp_path).rows
