"""All of the shared state as it is written down in Redis: records, and beside them the indexes made of them. It is read
and never written, for whoever wants to see what is there; see ``_prelude.lua`` for the keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from realtime.link import RedisLink

from . import codec
from .types import Session

SCAN = 1000
ROUNDS = 3
"""Readings at most until all keys are read that what was read names; a fleet goes on while it is looked at."""

Scores = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Survey:
    """One moment of the shared state. Times are unix milliseconds of Redis' clock; a lease or room that has no key is
    here with nothing in it."""

    now_ms: int
    schema: str
    epoch: str
    version: int
    leases: Scores
    """Lease to expiry."""
    reaping: Scores
    """Leases that ended and whose sessions are still to be removed, to since when."""
    sessions: Mapping[str, Session]
    unreadable: frozenset[str]
    """Sids whose records are no records."""
    users: Mapping[str, tuple[str, ...]]
    """User to sids."""
    registered: Mapping[str, Scores]
    """Lease to its sids, each with the time at which it was last registered."""
    rooms: Mapping[str, Scores]
    """Room to its users, each with the number of sessions in it."""
    usage: Mapping[str, tuple[str, ...]]
    """Sid to models that it used, some of which ended."""
    models: Mapping[str, Scores]
    """Model to sids that use it, each with the time until which it does."""
    in_use: Scores
    """Models that were announced as in use, to the latest such time."""


async def survey(link: RedisLink, root: str) -> Survey:
    """One look at everything under ``root``. Raises ``StateUnavailable``.

    Two trips mostly: one for the names of the keys, which goes through all of the database in small steps, and one that
    reads them at one moment, which Redis' other clients wait for: about 5 ms for a thousand sessions.
    """
    keys = await _keys(link, root)
    for _ in range(ROUNDS):
        wanted = sorted(keys)
        rows = await link.run(lambda client, wanted=wanted: _read(client, root, wanted))  # type: ignore[misc]
        found = _understood(rows, wanted)
        named = _named(found)
        if named <= keys:
            break
        keys |= named
    return found


async def _keys(link: RedisLink, root: str) -> set[tuple[str, str]]:
    """What there is of ``instance:…``, ``room:…`` and ``model:…``, as kind and rest."""
    found: set[tuple[str, str]] = set()
    cursor = 0
    while True:
        step = cursor
        cursor, names = await link.run(
            lambda client, step=step: client.scan(step, match=f"{root}:*", count=SCAN)  # type: ignore[misc]
        )
        for name in names:
            kind, colon, rest = _text(name).removeprefix(f"{root}:").partition(":")
            if colon and kind in ("instance", "room", "model"):
                found.add((kind, rest))
        if not cursor:
            return found


async def _read(client: Redis, root: str, keys: list[tuple[str, str]]) -> list[Any]:
    pipe = client.pipeline(transaction=True)
    pipe.time()
    pipe.get(f"{root}:schema")
    for name in ("meta", "sessions", "users", "usage"):
        pipe.hgetall(f"{root}:{name}")
    for name in ("leases", "reaping", "models"):
        pipe.zrange(f"{root}:{name}", 0, -1, withscores=True)
    for kind, rest in keys:
        if kind == "room":
            pipe.hgetall(f"{root}:room:{rest}")
        else:
            pipe.zrange(f"{root}:{kind}:{rest}", 0, -1, withscores=True)
    replies: list[Any] = await pipe.execute()
    return replies


def _understood(replies: list[Any], keys: list[tuple[str, str]]) -> Survey:
    time, schema, meta, records, users, usage, leases, reaping, in_use, *rows = replies
    sessions, unreadable = _sessions(_texts(records))
    facts = _texts(meta)
    parts: dict[str, dict[str, Scores]] = {"instance": {}, "room": {}, "model": {}}
    for (kind, rest), row in zip(keys, rows, strict=True):
        parts[kind][rest] = _scores(row.items() if kind == "room" else row)
    return Survey(
        now_ms=int(time[0]) * 1000 + int(time[1]) // 1000,
        schema=_text(schema or b""),
        epoch=facts.get("epoch", ""),
        version=int(facts.get("version", "0")),
        leases=_scores(leases),
        reaping=_scores(reaping),
        sessions=sessions,
        unreadable=unreadable,
        users={user: tuple(sids.split("\n")) for user, sids in _texts(users).items()},
        registered=parts["instance"],
        rooms=parts["room"],
        usage={sid: tuple(models.split("\n")) for sid, models in _texts(usage).items()},
        models=parts["model"],
        in_use=_scores(in_use),
    )


def _sessions(records: Mapping[str, str]) -> tuple[dict[str, Session], frozenset[str]]:
    sessions = {}
    for sid, record in records.items():
        try:
            sessions[sid] = codec.parse_session(sid, record)
        except (ValueError, KeyError, TypeError):
            continue
    return sessions, frozenset(records.keys() - sessions.keys())


def _named(found: Survey) -> set[tuple[str, str]]:
    """The keys that should be there, by what was read."""
    sessions = found.sessions.values()
    leases = found.leases.keys() | found.reaping.keys() | {session.lease for session in sessions}
    rooms = {room for session in sessions for room in session.rooms}
    models = {*found.in_use, *(model for models in found.usage.values() for model in models)}
    return (
        {("instance", lease) for lease in leases}
        | {("room", room) for room in rooms}
        | {("model", model) for model in models}
    )


def _texts(row: Mapping[bytes, bytes]) -> dict[str, str]:
    return {_text(name): _text(value) for name, value in row.items()}


def _scores(pairs: Iterable[tuple[Any, Any]]) -> Scores:
    return {_text(name): int(score) for name, score in pairs}


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
