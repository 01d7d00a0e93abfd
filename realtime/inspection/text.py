"""A view as lines for people, and as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime

from .view import Kind, LeaseState, LeaseView, SessionView, View

MOST_LINES = 100
"""Of one kind."""


def as_json(view: View) -> str:
    """One object; the fields are those of ``View``."""
    return json.dumps(asdict(view), ensure_ascii=False, indent=2, default=sorted)


def as_text(view: View) -> str:
    """What a person wants to know first comes first; what looks wrong comes last, where the eye is."""
    return "\n".join(_lines(view))


def _lines(view: View) -> Iterator[str]:
    yield " ".join(word for word in (view.kind, view.name) if word)
    totals = ", ".join(
        f"{number} {what if number != 1 else what[:-1]}" for what, number in view.totals.items()
    )
    yield f"  fleet     {totals}"
    yield f"  state     epoch {view.epoch or 'none'}, version {view.version}, schema {view.schema or 'none'}"
    if view.leases:
        yield ""
        yield from _table(
            ("instance", "lease", "", "sessions", "users"), [_lease(each) for each in view.leases]
        )
    if view.sessions:
        yield ""
        yield from _table(
            ("session", "user", "instance", "registered", "token", "uses"),
            [_session(each, view.now) for each in view.sessions],
        )
    if view.rooms:
        yield ""
        yield from _table(("room", "users"), [(room, str(users)) for room, users in view.rooms.items()])
    if view.models and view.kind is Kind.FLEET:
        yield ""
        yield f"  in use    {', '.join(view.models)}"
    yield ""
    if not view.schema:
        yield "nothing was ever registered here: is it the right Redis, database number and REDIS_KEY_PREFIX?"
    elif not view.findings:
        yield "nothing looks wrong"
    if not view.findings:
        return
    yield f"{len(view.findings)} {'thing looks' if len(view.findings) == 1 else 'things look'} wrong:"
    yield from _few([f"  {each.code}: {each.text}" for each in view.findings])


def _lease(lease: LeaseView) -> tuple[str, ...]:
    if lease.seconds is None:
        stands = str(lease.state)
    elif lease.state is LeaseState.HELD:
        stands = f"held, {lease.seconds:.1f} s left"
    else:
        stands = f"{lease.state}, for {-lease.seconds:.1f} s"
    incarnation = lease.lease.removeprefix(f"{lease.instance}~")
    return lease.instance, incarnation, stands, str(lease.sessions), str(lease.users)


def _session(session: SessionView, now: float) -> tuple[str, ...]:
    since = "not listed"
    if session.registered is not None:
        at = datetime.fromtimestamp(session.registered, UTC)
        since = f"{at:%Y-%m-%d %H:%M:%S}Z ({duration(now - session.registered)} ago)"
    instance = session.instance
    if session.lease_state is not LeaseState.HELD:
        instance += f" ({session.lease_state})"
    return session.sid, session.user, instance, since, session.token or "-", ", ".join(session.models) or "-"


def duration(seconds: float) -> str:
    """The two largest units of it."""
    rest = max(0, round(seconds))
    days, rest = divmod(rest, 86400)
    hours, rest = divmod(rest, 3600)
    minutes, rest = divmod(rest, 60)
    parts = [
        f"{number} {unit}"
        for number, unit in ((days, "d"), (hours, "h"), (minutes, "min"), (rest, "s"))
        if number
    ]
    return " ".join(parts[:2]) or "0 s"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[at]) for row in (head, *rows)) for at in range(len(head))]
    made = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (head, *rows)
    )
    top, *rest = (f"  {line}".rstrip() for line in made)
    yield top
    yield from _few(rest)


def _few(lines: Sequence[str]) -> Iterator[str]:
    yield from lines[:MOST_LINES]
    if len(lines) > MOST_LINES:
        yield f"  and {len(lines) - MOST_LINES} more: --json shows all"
