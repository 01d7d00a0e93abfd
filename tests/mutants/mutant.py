"""A mutant: one span of one source file replaced, under a name that survives edits elsewhere in the file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "realtime"

CALL, CONDITION, AWAIT, SLOWER, SOONER, FEARED = (
    "call left out",
    "condition negated",
    "guard skipped",
    "time x10",
    "time /10",
    "feared",
)
RULES = (CALL, CONDITION, AWAIT, SLOWER, SOONER, FEARED)


@dataclass(frozen=True, slots=True)
class Mutant:
    """``file`` is relative to the package, ``start`` and ``end`` count characters, ``scope`` is the function's name.

    ``name`` is unique and does not depend on lines: the lists in ``explained`` are keyed by it.
    """

    file: str
    rule: str
    scope: str
    start: int
    end: int
    replacement: str
    text: str = ""
    line: int = 0
    number: int = 1
    why: str = ""

    @property
    def name(self) -> str:
        scope = f" {self.scope}" if self.scope else ""
        number = f" ({self.number})" if self.number > 1 else ""
        return f"{self.file}{scope}: {self.rule}: {_short(self.text)}{number}"

    def apply(self, source: str) -> str:
        return source[: self.start] + self.replacement + source[self.end :]

    def difference(self, source: str) -> tuple[str, str]:
        """The lines that it touches, before and after, each as one line."""
        first = source.rfind("\n", 0, self.start) + 1
        last = source.find("\n", self.end)
        before = source[first : last if last >= 0 else None]
        after = before[: self.start - first] + self.replacement + before[self.end - first :]
        return " ".join(before.split()), " ".join(after.split())


def named(mutants: Iterable[Mutant], source: str) -> list[Mutant]:
    """Fills in text and line, and numbers those that would have the same name."""
    seen: Counter[str] = Counter()
    done = []
    for mutant in sorted(mutants, key=lambda each: (each.start, each.end, each.rule)):
        full = replace(
            mutant,
            text=mutant.text or " ".join(source[mutant.start : mutant.end].split()),
            line=source.count("\n", 0, mutant.start) + 1,
        )
        seen[full.name] += 1
        done.append(replace(full, number=seen[full.name]))
    return done


def _short(text: str, most: int = 100) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
