"""What looks wrong in the shared state: records and indexes that do not agree, and what nobody cares for any more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from realtime.state.survey import Survey
from realtime.state.types import SCHEMA

OVERDUE_MS = 1000
"""The end of a model's use is told within 250 ms; by then, nobody looks."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that looks wrong. ``code`` is stable; ``about`` are the sids, users and instances that it concerns."""

    code: str
    text: str
    about: frozenset[str] = field(default=frozenset(), compare=False)


def findings(seen: Survey) -> list[Finding]:
    """Everything that looks wrong, the most telling first."""
    return [*_fleet(seen), *_leases(seen), *_records(seen), *_strays(seen), *_rooms(seen), *_models(seen)]


def instance_of(lease: str) -> str:
    """The name of the instance that took a lease."""
    return lease.rpartition("~")[0] or lease


def _fleet(seen: Survey) -> Iterator[Finding]:
    if seen.schema not in ("", SCHEMA):
        yield Finding("schema", f"the state is of schema {seen.schema}; this program knows {SCHEMA}")
    if seen.sessions and not any(expiry > seen.now_ms for expiry in seen.leases.values()):
        yield Finding("no-instance", f"{len(seen.sessions)} sessions are registered and no instance lives")


def _leases(seen: Survey) -> Iterator[Finding]:
    for lease, expiry in seen.leases.items():
        ago = seen.now_ms - expiry
        if ago >= 0:
            sids = seen.registered.get(lease, {})
            yield Finding(
                "lease-ended",
                f"the lease {lease} ended {ago / 1000:.1f} s ago, and its {len(sids)} sessions are still there",
                frozenset({instance_of(lease), *sids}),
            )
    for lease, since in seen.reaping.items():
        ago, sids = seen.now_ms - since, seen.registered.get(lease, {})
        yield Finding(
            "not-reaped",
            f"the lease {lease} was given up {ago / 1000:.1f} s ago; {len(sids)} of its sessions are to be removed",
            frozenset({instance_of(lease), *sids}),
        )
    live = Counter(instance_of(lease) for lease, expiry in seen.leases.items() if expiry > seen.now_ms)
    for name, count in live.items():
        if count > 1:
            yield Finding(
                "same-name",
                f"{count} live leases are called {name}: it was started again just now, or two have one name",
                frozenset({name}),
            )


def _records(seen: Survey) -> Iterator[Finding]:
    """Sessions that an index lacks, so that somebody does not see them."""
    for sid in sorted(seen.unreadable):
        yield Finding("unreadable", f"the record of the session {sid} cannot be understood", frozenset({sid}))
    for sid, session in seen.sessions.items():
        about = frozenset({sid, session.user.id, instance_of(session.lease)})
        if session.lease not in seen.leases and session.lease not in seen.reaping:
            yield Finding(
                "no-lease", f"the session {sid} is of the lease {session.lease}, which nobody knows", about
            )
        if sid not in seen.users.get(session.user.id, ()):
            yield Finding(
                "not-online", f"the session {sid} is not among those of its user {session.user.id}", about
            )
        if session.lease in seen.registered and sid not in seen.registered[session.lease]:
            yield Finding(
                "not-indexed", f"the session {sid} is not among those of its lease {session.lease}", about
            )


def _strays(seen: Survey) -> Iterator[Finding]:
    """Entries of indexes for sessions that have no record."""
    for user, sids in seen.users.items():
        for sid in sids:
            session = seen.sessions.get(sid)
            if sid in seen.unreadable:
                continue
            if session is None:
                yield Finding(
                    "no-record",
                    f"{user} counts as online by the session {sid}, which has no record",
                    frozenset({user, sid}),
                )
            elif session.user.id != user:
                yield Finding(
                    "wrong-user",
                    f"the session {sid} of {session.user.id} makes {user} count as online",
                    frozenset({user, sid, session.user.id}),
                )
    for lease, registered in seen.registered.items():
        for sid in registered:
            session = seen.sessions.get(sid)
            if sid not in seen.unreadable and (session is None or session.lease != lease):
                whose = "which has no record" if session is None else f"which is of {session.lease}"
                about = frozenset({sid, instance_of(lease)})
                yield Finding("no-record", f"the lease {lease} lists the session {sid}, {whose}", about)


def _rooms(seen: Survey) -> Iterator[Finding]:
    counted: dict[str, Counter[str]] = {room: Counter() for room in seen.rooms}
    for session in seen.sessions.values():
        for room in session.rooms & counted.keys():
            counted[room][session.user.id] += 1
    for room, users in seen.rooms.items():
        for user in sorted({*users, *counted[room]}):
            there, here = users.get(user, 0), counted[room][user]
            if there != here:
                yield Finding(
                    "room-count",
                    f"the room {room} counts {there} sessions of {user}; there are {here}",
                    frozenset({user}),
                )


def _models(seen: Survey) -> Iterator[Finding]:
    for model, sids in seen.models.items():
        for sid, until in sids.items():
            if sid not in seen.sessions and until > seen.now_ms:
                text = f"the model {model} is held by the session {sid}, which has no record"
                yield Finding("model-of-gone", text, frozenset({sid}))
    for sid in seen.usage.keys() - seen.sessions.keys():
        yield Finding(
            "usage-of-gone", f"the use of models by {sid} is kept, which has no record", frozenset({sid})
        )
    for model, until in seen.in_use.items():
        if seen.now_ms - until > OVERDUE_MS:
            ago = (seen.now_ms - until) / 1000
            yield Finding(
                "model-overdue", f"the model {model} counts as in use; its time was over {ago:.1f} s ago"
            )
