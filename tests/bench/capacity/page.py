"""reports/capacity.md: what things cost, what so many people need, what gives way first, and how far to believe it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from string import Template

from tests.bench.capacity.check import AWAY, STAY, Checked
from tests.bench.capacity.costs import Cost, Costs
from tests.bench.capacity.demands import Habits, demand_of
from tests.bench.capacity.model import Forecast, Presence, forecast, instances_for
from tests.bench.report import REPORTS, machine

SIZES = (10_000, 100_000)
INSTANCE_SHARE = 0.6
"""Of a core that an instance may use,"""
REDIS_SHARE = 0.6
"""and Redis: what is left is for peaks."""
SESSIONS = 20_000
"""That an instance may hold: who comes back after it is lost comes all at once."""
REDIS_BYTES = 125e6
"""A second: a gigabit."""
MOST_USERS = 10_000_000
VARIANTS: dict[str, tuple[Presence, bool]] = {
    "nobody": ("none", False),
    "nobody; every word is kept in the database": ("none", True),
    "all of all, by differences": ("diffs", False),
    "all of all, by whole lists": ("lists", False),
}
BELIEVED = 1.3
COSTS = {
    "instance": "a second of an idle instance",
    "probe": "a health check",
    "heartbeat": "a ping and its pong",
    "session": "a tab that comes and goes: two changes of presence",
    "event": "an event to a channel, and its ack",
    "event_byte": "1,000 bytes more in it",
    "delivery": "one more websocket that a message goes to",
    "delivery_byte": "1,000 bytes more in that",
    "in_use": "a second of an instance while a model is in use",
    "usage": "a heartbeat of a model's use",
    "word": "a word of an answer to a tab at another instance",
    "keeping": "more, if it is kept in SQLite",
    "polled": "more, if its client polls",
    "listener": "one more instance that hears a message",
}
THOUSANDS = {"event_byte", "delivery_byte"}


@dataclass(frozen=True, slots=True)
class Measured:
    """Costs of ``calm`` instances and of ``busy`` ones. ``checks``: for each size of a real run, that run held against
    what calm instances were to spend, and against busy ones."""

    calm: Costs
    busy: Costs
    checks: Sequence[Sequence[Checked]]


def needed(costs: Costs, habits: Habits, presence: Presence, users: int) -> Forecast | None:
    """With the fewest instances that bear it; None where no number does."""
    demand = demand_of(users, habits, presence)
    instances = instances_for(costs, demand, share=INSTANCE_SHARE, sessions=SESSIONS)
    return forecast(costs, demand, instances) if instances else None


def first_to_give(costs: Costs, habits: Habits, presence: Presence) -> tuple[int, str]:
    """How many users online at once are borne, and what gives way then that more instances do not mend."""
    low, high = 1, MOST_USERS
    what = _gives(costs, habits, presence, high)
    while what and high - low > max(1, low // 100):
        middle = (low + high) // 2
        if found := _gives(costs, habits, presence, middle):
            high, what = middle, found
        else:
            low = middle
    return (low, what) if what else (high, "nothing")


def _gives(costs: Costs, habits: Habits, presence: Presence, users: int) -> str:
    found = needed(costs, habits, presence, users)
    if found is None:
        return "the instances: one more costs the others as much as it takes over"
    if not found.presence_keeps_up:
        return "the bound on the bytes of who is online"
    if found.redis_cores > REDIS_SHARE:
        return f"Redis' core: {max(found.redis_parts, key=found.redis_parts.__getitem__)}"
    return "Redis' network" if found.redis_bytes > REDIS_BYTES else ""


def fits(pair: Sequence[Checked]) -> bool:
    """Whether a run can be believed and took what it was to take."""
    return not any(each.doubts for each in pair) and all(_within(*row[1:4]) for row in _compared(pair))


def write(measured: Measured, reports: Path = REPORTS) -> None:
    """The page, and its figures beside it."""
    reports.mkdir(exist_ok=True)
    (reports / "capacity.md").write_text(text(measured), encoding="utf-8")
    saved = {"machine": machine(), **asdict(measured)}
    (reports / "capacity.json").write_text(json.dumps(saved, indent=1) + "\n", encoding="utf-8")


def text(measured: Measured, habits: Habits | None = None) -> str:
    habits = habits or Habits()
    calm = measured.calm
    base, each = calm.instance_bytes / 1e6, calm.connection_bytes / 1024
    said = {name: f"{value:g}" for name, value in asdict(habits).items()}
    said |= {name: f"{getattr(habits, name):.0%}" for name in ("polling", "streaming")}
    tables = {
        "needs": _needs(measured, habits),
        "giving": _giving(measured, habits),
        "costs": _costs(measured),
        "parts": _parts(calm, habits),
        "checks": _checks(measured),
        "summary": _summary(measured, habits),
    }
    return Template(Path(__file__).with_suffix(".md").read_text(encoding="utf-8")).substitute(
        said,
        machine=machine(),
        memory=f"An idle instance has {base:.0f} MB, and {each:.1f} KB more for each idle websocket",
        minutes=f"{habits.stay / 60:g}",
        stay=f"{STAY:g}",
        away=f"{AWAY:g}",
        believed=f"{BELIEVED:g}",
        instance_share=f"{INSTANCE_SHARE:.0%}",
        redis_share=f"{REDIS_SHARE:.0%}",
        sessions=f"{SESSIONS:,}",
        redis_megabytes=f"{REDIS_BYTES / 1e6:g}",
        **{name: "\n".join(lines) for name, lines in tables.items()},
    )


def _summary(measured: Measured, habits: Habits) -> Iterator[str]:
    both = (measured.busy, measured.calm)
    for users in SIZES:
        found = [needed(costs, habits, "none", users) for costs in both]
        instances = _range(each.instances for each in found if each) if all(found) else "no number of"
        redis = [each.redis_cores for each in found if each]
        beyond = (
            f", and more of Redis than its one core bears: {_range(redis)}"
            if max(redis, default=0) > REDIS_SHARE
            else ""
        )
        yield f"- **{users:,} people** online at once: {instances} instances{beyond}."
    borne = [first_to_give(costs, habits, "none") for costs in both]
    what = "; or ".join(dict.fromkeys(what for _users, what in borne))
    yield f"- **First to give way**: {what}, at {_range(float(f'{users:.2g}') for users, _what in borne)} people."
    late = _range(float(f"{first_to_give(costs, habits, 'lists')[0]:.2g}") for costs in both)
    yield f"- **Sooner**, where all are told of all by whole lists: they come late from {late} people on. That is the"
    yield "  default, for clients that do not ask for differences."


def _needs(measured: Measured, habits: Habits) -> Iterator[str]:
    columns = (
        "instances",
        "their cores",
        "MB of each",
        "Redis' cores",
        "commands/s",
        "Redis' MB/s",
        "MB/s to clients",
    )
    yield _row(["online", "who is told of whom", *columns])
    yield _rule("rl" + "r" * len(columns))
    for users in SIZES:
        for name, (presence, kept) in VARIANTS.items():
            found = [
                needed(costs, replace(habits, kept=kept), presence, users)
                for costs in (measured.busy, measured.calm)
            ]
            shown = [each for each in found if each is not None]
            if len(shown) < len(found):
                yield _row([f"{users:,}", name, "no number is enough", *[""] * (len(columns) - 1)])
                continue
            late = "" if all(each.presence_keeps_up for each in shown) else " ¹"
            yield _row(
                [
                    f"{users:,}",
                    name,
                    _range(each.instances for each in shown) + late,
                    _range(each.cores for each in shown),
                    _range(each.memory / 1e6 for each in shown),
                    _range(each.redis_cores for each in shown),
                    _range(each.redis_commands for each in shown),
                    _range(each.redis_bytes / 1e6 for each in shown),
                    _range(each.client_bytes / 1e6 for each in shown),
                ]
            )


def _giving(measured: Measured, habits: Habits) -> Iterator[str]:
    yield _row(["who is told of whom", "busy", "calm", "what gives way"])
    yield _rule("lrrl")
    for name, (presence, kept) in VARIANTS.items():
        found = [
            first_to_give(costs, replace(habits, kept=kept), presence)
            for costs in (measured.busy, measured.calm)
        ]
        borne = [f"{float(f'{users:.2g}'):,.0f}" for users, _what in found]
        yield _row([name, *borne, "; or ".join(dict.fromkeys(what for _users, what in found))])


def _costs(measured: Measured) -> Iterator[str]:
    yield _row(["", "here", "elsewhere", "Redis", "commands", "bytes"])
    yield _rule("lrrrrr")
    for name, shown in COSTS.items():
        factor = 1000.0 if name in THOUSANDS else 1.0
        pair = [_as_cost(getattr(costs, name)) for costs in (measured.busy, measured.calm)]
        cells = [
            _range(getattr(cost, part) * factor * unit for cost in pair)
            for part, unit in (
                ("here", 1e6),
                ("there", 1e6),
                ("redis", 1e6),
                ("commands", 1),
                ("redis_bytes", 1),
            )
        ]
        yield _row([shown, *("" if cell == "0" else cell for cell in cells)])


def _parts(costs: Costs, habits: Habits) -> Iterator[str]:
    users = SIZES[-1]
    found = needed(costs, habits, "none", users)
    if found is None:
        yield f"No number of calm instances is enough for {users:,} people."
        return
    yield f"{users:,} people online who are told of nobody, on {found.instances} calm instances:"
    yield ""
    yield _row(["", "instances' cores", "Redis' cores"])
    yield _rule("lrr")
    names = {**found.parts, **found.redis_parts}
    for name in sorted(names, key=lambda name: found.parts.get(name, 0.0), reverse=True):
        cells = [_number(parts.get(name, 0.0)) for parts in (found.parts, found.redis_parts)]
        if cells != ["0", "0"]:
            yield _row([name, *("" if cell == "0" else cell for cell in cells)])


def _checks(measured: Measured) -> Iterator[str]:
    yield _row(["users", "what", "measured", "forecast", ""])
    yield _rule("rlrrl")
    for pair in measured.checks:
        users = str(pair[0].users)
        for what, value, low, high in _compared(pair):
            said = "as forecast" if _within(value, low, high) else "NOT as forecast"
            yield _row([users, what, _number(value), _range([low, high]), said])
        for doubt in pair[0].doubts:
            yield _row([users, f"not to be believed: {doubt}", "", "", ""])


def _compared(pair: Sequence[Checked]) -> Iterator[tuple[str, float, float, float]]:
    """What was compared, what was measured, the lower and the higher forecast."""
    run, forecasts = pair[0], [each.forecast for each in pair]
    rows = (
        ("cores of the two instances", run.cores, [each.cores for each in forecasts]),
        ("cores of Redis", run.redis_cores, [each.redis_cores for each in forecasts]),
        ("commands at Redis a second", run.redis_commands, [each.redis_commands for each in forecasts]),
        ("MB of an instance", run.memory / 1e6, [each.memory / 1e6 for each in forecasts]),
    )
    for what, value, expected in rows:
        yield what, value, min(expected), max(expected)


def _within(value: float, low: float, high: float) -> bool:
    return low / BELIEVED <= value <= high * BELIEVED


def _as_cost(value: Cost | float) -> Cost:
    return value if isinstance(value, Cost) else Cost(value)


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _rule(align: str) -> str:
    """One letter a column: l or r."""
    return f"|{'|'.join('--:' if side == 'r' else '---' for side in align)}|"


def _range(values: Iterable[float]) -> str:
    found = list(values)
    low, high = _number(min(found)), _number(max(found))
    return low if low == high else f"{low} to {high}"


def _number(value: float) -> str:
    if value >= 100:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.3g}" if value >= 1 else f"{value:.2g}"
