"""A still drawing (SVG) of what matters in a failing run: the messages around what was disturbed, and the violation."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sim.case import Case
from sim.commands import commands
from sim.picture.decoding import MAIN
from sim.picture.layout import Arrow, Diagram, Layout, lay_out, milliseconds
from sim.picture.order import overtaken
from sim.picture.recording import CLIENT, INSTANCE, Recording, record_case

WIDTH = 900
LEFT, RIGHT, TOP = 76, 50, 92
LEAST_STEP, MOST_STEP = 14.0, 27.0
"""Pixels between two moments that something happens at."""

MOST_ARROWS = 36
BEFORE = 4.0
"""How much less what came before counts than what came after, at the same distance in time."""

COLORS = {
    "redis": "#2458b3",
    "reply": "#7f95b8",
    "bus": "#7c3fb5",
    "socket": "#0d7d6c",
    "http": "#64748b",
    "db": "#96690f",
}
RED, AMBER, INK, SOFT, LANE, PAPER = "#c8102e", "#c2620a", "#1c1e22", "#6a6c72", "#cdc9c0", "#fcfbf9"
SANS = "system-ui, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"
MONO = "ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
WRONG = ("held", "fault", "lost")
CHARACTER = 6.4
"""Pixels of a character of the labels."""


def write_svg(path: Path, case: Case, *, most: int = MOST_ARROWS) -> None:
    """Runs a saved case and draws at most so many of its messages. Raises ``CaseError`` as ``write_page`` does."""
    recording, baseline = record_case(case)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(svg(recording, baseline, most=most), encoding="utf-8")


def svg(recording: Recording, baseline: Recording, *, most: int = MOST_ARROWS) -> str:
    layout = lay_out(recording, baseline)
    diagram = layout.diagrams[0]
    orders = overtaken(recording, baseline)
    shared = {name for order in orders for name in (*order.passed, order.held)}
    keys = {order.key for order in orders}
    written = {
        message.name
        for message in recording.messages
        if any(command.writes and command.key in keys for command in commands(message.data))
    }
    arrows = what_matters(diagram, layout, shared, written, most)
    return _Drawing(recording, layout, diagram, arrows).text()


def what_matters(
    diagram: Diagram, layout: Layout, shared: set[str], written: set[str], most: int
) -> list[Arrow]:
    """The disturbed messages, those that overtook them, what was ``written`` to the same keys, and the last
    of each event that a client was told; then what says something and is near in time, rather after than before."""
    centre = [arrow for arrow in diagram.arrows if arrow.trouble in ("held", "fault") or arrow.name in shared]
    moments = [moment for arrow in centre for moment in (arrow.sent_at, arrow.arrives_at)]
    moments = moments or [mark.at for mark in diagram.marks] or [diagram.ends_at]
    first, last = min(moments), max(moments)
    told = {
        (arrow.target, line.partition(" ")[0]): arrow.name
        for arrow in diagram.arrows
        for line in arrow.lines
        if layout.lanes[arrow.target][1] == CLIENT and arrow.weight == MAIN
    }
    must = {*(arrow.name for arrow in centre), *written, *told.values()}
    saying = [
        arrow
        for arrow in diagram.arrows
        if arrow.name in must or arrow.weight == MAIN or (arrow.weight and first <= arrow.sent_at <= last)
    ]

    def far(arrow: Arrow) -> tuple[bool, float]:
        return arrow.name not in must, max(BEFORE * (first - arrow.sent_at), arrow.sent_at - last, 0.0)

    return sorted(sorted(saying, key=far)[:most], key=lambda arrow: (arrow.top, arrow.bottom))


@dataclass
class _Drawing:
    recording: Recording
    layout: Layout
    diagram: Diagram
    arrows: list[Arrow]

    def text(self) -> str:
        self._place()
        result, plan = self.recording.result, self.recording.result.plan
        height = self._height + 74
        drawn = sorted(self.arrows, key=lambda arrow: bool(arrow.trouble))
        about = f"{self.recording.scenario.name} on {self.recording.target}"
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" '
            f'height="{height:.0f}" role="img" aria-label="{html.escape(about)}" font-family="{SANS}">',
            f'<rect width="{WIDTH}" height="{height:.0f}" rx="8" fill="{PAPER}"/>',
            _words(20, 30, about, size=16, bold=True),
            _words(
                20,
                50,
                f"{plan} · {len(self.arrows)} of {len(self.diagram.arrows)} messages",
                color=SOFT,
                size=12,
            ),
            *self._lanes(),
            *self._times(),
            *(self._line(arrow) for arrow in drawn),
            *(self._label(arrow) for arrow in drawn),
            *self._marks(),
            *self._end(result.invariant, result.message),
            "</svg>",
        ]
        return "\n".join(parts) + "\n"

    def _place(self) -> None:
        """Only the moments of the chosen messages are on this axis, in their order and nearly evenly apart."""
        used = {lane for arrow in self.arrows for lane in (arrow.source, arrow.target)}
        used |= {lane for mark in self.diagram.marks for lane in mark.lanes}
        self._lanes_used = sorted(used)
        weights = [0.0]
        for one, other in zip(self._lanes_used, self._lanes_used[1:], strict=False):
            weights.append(weights[-1] + _gap(self.layout.lanes[one][1], self.layout.lanes[other][1]))
        unit = (WIDTH - LEFT - RIGHT - 30) / max(weights[-1], 1.0)
        self._x = {
            lane: LEFT + 30 + weight * unit for lane, weight in zip(self._lanes_used, weights, strict=True)
        }
        pixels = sorted(
            {pixel for arrow in self.arrows for pixel in (arrow.top, arrow.bottom)}
            | {mark.top for mark in self.diagram.marks}
        )
        self._y: dict[float, float] = {}
        at = float(TOP) + 16
        for number, pixel in enumerate(pixels):
            if number:
                at += min(MOST_STEP, max(LEAST_STEP, pixel - pixels[number - 1]))
            self._y[pixel] = at
        self._height = at

    def _lanes(self) -> Sequence[str]:
        pieces = []
        for lane in self._lanes_used:
            x = self._x[lane]
            pieces.append(f'<path d="M{x:.1f} {TOP}V{self._height + 16:.1f}" stroke="{LANE}"/>')
            pieces.append(_words(x, TOP - 10, self.layout.lanes[lane][0], bold=True, anchor="middle"))
        return pieces

    def _times(self) -> Sequence[str]:
        pieces, last = [], -math.inf
        for arrow in self.arrows:
            y = self._y[arrow.top]
            if y - last >= 26:
                last = y
                pieces.append(
                    _words(LEFT - 8, y + 4, milliseconds(arrow.sent_at), color=SOFT, size=11, anchor="end")
                )
        return pieces

    def _line(self, arrow: Arrow) -> str:
        x0, y0, x1, y1 = self._ends(arrow)
        angle = math.atan2(y1 - y0, x1 - x0)
        head = " ".join(
            f"L{x1 - 7 * math.cos(angle + turn):.1f} {y1 - 7 * math.sin(angle + turn):.1f}"
            for turn in (0.38, -0.38)
        )
        color, width = _color(arrow), 2.6 if arrow.trouble in WRONG else 1.3
        return (
            f'<g stroke="{color}" fill="{color}"><path d="M{x0:.1f} {y0:.1f}L{x1:.1f} {y1:.1f}" '
            f'stroke-width="{width}"/><path d="M{x1:.1f} {y1:.1f}{head}Z" stroke="none"/></g>'
        )

    def _label(self, arrow: Arrow) -> str:
        """Along the arrow, from where it begins, as much of it as there is room for."""
        x0, y0, x1, y1 = self._ends(arrow)
        said = " · ".join(arrow.lines)
        if self.layout.prefix:
            said = said.replace(self.layout.prefix, "")
        if arrow.why:
            said = f"{arrow.why}: {said}"
        room = int((math.hypot(x1 - x0, y1 - y0) - 26) / CHARACTER)
        label = said if len(said) <= room else said[: max(0, room - 1)] + "…"
        rightwards, angle = x1 >= x0, math.atan2(y1 - y0, x1 - x0)
        turn = math.degrees(angle if rightwards else angle - math.copysign(math.pi, angle))
        weight = ' font-weight="600"' if arrow.trouble in WRONG else ""
        return (
            f'<text transform="translate({x0:.1f} {y0:.1f}) rotate({turn:.1f})" x="{10 if rightwards else -10}" '
            f'y="-3.5" text-anchor="{"start" if rightwards else "end"}" font-family="{MONO}" font-size="10.6" '
            f'fill="{_color(arrow)}" stroke="{PAPER}" stroke-width="3" paint-order="stroke"{weight}>'
            f"{html.escape(label)}</text>"
        )

    def _ends(self, arrow: Arrow) -> tuple[float, float, float, float]:
        return self._x[arrow.source], self._y[arrow.top], self._x[arrow.target], self._y[arrow.bottom]

    def _marks(self) -> Sequence[str]:
        pieces = []
        for mark in self.diagram.marks:
            y = self._y[mark.top]
            for lane in mark.lanes:
                x = self._x[lane]
                pieces.append(
                    f'<path d="M{x - 6:.1f} {y - 6:.1f}l12 12m0 -12l-12 12" stroke="{RED}" stroke-width="2.5"/>'
                )
            x = max((self._x[lane] for lane in mark.lanes), default=float(LEFT))
            close = x > WIDTH / 2
            pieces.append(
                _words(
                    x - 10 if close else x + 10,
                    y + 4,
                    mark.text,
                    color=RED,
                    bold=True,
                    size=11,
                    anchor="end" if close else "start",
                )
            )
        return pieces

    def _end(self, invariant: str, message: str) -> Sequence[str]:
        if not self.diagram.broken:
            return []
        y = self._height + 22
        evidence = message.removeprefix(f"{invariant}: ")
        most = int((WIDTH - 60) / 6.3)
        return [
            f'<rect x="14" y="{y:.1f}" width="{WIDTH - 28}" height="42" rx="5" fill="{RED}"/>',
            _words(
                26,
                y + 17,
                f"✗ {invariant} broken at {milliseconds(self.diagram.ends_at)}",
                color="#fff",
                bold=True,
                size=12.5,
            ),
            _words(
                26,
                y + 34,
                evidence if len(evidence) <= most else evidence[: most - 1] + "…",
                color="#fff",
                size=11.5,
            ),
        ]


def _color(arrow: Arrow) -> str:
    if arrow.trouble:
        return RED if arrow.trouble in WRONG else AMBER
    return COLORS.get(arrow.family, SOFT)


def _gap(one: str, other: str) -> float:
    """How far apart lanes of these kinds stand, in units: commands to Redis need the most room."""
    if one == other:
        return 0.6 if one == CLIENT else 0.9
    return 1.5 if one == INSTANCE else 1.0


def _words(
    x: float,
    y: float,
    text: str,
    *,
    color: str = INK,
    size: float = 12.5,
    bold: bool = False,
    anchor: str = "start",
) -> str:
    weight = ' font-weight="600"' if bold else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{color}" font-size="{size}" text-anchor="{anchor}"{weight}>'
        f"{html.escape(text)}</text>"
    )
