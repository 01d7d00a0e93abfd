"""The picture of the wire benchmark: a small panel of bars for each line, one colour a server."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure as Canvas

from tests.bench.report import Line, number

COLOURS = {
    "bare": "#9a9a9a",
    "ours": "#c2410c",
    "node": "#3f7d3a",
    "stock": "#3b6ea8",
    "stock, token only": "#93b7dd",
}
COLUMNS = 3


def draw(lines: Sequence[Line], path: Path) -> None:
    """Writes an SVG; the same figures make the same bytes."""
    rows = math.ceil(len(lines) / COLUMNS)
    with mpl.rc_context({"svg.hashsalt": "wire", "font.size": 8}):
        canvas = Canvas(figsize=(4 * COLUMNS, 1.9 * rows), layout="constrained")
        panels = canvas.subplots(rows, COLUMNS, squeeze=False).ravel()
        for panel, line in zip(panels, lines, strict=False):
            names = list(line.values)
            bars = panel.barh(names, list(line.values.values()), color=[COLOURS[name] for name in names])
            panel.bar_label(bars, [number(value) for value in line.values.values()], padding=3)
            panel.set_title(textwrap.fill(f"{line.what} ({line.unit})", 52), fontsize=8, loc="left")
            panel.invert_yaxis()
            panel.margins(x=0.15)
            panel.spines[["top", "right"]].set_visible(False)
        for panel in panels[len(lines) :]:
            panel.remove()
        canvas.savefig(path, format="svg", metadata={"Date": None})
