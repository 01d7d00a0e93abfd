"""Line charts as SVG, small enough to be read in a page that needs no network."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 720, 220
LEFT, RIGHT, TOP, BOTTOM = 62, 12, 10, 26
COLORS = tuple(f"var(--c{number})" for number in range(6))
"""The page's, which differ between light and dark."""

Points = Sequence[tuple[float, float | None]]
"""Seconds from the start and a value; None is a gap."""


@dataclass(frozen=True, slots=True)
class Line:
    name: str
    points: Points


def chart(title: str, unit: str, lines: Sequence[Line]) -> str:
    """A figure of all lines on common axes; says so where nothing was measured."""
    lines = [line for line in lines if any(value is not None for _, value in line.points)]
    if not lines:
        return f"<figure><figcaption>{html.escape(title)}</figcaption><p>nothing was measured</p></figure>"
    values = [value for line in lines for _, value in line.points if value is not None]
    ends = [at for line in lines for at, _ in line.points]
    top, start, end = _ceiling(max(values)), min(ends), max(max(ends), min(ends) + 1)

    def x(at: float) -> float:
        return LEFT + (at - start) / (end - start) * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - max(0.0, value) / top * (HEIGHT - TOP - BOTTOM)

    parts = []
    for step in range(5):
        value = top * step / 4
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}" class="grid"/>'
        )
        parts.append(f'<text x="{LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:,.4g}</text>')
        at = start + (end - start) * step / 4
        anchor = "end" if step == 4 else "middle"
        parts.append(f'<text x="{x(at):.1f}" y="{HEIGHT - 8}" text-anchor="{anchor}">{at:.0f} s</text>')
    for number, line in enumerate(lines):
        color = COLORS[number % len(COLORS)]
        for run in _runs(line.points):
            if len(run) == 1:
                parts.append(
                    f'<circle cx="{x(run[0][0]):.1f}" cy="{y(run[0][1]):.1f}" r="2" style="fill:{color}"/>'
                )
            else:
                path = " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in run)
                parts.append(f'<polyline points="{path}" style="stroke:{color}"/>')
    legend = "".join(
        f'<span style="color:{COLORS[number % len(COLORS)]}">■ {html.escape(line.name)}</span> '
        for number, line in enumerate(lines)
    )
    return (
        f"<figure><figcaption>{html.escape(title)}, {html.escape(unit)}</figcaption>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(title)}">{"".join(parts)}</svg>'
        f"<p>{legend}</p></figure>"
    )


def _runs(points: Points) -> list[list[tuple[float, float]]]:
    runs: list[list[tuple[float, float]]] = [[]]
    for at, value in points:
        if value is None:
            runs.append([])
        else:
            runs[-1].append((at, value))
    return [run for run in runs if run]


def _ceiling(value: float) -> float:
    """The next 1, 2 or 5 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10 ** math.floor(math.log10(value))
    return float(next(step * power for step in (1, 2, 5, 10) if step * power >= value * 0.999))
