"""What a run of mutants says: a table on the terminal, reports/mutants.md and reports/mutants.json."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from .explained import ACCEPTED, EQUIVALENT
from .found import source
from .mutant import RULES, Mutant
from .runner import KILLED, SURVIVED, TIMED_OUT, Fate

WANTED = 0.95
FOLDER = Path(__file__).parents[2] / "reports"

Row = dict[str, Any]


def row(fate: Fate) -> Row:
    """One mutant's line in the JSON report."""
    mutant = fate.mutant
    before, after = mutant.difference(source(mutant.file))
    return {
        "name": mutant.name,
        "file": mutant.file,
        "line": mutant.line,
        "rule": mutant.rule,
        "before": before,
        "after": after,
        "outcome": fate.outcome,
        "stage": fate.stage,
        "by": fate.by,
        "message": fate.message,
        "seconds": round(fate.seconds, 1),
    }


def judge(rows: Iterable[Row]) -> tuple[int, int]:
    """Killed, and all that count."""
    counted = [each for each in rows if each["name"] not in EQUIVALENT or each["outcome"] != SURVIVED]
    return sum(each["outcome"] != SURVIVED for each in counted), len(counted)


def unexplained(rows: Iterable[Row]) -> list[Row]:
    return [
        each for each in rows if each["outcome"] == SURVIVED and each["name"] not in EQUIVALENT | ACCEPTED
    ]


def percent(rows: Iterable[Row]) -> float:
    killed, counted = judge(rows)
    return 100.0 * killed / counted if counted else 100.0


def tables(rows: list[Row]) -> list[Table]:
    made = []
    for title, groups in (("rule", RULES), ("file", list(dict.fromkeys(each["file"] for each in rows)))):
        table = Table(title=f"mutants by {title}")
        table.add_column(title, no_wrap=True)
        for heading in HEADINGS:
            table.add_column(heading, justify="right")
        for group in groups:
            if some := [each for each in rows if each[title] == group]:
                table.add_row(group, *_figures(some))
        table.add_section()
        table.add_row("all", *_figures(rows))
        made.append(table)
    return made


def show(rows: list[Row], console: Console) -> None:
    for table in tables(rows):
        console.print(table)
    for each in unexplained(rows):
        console.print(
            f"survived: {each['file']}:{each['line']} {each['rule']}\n  - {each['before']}\n  + {each['after']}",
            markup=False,
            highlight=False,
        )


def save(rows: list[Row], *, missing: int) -> None:
    """``missing``: mutants that were never run."""
    order = {name: number for number, name in enumerate(RULES)}
    rows = sorted(rows, key=lambda each: (each["file"], each["line"], order[each["rule"]], each["name"]))
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "mutants.json").write_text(json.dumps(rows, indent=1) + "\n")
    (FOLDER / "mutants.md").write_text(_markdown(rows, missing))


def saved() -> list[Row]:
    """What was known of each mutant before; empty if nothing was."""
    path = FOLDER / "mutants.json"
    return list(json.loads(path.read_text())) if path.exists() else []


def line(mutant: Mutant, outcome: str, by: str, seconds: float) -> str:
    return f"{outcome:9} {seconds:5.1f} s  {mutant.name}" + (f"  ← {short(by)}" if by else "")


def short(test: str) -> str:
    """A test's id without its folders."""
    file, separator, name = test.partition("::")
    return f"{Path(file).stem}{separator}{name}" if separator else test


HEADINGS = ("mutants", "killed", "by time-out", "survived", "equivalent", "% killed")


def _figures(rows: list[Row]) -> list[str]:
    outcomes = Counter(each["outcome"] for each in rows)
    same = sum(each["outcome"] == SURVIVED and each["name"] in EQUIVALENT for each in rows)
    return [
        str(len(rows)),
        str(outcomes[KILLED]),
        str(outcomes[TIMED_OUT]),
        str(outcomes[SURVIVED] - same),
        str(same),
        f"{percent(rows):.1f}",
    ]


def _markdown(rows: list[Row], missing: int) -> str:
    killed, counted = judge(rows)
    parts = [
        "# Mutants",
        "Made by `nox -s mutants`: each by a rule, of the scripts, the state, the locks, presence, leases and"
        " housekeeping of `realtime`; and those that are feared most. A mutant is killed by a test or a scenario of the"
        " simulator that fails on it and passes without it; where real time is involved it must fail twice.",
        f"**{killed} of {counted} killed ({percent(rows):.1f} %)**; mutants that are provably the same program are not"
        f" counted.{f' {missing} more were not run.' if missing else ''}",
        _table("rule", RULES, rows),
        _table("file", list(dict.fromkeys(each["file"] for each in rows)), rows),
        _section(
            "Survivors", rows, lambda each: each["outcome"] == SURVIVED and each["name"] not in EQUIVALENT
        ),
        _section("Equivalent", rows, lambda each: each["outcome"] == SURVIVED and each["name"] in EQUIVALENT),
        _section("Killed by time-out", rows, lambda each: each["outcome"] == TIMED_OUT),
        "## What killed the most\n\n" + _killers(rows),
    ]
    return "\n\n".join(parts) + "\n"


def _table(title: str, groups: Iterable[str], rows: list[Row]) -> str:
    lines = [f"| {title} | {' | '.join(HEADINGS)} |", "|---|" + "---:|" * len(HEADINGS)]
    grouped = {group: [each for each in rows if each[title] == group] for group in groups}
    lines += [f"| {group} | {' | '.join(_figures(some))} |" for group, some in grouped.items() if some]
    lines.append(f"| **all** | {' | '.join(_figures(rows))} |")
    return "\n".join(lines)


def _section(title: str, rows: list[Row], chosen: Callable[[Row], bool]) -> str:
    some = [each for each in rows if chosen(each)]
    parts = [f"## {title} ({len(some)})"]
    for each in some:
        reason = {**ACCEPTED, **EQUIVALENT}.get(each["name"]) or each["by"] or "not explained yet"
        parts.append(
            f"`{each['file']}:{each['line']}` {each['rule']}: {reason}\n\n"
            f"```diff\n- {each['before']}\n+ {each['after']}\n```"
        )
    return "\n\n".join(parts)


def _killers(rows: list[Row]) -> str:
    """Tests by how many mutants they were the first to kill."""
    counts = Counter((each["stage"], short(each["by"])) for each in rows if each["by"])
    lines = ["| stage | test | mutants |", "|---|---|---:|"]
    lines += [
        f"| {stage} | {test.replace('|', chr(92) + '|')} | {number} |"
        for (stage, test), number in counts.most_common(25)
    ]
    return "\n".join(lines)
