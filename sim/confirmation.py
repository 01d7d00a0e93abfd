"""What the simulator says of the targets, tried again on real processes: how many tries showed each fault.

The figures are kept in a file beside ``races.md``, whose tables get columns of them; a part may be tried anew without
the rest.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

from sim.baseline import Recorder
from sim.explore import (
    MOST_INCONCLUSIVE,
    Attempt,
    Undisturbed,
    attempt,
    begin_on_processes,
    search,
    undisturbed,
)
from sim.likeness import Names, after
from sim.plan import Plan
from sim.processes.run import Places
from sim.run import Outcome, Result, make_lab, run
from sim.scenario import Scenario, find
from sim.strategies import strategy
from sim.strategies.tries import ALONE, FOUND, KINDS, Tries
from sim.targets import load
from sim.workers import Workers

NAIVE, REALTIME = "naive", "realtime"
FILE = "confirm.json"
COLUMNS = {NAIVE: "naive on processes", REALTIME: "realtime on processes"}
MOST_EXAMPLES = 3
SEARCHED = 300
"""Schedules that are tried at most to break naive in the simulator: it takes thirty, mostly."""

Item = TypeVar("Item")
Answer = TypeVar("Answer")


@dataclass
class Confirmed:
    """The tries of one scenario on one target. ``by``: of each kind of try, how many showed the fault and how many
    there were. ``failed``: what the lab could not run to its end is no try."""

    scenario: str
    target: str
    tries: int = 0
    showed: int = 0
    inconclusive: int = 0
    failed: int = 0
    by: dict[str, list[int]] = field(default_factory=dict)
    invariants: dict[str, int] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)
    """Of failures, then of violations."""

    def add(self, result: Result, kind: str) -> None:
        if result.outcome is Outcome.FAILED:
            self.failed += 1
            self.examples = [f"failed ({result.plan}): {result.message}", *self.examples][:MOST_EXAMPLES]
            return
        self.tries += 1
        self.inconclusive += result.outcome is Outcome.INCONCLUSIVE
        counted = self.by.setdefault(kind, [0, 0])
        counted[1] += 1
        if result.outcome is Outcome.VIOLATED:
            self.showed += 1
            counted[0] += 1
            self.invariants[result.invariant] = self.invariants.get(result.invariant, 0) + 1
            if len(self.examples) < MOST_EXAMPLES:
                self.examples.append(f"{result.plan}: {result.message}")

    def add_all(self, more: Confirmed) -> None:
        """The tries of another time."""
        self.tries += more.tries
        self.showed += more.showed
        self.inconclusive += more.inconclusive
        self.failed += more.failed
        for kind, (showed, tries) in more.by.items():
            before = self.by.get(kind, [0, 0])
            self.by[kind] = [before[0] + showed, before[1] + tries]
        for invariant, times in more.invariants.items():
            self.invariants[invariant] = self.invariants.get(invariant, 0) + times
        self.examples = [*self.examples, *more.examples][:MOST_EXAMPLES]

    def __str__(self) -> str:
        """``37 of 200 (left alone 0 of 50, delays 3 of 50, …)``, and what broke if that was not always the same."""
        said = f"{self.showed} of {self.tries}"
        if self.showed:
            parts = [f"{kind} {self.by[kind][0]} of {self.by[kind][1]}" for kind in KINDS if kind in self.by]
            said += f" ({', '.join(parts)})"
        if len(self.invariants) > 1:
            often = sorted(self.invariants.items(), key=lambda each: -each[1])
            said += ": " + ", ".join(f"{invariant} {times}" for invariant, times in often)
        said += f", {self.inconclusive} inconclusive" if self.inconclusive else ""
        return said + (f", {self.failed} FAILED" if self.failed else "")

    def problem(self, kind: str) -> str:
        """What is not as the simulator says; empty if all is. ``kind``: the scenario's."""
        if self.failed:
            return f"the lab failed {self.failed} times on {self.target}: {self.examples[0]}"
        if self.target == REALTIME:
            if self.showed:
                return f"{self.showed} of {self.tries} tries broke realtime: {self.examples[0]}"
            few = self.inconclusive <= MOST_INCONCLUSIVE * self.tries
            return "" if few else f"{self.inconclusive} of {self.tries} tries of realtime said nothing"
        if not self.showed:
            return f"none of {self.tries} tries broke naive, which the simulator breaks"
        if kind == "d" and self.by.get(ALONE, [1])[0] == 0:
            return "a fault of the design did not show without a disturbance"
        return ""


