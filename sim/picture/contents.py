"""``reports/index.html``: one page that leads to everything that was found, and to each race as it happened."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from sim.case import Case
from sim.picture.page import write_page
from sim.scenario import find

SHOWN = (
    "user-pool-lost-update",
    "usage-lost-update",
    "cleanup-eats-fresh-usage",
    "crashed-instance-ghosts",
    "lock-renewed-by-stranger",
    "redis-restart",
    "stale-user-list",
    "join-races-emit",
)
"""Scenarios whose race is drawn; of the others the index says how to draw them."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A line: where it leads to (None: nowhere), its name, and what is said of it, HTML in ``more``."""

    target: str | None
    name: str
    about: str
    more: str = ""

    def html(self) -> str:
        name = html.escape(self.name)
        name = name if self.target is None else f'<a href="{html.escape(self.target)}">{name}</a>'
        return f"<li>{name}<span>{html.escape(self.about)}{self.more}</span></li>"


def write_index(reports: Path, shown: Sequence[str] = SHOWN) -> Path:
    """Draws the races of ``shown`` from ``reports/cases`` into ``reports/pages``, and writes the index of all there is.

    Raises ``CaseError`` when a case no longer applies to the code.
    """
    drawn: list[Entry] = []
    others: list[Entry] = []
    for path in sorted((reports / "cases").glob("*.json")):
        case = Case.read(path)
        about = find(case.scenario).about
        if case.scenario in shown:
            page = reports / "pages" / f"{path.stem}.html"
            write_page(page, case)
            drawn.append(Entry(f"pages/{page.name}", case.scenario, f"{about}. Broken: {case.message}"))
        else:
            command = f"python -m sim replay {path.as_posix()} --html run.html"
            others.append(Entry(None, case.scenario, about, f"<br><code>{html.escape(command)}</code>"))
    sections = [
        _section("Races, drawn", "On the naive target, beside the same run undisturbed.", drawn),
        _section("Races, to draw", "Each is replayed bit for bit.", others),
        _section("Load", "", _found(reports, ["load.html"])),
        _section("Reports", "", _found(reports, sorted(each.name for each in reports.glob("*.md")))),
        _section("Pictures", "", _found(reports, sorted(each.name for each in reports.glob("*.svg")))),
    ]
    text = (resources.files("sim.picture") / "contents.html").read_text(encoding="utf-8")
    index = reports / "index.html"
    index.write_text(text.replace("{{sections}}", "\n".join(filter(None, sections))), encoding="utf-8")
    return index


def _section(title: str, about: str, entries: Iterable[Entry]) -> str:
    lines = "\n".join(entry.html() for entry in entries)
    return f"<h2>{title}</h2>\n<p>{about}</p>\n<ul>\n{lines}\n</ul>" if lines else ""


def _found(reports: Path, names: Iterable[str]) -> list[Entry]:
    return [Entry(name, name, _title(reports / name)) for name in names if (reports / name).exists()]


def _title(path: Path) -> str:
    """A Markdown file's first heading; nothing for others."""
    if path.suffix != ".md":
        return ""
    with path.open(encoding="utf-8") as file:
        return file.readline().lstrip("# ").strip()
