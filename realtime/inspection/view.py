"""What is asked about, made of a survey: the fleet, an instance, a user, a session. Times are unix seconds."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum

from realtime.errors import RealtimeError
from realtime.state.survey import Survey
from realtime.state.types import Session

from .findings import Finding, findings, instance_of


class NotFound(RealtimeError):
    """Nothing of that name is registered."""

    code = "not-found"
    advice = "Nothing of that name is registered."


class Kind(StrEnum):
    """What may be asked about."""

    FLEET = "fleet"
    INSTANCE = "instance"
    USER = "user"
    SESSION = "session"


class LeaseState(StrEnum):
    """How an instance stands by one of its leases."""

    HELD = "held"
    ENDED = "ended"
    REAPING = "reaping"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class LeaseView:
    """A lease: one incarnation of an instance."""

    instance: str
    lease: str
    state: LeaseState
    seconds: float | None
    """How long it still lasts, or since it ended, less than 0."""
    sessions: int
    users: int


@dataclass(frozen=True, slots=True)
class SessionView:
    """A session and where it is."""

    sid: str
    user: str
    name: str
    role: str
    instance: str
    lease: str
    lease_state: LeaseState
    registered: float | None
    """When it was last registered; None if its lease does not list it."""
    token: str | None
    """The token's own id (``jti``), by which it can be revoked."""
    rooms: tuple[str, ...]
    models: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class View:
    """The answer to one question. ``name`` is empty for the fleet."""

    kind: Kind
    name: str
    now: float
    epoch: str
    version: int
    schema: str
    totals: dict[str, int]
    leases: tuple[LeaseView, ...]
    sessions: tuple[SessionView, ...]
    rooms: dict[str, int]
    """Of the fleet the largest rooms, each with its users; else the rooms of these sessions."""
    models: tuple[str, ...]
    findings: tuple[Finding, ...]


LARGEST = 10


def view_of(seen: Survey, kind: Kind, name: str = "") -> View:
    """Raises ``NotFound``."""
    wrong = findings(seen)
    sids = _sids(seen, kind, name)
    leases = _leases(seen, kind, name, sids)
    if kind is not Kind.FLEET:
        wrong = [each for each in wrong if each.about & {name, *sids}]
        if not (sids or leases or wrong):
            raise NotFound(f"no {kind} {name} is registered in this fleet")
    sessions = tuple(_session(seen, seen.sessions[sid]) for sid in sids)
    rooms = {room: len(users) for room, users in seen.rooms.items() if users}
    if kind is Kind.FLEET:
        rooms = dict(Counter(rooms).most_common(LARGEST))
    else:
        named = {room for session in sessions for room in session.rooms}
        rooms = {room: rooms.get(room, 0) for room in sorted(named)}
    return View(
        kind=kind,
        name=name,
        now=seen.now_ms / 1000,
        epoch=seen.epoch,
        version=seen.version,
        schema=seen.schema,
        totals={
            "users": len(seen.users),
            "sessions": len(seen.sessions),
            "instances": len({instance_of(lease) for lease in seen.leases}),
            "rooms": sum(1 for users in seen.rooms.values() if users),
            "models": len(seen.in_use),
        },
        leases=leases,
        sessions=() if kind is Kind.FLEET else sessions,
        rooms=rooms,
        models=tuple(sorted(seen.in_use)) if kind is Kind.FLEET else _models(sessions),
        findings=tuple(wrong),
    )


def _sids(seen: Survey, kind: Kind, name: str) -> list[str]:
    every = seen.sessions.values()
    if kind is Kind.USER:
        return sorted(each.sid for each in every if each.user.id == name)
    if kind is Kind.SESSION:
        return [name] if name in seen.sessions else []
    if kind is Kind.INSTANCE:
        return sorted(each.sid for each in every if instance_of(each.lease) == name)
    return []


def _leases(seen: Survey, kind: Kind, name: str, sids: list[str]) -> tuple[LeaseView, ...]:
    every = [session.lease for session in seen.sessions.values()]
    known = [*seen.leases, *seen.reaping, *every]
    if kind is Kind.INSTANCE:
        known = [lease for lease in known if instance_of(lease) == name]
    elif kind is not Kind.FLEET:
        known = [seen.sessions[sid].lease for sid in sids]
    count = Counter(every)
    users: dict[str, set[str]] = {}
    for session in seen.sessions.values():
        users.setdefault(session.lease, set()).add(session.user.id)
    return tuple(
        LeaseView(instance_of(lease), lease, *_standing(seen, lease), count[lease], len(users.get(lease, ())))
        for lease in sorted(set(known))
    )


def _standing(seen: Survey, lease: str) -> tuple[LeaseState, float | None]:
    if lease in seen.leases:
        left = (seen.leases[lease] - seen.now_ms) / 1000
        return (LeaseState.HELD if left > 0 else LeaseState.ENDED), left
    if lease in seen.reaping:
        return LeaseState.REAPING, (seen.reaping[lease] - seen.now_ms) / 1000
    return LeaseState.UNKNOWN, None


def _session(seen: Survey, session: Session) -> SessionView:
    registered = seen.registered.get(session.lease, {}).get(session.sid)
    used = seen.usage.get(session.sid, ())
    return SessionView(
        sid=session.sid,
        user=session.user.id,
        name=session.user.name,
        role=session.user.role,
        instance=instance_of(session.lease),
        lease=session.lease,
        lease_state=_standing(seen, session.lease)[0],
        registered=None if registered is None else registered / 1000,
        token=session.jti,
        rooms=tuple(sorted(session.rooms)),
        models=tuple(sorted(m for m in used if seen.models.get(m, {}).get(session.sid, 0) > seen.now_ms)),
    )


def _models(sessions: tuple[SessionView, ...]) -> tuple[str, ...]:
    return tuple(sorted({model for session in sessions for model in session.models}))