@dataclass
class Confirmation:
    """``rows`` by scenario and target; ``made``: with what."""

    rows: dict[tuple[str, str], Confirmed] = field(default_factory=dict)
    made: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """That of a folder of reports; empty where there is none."""
        try:
            data = json.loads((folder / FILE).read_text())
        except FileNotFoundError:
            return cls()
        rows = [Confirmed(**row) for row in data["rows"]]
        return cls({(row.scenario, row.target): row for row in rows}, data["made"])

    def save(self, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / FILE
        rows = [asdict(self.rows[key]) for key in sorted(self.rows)]
        path.write_text(json.dumps({"made": self.made, "rows": rows}, indent=1, ensure_ascii=False) + "\n")
        return path

    def cell(self, scenario: str, target: str) -> str:
        found = self.rows.get((scenario, target))
        return "" if found is None else str(found)


def with_columns(page: str, confirmation: Confirmation) -> str:
    """``races.md`` with a column for each target in every table of scenarios; those that it had are made anew."""
    lines: list[str] = []
    columns: tuple[str, ...] = ()
    for line in page.splitlines():
        cells = _cells(line)
        if cells[:1] == ["scenario"] and "realtime" in cells:
            targets = [REALTIME] if not any("naive" in cell for cell in cells) else [NAIVE, REALTIME]
            kept = len([cell for cell in cells if cell not in COLUMNS.values()])
            columns = tuple(targets)
            lines.append(_line([*cells[:kept], *(COLUMNS[target] for target in targets)]))
        elif columns and cells and set(cells[0]) == {"-"}:
            lines.append(_line([*cells[:kept], *("---" for _ in columns)]))
        elif columns and cells:
            figures = (confirmation.cell(cells[0], target) for target in columns)
            lines.append(_line([*cells[:kept], *figures]))
        else:
            columns = ()
            lines.append(line)
    return "\n".join(lines) + "\n"


Watch = Callable[[str, int, int], None]


@dataclass
class Confirming:
    """``tries``: of each scenario on each target, by the target's name. The undisturbed run is the first of them."""

    scenarios: Sequence[Scenario]
    workers: Workers
    tries: dict[str, int]
    places: Places
    watch: Watch = lambda _what, _done, _total: None
    before: Confirmation = field(default_factory=lambda: Confirmation())
    """What was tried already: other seeds are tried now."""
    rows: dict[tuple[str, str], Confirmed] = field(default_factory=dict)

    def run(self) -> None:
        """Fills ``rows``; they hold what was done when it is interrupted."""
        wanted = [
            (scenario.name, target, self.places)
            for target in self.tries
            for scenario in self.scenarios
            if target == REALTIME or (scenario.kind in "rd" and not scenario.waits)
        ]
        attempts: list[tuple[Attempt, str]] = []
        for (name, target, _places), begun in zip(
            wanted, self._each(_begin, wanted, "undisturbed runs"), strict=True
        ):
            self._row(name, target).add(begun.here.result, ALONE)
            tries = Tries(begun.found)
            attempts += [
                (
                    Attempt(
                        name,
                        target,
                        seed,
                        plan,
                        self.places,
                        begun.names,
                        begun.after if tries.kind_of(seed) is FOUND else None,
                    ),
                    tries.kind_of(seed),
                )
                for seed, plan in self._seeds(name, target, tries, begun.here)
            ]
        # By turns, so that what was done when it is interrupted is as much of each.
        attempts.sort(key=lambda each: each[0].seed)
        results = self._each(attempt, [each for each, _kind in attempts], "tries")
        for (tried, kind), result in zip(attempts, results, strict=True):
            self._row(tried.scenario, tried.target).add(result, kind)

    def _seeds(self, name: str, target: str, tries: Tries, here: Undisturbed) -> Iterable[tuple[int, Plan]]:
        known = self.before.rows.get((name, target))
        first = 0 if known is None else known.tries
        return itertools.islice(tries.plans(here.baseline), first, first + self.tries[target] - 1)

    def _row(self, scenario: str, target: str) -> Confirmed:
        return self.rows.setdefault((scenario, target), Confirmed(scenario, target))

    def _each(self, work: Callable[[Item], Answer], items: Sequence[Item], what: str) -> Iterable[Answer]:
        done = 0
        with closing(self.workers.map(work, items)) as answers:
            for answer in answers:
                self.watch(what, done, len(items))
                if answer is not None:
                    done += 1
                    yield answer


def problems(rows: Iterable[Confirmed]) -> list[str]:
    """Sentences on where the two labs disagree, or realtime does not hold."""
    return [f"{row.scenario}: {said}" for row in rows if (said := row.problem(find(row.scenario).kind))]


def outcome_of(rows: Iterable[Confirmed]) -> Outcome:
    counted: Counter[str] = Counter()
    for row in rows:
        counted["broken"] += row.target == REALTIME and row.showed > 0
        counted["off"] += bool(row.problem(find(row.scenario).kind))
    if counted["broken"]:
        return Outcome.VIOLATED
    return Outcome.FAILED if counted["off"] else Outcome.HELD


@dataclass(frozen=True, slots=True)
class _Begun:
    """``found``: the schedule by which the simulator breaks it; ``after``: what its holds wait for there; ``names``:
    those of the simulated messages."""

    here: Undisturbed
    names: Names
    found: Plan | None = None
    after: Mapping[str, str] = field(default_factory=dict)


def _begin(wanted: tuple[str, str, Places]) -> _Begun:
    name, target, _places = wanted
    scenario = find(name)
    here = begin_on_processes(wanted)
    names = here.names
    if target != NAIVE or scenario.kind != "r":
        return _Begun(here, names)
    simulated = Undisturbed(*undisturbed(scenario, target))
    searched = search(scenario, target, strategy("single-fault"), schedules=SEARCHED, begin=simulated)
    if searched.first is None:
        return _Begun(here, names)
    found, recorder = searched.first.plan, Recorder()
    lab = make_lab(scenario, load(target), found)
    lab.network.observers.append(recorder)
    run(scenario, load(target), found, seed=searched.first.seed, lab=lab)
    return _Begun(here, names, found, after(found, recorder.messages, names))


def _cells(line: str) -> list[str]:
    """Of one line of a table; none of any other line."""
    if not line.startswith("| "):
        return []
    inner = line.strip().removeprefix("|").removesuffix("|")
    return [cell.strip() for cell in inner.replace("\\|", "\0").split("|")]


def _line(cells: Sequence[Any]) -> str:
    return "| " + " | ".join(str(cell).replace("\0", "\\|") for cell in cells) + " |"
