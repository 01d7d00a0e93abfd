"""README.md as tests read it: its fenced blocks and its tables, each under a comment that names it."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "README.md").read_text()

_BLOCK = re.compile(r"(?:<!-- (?:run|check): (\S+) -->\n)?^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_TABLE = re.compile(r"<!-- check: (\S+) -->\n((?:\|.*\n)+)")


def blocks() -> dict[str, str]:
    """Name to text of every fenced block; one without a name is called after its first line."""
    return {name or text.partition("\n")[0]: text for name, _, text in _BLOCK.findall(TEXT)}


def table(name: str) -> list[list[str]]:
    """The rows of a named table, without its head, as cells."""
    text = next(text for found, text in _TABLE.findall(TEXT) if found == name)
    rows = [re.split(r"(?<!\\)\|", line.strip("|")) for line in text.splitlines()]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def code(cell: str) -> list[str]:
    """What stands between backticks in a cell."""
    return re.findall(r"`([^`]*)`", cell)
