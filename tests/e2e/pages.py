"""The documents as tests read them: their fenced blocks and their tables, each under a comment that names it."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md")),
]
README = "README.md"
OTHERS = [page for page in PAGES if page != README]

_BLOCK = re.compile(r"(?:<!-- (?:run|check): (\S+) -->\n)?^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_TABLE = re.compile(r"<!-- check: (\S+) -->\n((?:\|.*\n)+)")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


def text(page: str = README) -> str:
    return (ROOT / page).read_text()


TEXT = text()


def blocks(*pages: str) -> dict[str, str]:
    """Name to text of every fenced block of these pages; one without a name is called after its first line. Raises
    ``ValueError`` where two have the same name.
    """
    found: dict[str, str] = {}
    for page in pages or (README,):
        for name, _, block in _BLOCK.findall(text(page)):
            called = name or block.partition("\n")[0]
            if called in found:
                raise ValueError(f"{page}: there is another block called {called!r}")
            found[called] = block
    return found


def table(name: str) -> list[list[str]]:
    """The rows of a named table of any page, without its head, as cells."""
    everything = "".join(map(text, PAGES))
    (body,) = [body for found, body in _TABLE.findall(everything) if found == name]
    rows = [re.split(r"(?<!\\)\|", line.strip("|")) for line in body.splitlines()]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def code(cell: str) -> list[str]:
    """What stands between backticks in a cell."""
    return re.findall(r"`([^`]*)`", cell)


def links(page: str) -> list[str]:
    """Where a page leads to, within the repository or outside of it; what stands in fenced blocks is no link."""
    return _LINK.findall(_without_blocks(page))


def anchors(page: str) -> set[str]:
    """What can stand after "#" in a link to this page, as GitHub makes it of the headings."""
    kept = (re.sub(r"[^\w\- ]", "", each.lower()) for each in _HEADING.findall(_without_blocks(page)))
    return {each.replace(" ", "-") for each in kept}


def _without_blocks(page: str) -> str:
    return _BLOCK.sub("", text(page))
