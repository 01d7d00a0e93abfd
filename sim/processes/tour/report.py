"""Checks, what came of them, and the table that shows it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich import box
from rich.console import Group
from rich.markup import escape
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from sim.processes.tour.clients import Off

if TYPE_CHECKING:
    from sim.processes.tour.lab import Lab

CHECK_SECONDS = 20.0
"""The longest that one check may take: more than all its own waits."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a check saw; `seconds` is what it measured, None where only its own duration is known."""

    text: str
    seconds: float | None = None


class NotRun(Exception):
    """The check needs what is not here; the text says what."""


@dataclass(frozen=True, slots=True)
class Check:
    """One row: what is done, and why it matters."""

    part: str
    title: str
    why: str
    run: Callable[[Lab], Awaitable[Seen]]


@dataclass(frozen=True, slots=True)
class Row:
    """What came of a check. `state` is "ok", "off" or "not run"; `expected` is set when it is off."""

    check: Check
    state: str
    seen: str
    seconds: float
    expected: str = ""


async def row_of(check: Check, lab: Lab) -> Row:
    """Run one check; whatever goes wrong in it becomes a row."""
    start = time.perf_counter()
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            seen = await check.run(lab)
    except NotRun as reason:
        return Row(check, "not run", f"not run: {reason}", 0.0)
    except Off as off:
        return Row(check, "off", off.seen, time.perf_counter() - start, off.expected)
    except Exception as error:  # whatever a wrong answer makes of the code that reads it
        said = f"{type(error).__name__}: {error}".strip(": ").splitlines()[0]
        return Row(check, "off", said, time.perf_counter() - start, "an answer that can be understood")
    taken = time.perf_counter() - start
    return Row(check, "ok", seen.text, taken if seen.seconds is None else seen.seconds)


def table_of(rows: list[Row], running: Check | None = None) -> Group:
    """The rows so far and, while the tour goes on, what is being checked."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False, show_edge=False, expand=True)
    table.add_column("", width=1)
    table.add_column("what is checked", ratio=1)
    table.add_column("what was seen", ratio=1)
    table.add_column("time", justify="right", no_wrap=True, min_width=7)
    part = ""
    for row in rows:
        if row.check.part != part:
            part = row.check.part
            table.add_row("", Text(part, style="bold cyan"))
        table.add_row(*_cells(row))
    if running is None:
        return Group(table)
    return Group(table, Spinner("dots", Text(f" {running.title} …", style="dim")))


def _cells(row: Row) -> tuple[Text, Text, Text, Text]:
    mark, style = {"ok": ("✓", "green"), "off": ("✗", "bold red"), "not run": ("–", "yellow")}[row.state]
    what = Text.assemble((row.check.title, "bold"), "\n", (row.check.why, "dim"))
    seen = Text(row.seen, style="" if row.state == "ok" else style)
    return Text(mark, style=style), what, seen, Text("" if row.state == "not run" else seconds(row.seconds))


def failures_of(rows: list[Row]) -> list[str]:
    """One line, in rich's markup, for each row that is off."""
    return [
        f"[bold red]off:[/] {escape(row.check.title)}: expected {escape(row.expected)}; saw {escape(row.seen)}"
        for row in rows
        if row.state == "off"
    ]


def seconds(value: float) -> str:
    """A duration as people read it: milliseconds below one second."""
    return f"{value * 1000:.0f} ms" if value < 0.9995 else f"{value:.1f} s"
