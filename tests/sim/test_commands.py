"""``python -m sim``: what it prints, what it saves, how it ends."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sim.__main__ import main


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
