"""Places a recorded run, and its undisturbed twin on the same axis: lanes, arrows, dots, marks, as plain data."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from sim.commands import commands
from sim.history import Entry
from sim.picture.axis import Axis, Break, instant
from sim.picture.decoding import Decoder
from sim.picture.recording import CLIENT, DATABASE, INSTANCE, OTHER, REDIS, Recording, Sent
from sim.plan import RESET
from sim.run import Outcome

LANES = (CLIENT, INSTANCE, OTHER, REDIS, DATABASE)
ACTIONS = ("connect", "emit", "close")
_LASTING = re.compile(r"\bfor ([\d.]+) s\b")


@dataclass(frozen=True, slots=True)
class Arrow:
    """A message. ``trouble``: held, fault, behind (it waited for a held one), lost; empty for none."""

    name: str
    source: int
    target: int
    sent_at: float
    arrives_at: float
    top: float
    bottom: float
    family: str
    weight: int
    lines: tuple[str, ...]
    trouble: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Dot:
    """What a client did or saw."""

    lane: int
    at: float
    y: float
    what: str
    text: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A fault on lanes, from pixel to pixel where it lasts; none on lanes where it hits all."""

    lanes: tuple[int, ...]
    at: float
    top: float
    bottom: float
    text: str


@dataclass(frozen=True, slots=True)
class Diagram:
    """One run on the axis. ``broken_y``: where the violation is, if there is one."""

    title: str
    outcome: str
    arrows: tuple[Arrow, ...]
    dots: tuple[Dot, ...]
    marks: tuple[Mark, ...]
    ends_at: float
    end_y: float
    broken: bool
    message: str


@dataclass(frozen=True, slots=True)
class Layout:
    """``lanes``: name and kind. ``ticks``: moments and their pixels. ``prefix``: what all keys in Redis begin with."""

    lanes: tuple[tuple[str, str], ...]
    height: float
    breaks: tuple[Break, ...]
    ticks: tuple[tuple[float, float], ...]
    prefix: str
    diagrams: tuple[Diagram, ...] = field(default=())


def lay_out(recording: Recording, baseline: Recording | None = None) -> Layout:
    """Both runs on one axis: the same moment is at the same height in both."""
    runs = [recording] if baseline is None else [recording, baseline]
    hosts = {name: kind for run in runs for name, kind in run.hosts.items()}
    spoke = {host for run in runs for message in run.messages for host in (message.source, message.target)}
    shown = [host for host in hosts if host in spoke or hosts[host] == CLIENT]
    lanes = sorted(shown, key=lambda host: LANES.index(hosts[host]))
    axis = _axis(runs)
    return Layout(
        tuple((lane, hosts[lane]) for lane in lanes),
        axis.height,
        tuple(axis.breaks),
        tuple((at, axis.place(at)) for at in axis.instants),
        key_prefix(recording.messages),
        tuple(_diagram(run, lanes, axis) for run in runs),
    )


def key_prefix(messages: Sequence[Sent]) -> str:
    """Up to the last colon that all keys share, so that labels can leave it out; empty where there is none."""
    keys = {command.key for message in messages for command in commands(message.data) if ":" in command.key}
    least, most = min(keys, default=""), max(keys, default="")
    same = sum(
        1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(least, most, strict=False))
    )
    return least[: least.rfind(":", 0, same) + 1] if least != most else ""


def program(history: Sequence[Entry]) -> list[Entry]:
    """What clients were made to do and what befell them, in order: the scenario as it was run."""
    return [entry for entry in history if entry.what in ACTIONS or entry.what == "fault"]


def _axis(runs: Sequence[Recording]) -> Axis:
    rows: dict[float, int] = {}
    for run in runs:
        for counted in (
            Counter((instant(m.sent_at), m.source) for m in run.messages),
            Counter((instant(m.arrives_at), m.target) for m in run.messages),
            Counter((instant(e.at), e.who) for e in run.history),
        ):
            for (at, _host), count in counted.items():
                rows[at] = max(rows.get(at, 1), count)
        end = instant(run.result.virtual_seconds)
        rows[end] = max(rows.get(end, 1), 3)
    return Axis(rows)


