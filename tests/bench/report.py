"""A table of measured figures and their goals, printed and saved."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

REPORTS = Path(__file__).resolve().parents[2] / "reports"


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value; ``met`` says whether its goal was reached (None: no goal)."""

    what: str
    value: float | bool
    unit: str
    goal: str = ""
    met: bool | None = None

    @property
    def shown(self) -> str:
        if isinstance(self.value, bool):
            return "yes" if self.value else "no"
        return f"{number(self.value)} {self.unit}".rstrip()


def at_most(what: str, value: float, limit: float, unit: str) -> Figure:
    return Figure(what, value, unit, f"≤ {limit:.4g} {unit}", value <= limit)


def at_least(what: str, value: float, limit: float, unit: str) -> Figure:
    return Figure(what, value, unit, f"≥ {limit:,g} {unit}", value >= limit)


def always(what: str, *, holds: bool) -> Figure:
    return Figure(what, holds, "", "yes", holds)


@dataclass(frozen=True, slots=True)
class Line:
    """The same measured of several servers, side by side; ``values`` by their names."""

    what: str
    unit: str
    values: Mapping[str, float]


def machine() -> str:
    """One line that says where the figures are from."""
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB, "
        f"Python {platform.python_version()}"
    )


def publish(
    title: str,
    name: str,
    figures: Sequence[Figure],
    *,
    note: str = "",
    beside: Sequence[Line] = (),
    picture: bool = False,
    save: bool = True,
) -> bool:
    """Prints the tables, saves them as Markdown and JSON; True if every goal was met.

    ``beside`` becomes a table with a column for each server; ``picture``: there is a plot of the same name.
    """
    rows = [[figure.what, figure.shown, figure.goal, _mark(figure)] for figure in figures]
    tables = [_Table(title, ["what", "measured", "goal", ""], rows, "lrrl")]
    if beside:
        tables.append(_side_by_side(beside))
    console = Console(width=130)
    lines = [f"# {title}", "", machine() + "."]
    for table in tables:
        console.print(table.rich())
        lines += ["", *table.markdown()]
    if picture:
        lines += ["", f"![{title}]({name}.svg)"]
    if save:
        REPORTS.mkdir(exist_ok=True)
        text = "\n".join([*lines, "", note]).rstrip() + "\n"
        (REPORTS / f"{name}.md").write_text(text)
        saved: dict[str, object] = {"machine": machine(), "figures": [asdict(figure) for figure in figures]}
        if beside:
            saved["beside"] = [asdict(line) for line in beside]
        (REPORTS / f"{name}.json").write_text(json.dumps(saved, indent=1, ensure_ascii=False) + "\n")
    return all(figure.met is not False for figure in figures)


@dataclass(frozen=True, slots=True)
class _Table:
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    align: str
    """One letter a column: l or r."""

    def rich(self) -> Table:
        table = Table(title=self.title, caption=machine())
        for column, side in zip(self.columns, self.align, strict=True):
            table.add_column(column, justify="right" if side == "r" else "left")
        for row in self.rows:
            table.add_row(*row)
        return table

    def markdown(self) -> list[str]:
        rule = "|".join("--:" if side == "r" else "---" for side in self.align)
        lines = [f"| {' | '.join(row)} |" for row in (self.columns, *self.rows)]
        return [lines[0], f"|{rule}|", *lines[1:]]


def _mark(figure: Figure) -> str:
    return "" if figure.met is None else "ok" if figure.met else "MISSED"


def _side_by_side(lines: Sequence[Line]) -> _Table:
    names = list(dict.fromkeys(name for line in lines for name in line.values))
    rows = [
        [line.what, line.unit, *(number(line.values[name]) if name in line.values else "" for name in names)]
        for line in lines
    ]
    return _Table("Side by side", ["work", "", *names], rows, "ll" + "r" * len(names))


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:,.2f}"
