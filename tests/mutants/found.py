"""All mutants of the files that are held to this: scripts, state, locks, presence, leases, housekeeping."""

from __future__ import annotations

from . import rules_lua, rules_python
from .fears import FEARS
from .mutant import FEARED, PACKAGE, Mutant, named

MODULES = (
    "state/codec.py",
    "state/memory.py",
    "state/pools.py",
    "state/redis.py",
    "locks.py",
    "presence.py",
    "replica.py",
    "shared_channels.py",
    "usage.py",
    "sessions.py",
    "leasing.py",
    "repairs.py",
    "housekeeping.py",
)


def files() -> list[str]:
    """Relative to the package; the prelude and the scripts first."""
    scripts = sorted((PACKAGE / "state" / "scripts").glob("*.lua"))
    return [*(path.relative_to(PACKAGE).as_posix() for path in scripts), *MODULES]


def source(file: str) -> str:
    return (PACKAGE / file).read_text()


def all_mutants() -> list[Mutant]:
    """In the order of files and lines; each once, whichever rules make it. Raises ``ValueError`` if a fear does not
    fit its file any more."""
    found: list[Mutant] = []
    for file in files():
        text = source(file)
        rule = rules_lua.mutants if file.endswith(".lua") else rules_python.mutants
        each_once: dict[tuple[int, int, str], Mutant] = {}
        for mutant in [*rule(file, text), *_feared(file, text)]:
            each_once.setdefault((mutant.start, mutant.end, mutant.replacement), mutant)
        found += named(each_once.values(), text)
    return found


def _feared(file: str, text: str) -> list[Mutant]:
    made = []
    for fear in FEARS:
        if fear.file != file:
            continue
        if text.count(fear.before) != 1:
            raise ValueError(
                f"{file} has {fear.before!r} {text.count(fear.before)} times, not once: mend FEARS"
            )
        start = text.index(fear.before)
        made.append(
            Mutant(file, FEARED, "", start, start + len(fear.before), fear.after, text=fear.why, why=fear.why)
        )
    return made
