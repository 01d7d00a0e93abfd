"""A table of measured figures and their goals, printed and saved."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
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
        return f"{self.value:,.0f} {self.unit}" if self.value >= 100 else f"{self.value:,.2f} {self.unit}"


def at_most(what: str, value: float, limit: float, unit: str) -> Figure:
    return Figure(what, value, unit, f"≤ {limit:g} {unit}", value <= limit)


def at_least(what: str, value: float, limit: float, unit: str) -> Figure:
    return Figure(what, value, unit, f"≥ {limit:,g} {unit}", value >= limit)


def always(what: str, *, holds: bool) -> Figure:
    return Figure(what, holds, "", "yes", holds)


def machine() -> str:
    """One line that says where the figures are from."""
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB, "
        f"Python {platform.python_version()}"
    )


def publish(title: str, name: str, figures: Sequence[Figure], *, note: str = "") -> bool:
    """Prints the table, saves it as Markdown and JSON; True if every goal was met."""
    table = Table(title=title, caption=machine())
    for column in ("what", "measured", "goal", ""):
        table.add_column(column, justify="right" if column in ("measured", "goal") else "left")
    lines = [f"# {title}", "", machine() + ".", "", "| what | measured | goal | |", "|---|--:|--:|---|"]
    for figure in figures:
        mark = "" if figure.met is None else "ok" if figure.met else "MISSED"
        table.add_row(figure.what, figure.shown, figure.goal, mark)
        lines.append(f"| {figure.what} | {figure.shown} | {figure.goal} | {mark} |")
    Console(width=130).print(table)
    REPORTS.mkdir(exist_ok=True)
    text = "\n".join([*lines, "", note]).rstrip() + "\n"
    (REPORTS / f"{name}.md").write_text(text)
    saved = {"machine": machine(), "figures": [asdict(figure) for figure in figures]}
    (REPORTS / f"{name}.json").write_text(json.dumps(saved, indent=1, ensure_ascii=False) + "\n")
    return all(figure.met is not False for figure in figures)
