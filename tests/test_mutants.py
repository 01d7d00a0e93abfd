"""The mutants are what their rules say, fit the layer as it is, and live and die in processes of their own."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest
from lupa.lua51 import LuaRuntime

from tests.mutants import rules_lua, rules_python
from tests.mutants.explained import ACCEPTED, EQUIVALENT
from tests.mutants.found import all_mutants, source
from tests.mutants.mutant import PACKAGE, Mutant


def made(mutants: list[Mutant], text: str) -> set[tuple[str, str]]:
    return {(mutant.rule, mutant.difference(text)[1]) for mutant in mutants}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("redis.call('DEL', f(key))", {("call left out", "")}),
        (
            "local x = redis.call('HGET', a, b) or ''",
            {("call left out", "local x = false or ''")},
        ),
        ("forget(sid)", {("call left out", "")}),
        ("x = f(sid)", set()),
        (
            "if a == b and c then g = 1 end",
            {("condition negated", "if not (a == b and c) then g = 1 end")},
        ),
        (
            "return old and old.user == user",
            {
                ("condition negated", "return not (old) and old.user == user"),
                ("condition negated", "return old and old.user ~= user"),
            },
        ),
        ("return t * 1000", {("time x10", "return t * (1000 * 10)"), ("time /10", "return t * (1000 / 10)")}),
        ("-- if redis.call('GET', 'x') == 1 then", set()),
        ("x = 'if a == b then'", set()),
    ],
)
def test_lua_is_mutated_by_rule(line: str, expected: set[tuple[str, str]]) -> None:
    assert made(list(rules_lua.mutants("some.lua", line)), line) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("if a and b: pass", {("condition negated", "if not (a and b): pass")}),
        ("while True: pass", set()),
        ("x = 1 if é else 2", {("condition negated", "x = 1 if not (é) else 2")}),
        ("x = [y for y in z if y > 1]", {("condition negated", "x = [y for y in z if not (y > 1)]")}),
        ("held = a < b", {("condition negated", "held = not (a < b)")}),
        ("x = a or b", set()),
        ("log.info('x')", set()),
        ("gate.set()", {("call left out", "pass")}),
        ("del x[1]", {("call left out", "pass")}),
        ("PAUSE_SECONDS = 0.5", {("time x10", "PAUSE_SECONDS = 5.0"), ("time /10", "PAUSE_SECONDS = 0.05")}),
        ("x = ttl / 4", {("time x10", "x = ttl / 40"), ("time /10", "x = ttl / 0.4")}),
        ("BATCH = 200", set()),
        (
            "def f(*, interval=0.5): ...",
            {("time x10", "def f(*, interval=5.0): ..."), ("time /10", "def f(*, interval=0.05): ...")},
        ),
    ],
)
def test_python_is_mutated_by_rule(line: str, expected: set[tuple[str, str]]) -> None:
    assert made(rules_python.mutants("some.py", line), line) == expected


def test_awaits_and_locks_of_python_are_skipped() -> None:
    text = "async def f():\n await g()\n async with lock:\n  with holding(sids) as free:\n   return free\n"
    guards = [mutant.apply(text) for mutant in rules_python.mutants("some.py", text)]
    assert [each for each in guards if "await" not in each] != []
    assert any('async with __import__("contextlib").nullcontext():' in each for each in guards)
    assert any('with __import__("contextlib").nullcontext(sids) as free:' in each for each in guards)
    assert len(guards) == 3


def test_every_mutant_has_a_name_of_its_own_and_is_another_program_that_compiles() -> None:
    mutants, lua = all_mutants(), LuaRuntime()
    assert len({mutant.name for mutant in mutants}) == len(mutants) > 500
    prelude = source("state/scripts/_prelude.lua")
    for mutant in mutants:
        text = source(mutant.file)
        changed = mutant.apply(text)
        assert changed != text
        if mutant.file.endswith(".lua"):
            lua.compile(changed if mutant.file.endswith("_prelude.lua") else f"{prelude}\n{changed}")
        else:
            assert ast.dump(ast.parse(changed)) != ast.dump(ast.parse(text)), mutant.name


def test_every_script_and_only_what_exists_is_mutated_and_explained() -> None:
    mutants = all_mutants()
    scripts = {path.name for path in (PACKAGE / "state" / "scripts").glob("*.lua")}
    assert {mutant.file.rpartition("/")[2] for mutant in mutants if mutant.file.endswith(".lua")} == scripts
    names = {mutant.name for mutant in mutants}
    assert EQUIVALENT.keys() | ACCEPTED.keys() <= names, "explained, but no such mutant is made any more"
    assert not EQUIVALENT.keys() & ACCEPTED.keys()


@pytest.mark.e2e
def test_a_mutant_lives_and_dies_in_a_process_of_its_own() -> None:
    chosen = "lock_acquire.lua: feared: a lock that everybody gets"
    done = subprocess.run(
        [sys.executable, "-m", "tests.mutants", "--no-report", "--only", chosen],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert "1 of 1 killed: 100.0 %" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0