def _diagram(run: Recording, lanes: Sequence[str], axis: Axis) -> Diagram:
    index = {lane: number for number, lane in enumerate(lanes)}
    plan, result = run.result.plan, run.result
    decoder = Decoder(run.hosts, run.messages)
    held = {hold.message: hold.seconds for hold in plan.holds}
    faults = {fault.message: fault for fault in plan.faults}
    late = {(message.source, message.target): message for message in run.messages if message.name in held}
    tops, bottoms = _rows(run.messages, axis)
    arrows = []
    for number, message in enumerate(run.messages):
        trouble, why = "", ""
        before = late.get((message.source, message.target))
        if message.name in held:
            trouble, why = "held", f"held for {milliseconds(held[message.name])}"
        elif message.name in faults:
            trouble, why = "fault", str(faults[message.name])
        elif not message.arrived:
            trouble, why = "lost", "never arrived"
        elif before is not None and _behind(message, before):
            trouble, why = "behind", f"waited behind {before.name}"
        words = decoder.words(message)
        arrows.append(
            Arrow(
                message.name,
                index[message.source],
                index[message.target],
                message.sent_at,
                message.arrives_at,
                tops[number],
                bottoms[number],
                words.family,
                words.weight,
                words.lines,
                trouble,
                why,
            )
        )
    broken = result.outcome is Outcome.VIOLATED
    return Diagram(
        str(plan),
        str(result.outcome),
        tuple(arrows),
        tuple(_dots(run.history, index, axis)),
        tuple(_mark(entry, index, axis) for entry in run.history if entry.what == "fault"),
        result.virtual_seconds,
        axis.place(result.virtual_seconds, 1),
        broken,
        result.message,
    )


def _behind(message: Sent, held: Sent) -> bool:
    """On the same link, sent while the other was held back, and let go with it."""
    return held.sent_at <= message.sent_at and instant(message.arrives_at) == instant(held.arrives_at)


def _rows(messages: Sequence[Sent], axis: Axis) -> tuple[list[float], list[float]]:
    """Pixels of each message's sending and arrival: what a host does at one instant stands in rows."""
    leaving: Counter[tuple[float, str]] = Counter()
    coming: Counter[tuple[float, str]] = Counter()
    tops, bottoms = [], [0.0] * len(messages)
    for message in messages:
        key = (instant(message.sent_at), message.source)
        tops.append(axis.place(message.sent_at, leaving[key]))
        leaving[key] += 1
    for number in sorted(range(len(messages)), key=lambda each: messages[each].arrives_at):
        message = messages[number]
        key = (instant(message.arrives_at), message.target)
        bottoms[number] = axis.place(message.arrives_at, coming[key])
        coming[key] += 1
    return tops, bottoms


def _dots(history: Sequence[Entry], index: dict[str, int], axis: Axis) -> list[Dot]:
    found: list[Dot] = []
    rows: Counter[tuple[float, str]] = Counter()
    for entry in history:
        if entry.who not in index or entry.what == "fault":
            continue
        key = (instant(entry.at), entry.who)
        found.append(
            Dot(index[entry.who], entry.at, axis.place(entry.at, rows[key]), entry.what, entry_words(entry))
        )
        rows[key] += 1
    return found


def _mark(entry: Entry, index: dict[str, int], axis: Axis) -> Mark:
    """The lanes are those that the fault's text names; a fault at a message hits the message's target."""
    planned, _at, message = entry.name.partition(" at ")
    told = message.partition("→")[2] if message and not planned.startswith(RESET) else entry.name
    names = set(re.split(r"[\s→,]+", told))
    lasting = _LASTING.search(entry.name)
    until = entry.at + float(lasting[1]) if lasting else entry.at
    return Mark(
        tuple(number for name, number in index.items() if name in names),
        entry.at,
        axis.place(entry.at),
        axis.place(until),
        entry.name,
    )


def entry_words(entry: Entry) -> str:
    """What a client did or saw, as one says it."""
    if entry.what == "connect":
        by = entry.data.get("transport") if isinstance(entry.data, dict) else None
        return f"connects to {entry.name}" + (f" by {by}" if by else "")
    if entry.what == "close":
        return "leaves"
    data = "" if entry.data is None else json.dumps(entry.data, ensure_ascii=False, default=str)
    words = [entry.name, data] if entry.what in ("event", "emit", "fault") else [entry.what, entry.name, data]
    return " ".join(filter(None, words))


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.4g} ms" if seconds < 1 else f"{seconds:.4g} s"
