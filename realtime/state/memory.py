"""The shared state in one process: the same verbs as Redis, on plain dictionaries.

Nothing here awaits, so every verb is atomic on its event loop. Several servers of one process may share one object.
"""

from __future__ import annotations

import secrets
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from realtime.errors import LeaseLost

from .types import (
    Change,
    ChangeListener,
    Lease,
    Outcome,
    ReadyListener,
    Reaped,
    Registered,
    Renewal,
    Session,
    Snapshot,
    Token,
)


@dataclass(slots=True)
class _Lock:
    owner: str | None = None
    expires: int = 0
    fence: int = 0


@dataclass(slots=True)
class _Delta:
    """What one verb changes; presence is the net difference from the moment a user was first touched."""

    was_online: dict[str, bool] = field(default_factory=dict)
    moves: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Users and rooms: +1 for the first session in, -1 for the last out."""
    started: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    reaped: list[str] = field(default_factory=list)
    revoked_tokens: list[str] = field(default_factory=list)
    revoked_users: list[str] = field(default_factory=list)
    rooms_changed: bool = False


class MemoryState:
    """``State`` without Redis: for one embedded instance, for tests, and as the model the other is held against."""

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self.clock_offset_ms = 0
        self._epoch = secrets.token_hex(8)
        self._version = 0
        self._leases: dict[str, int] = {}
        self._reaping: list[str] = []
        self._sessions: dict[str, Session] = {}
        self._instances: dict[str, dict[str, None]] = defaultdict(dict)
        self._users: dict[str, dict[str, None]] = {}
        self._rooms: dict[str, Counter[str]] = {}
        self._models: dict[str, dict[str, int]] = {}
        self._usage: dict[str, list[str]] = {}
        self._revoked_tokens: dict[str, int] = {}
        self._revoked_users: dict[str, int] = {}
        self._locks: dict[str, _Lock] = {}
        self._listeners: list[ChangeListener] = []
        self._ready: list[ReadyListener] = []

    async def start(self) -> None:
        for ready in self._ready:
            ready()

    async def close(self) -> None:
        return None

    def listen(self, on_change: ChangeListener, on_ready: ReadyListener) -> None:
        self._listeners.append(on_change)
        self._ready.append(on_ready)

    # Leases

    async def acquire(self, lease_id: str, ttl_ms: int) -> Lease:
        now = self._now()
        self._leases[lease_id] = now + ttl_ms
        return Lease(lease_id, self._epoch, self._version, now)

    async def renew(self, lease_id: str, ttl_ms: int) -> Renewal:
        now = self._now()
        stood = self._leases.get(lease_id, 0)
        alive = lease_id in self._leases
        if alive:
            self._leases[lease_id] = now + ttl_ms
        reapable = len(self._reaping) + sum(expiry <= now for expiry in self._leases.values())
        reapable += sum(end <= now for end in self._revoked_tokens.values())
        sessions = len(self._instances.get(lease_id, ()))
        return Renewal(alive, self._epoch, self._version, sessions, now, stood, reapable)

    async def release(self, lease_id: str) -> None:
        if self._leases.pop(lease_id, None) is not None:
            self._reaping.append(lease_id)
            self._announce(_Delta(reaped=[lease_id]))

    async def leases(self) -> dict[str, int]:
        return dict(self._leases)

    async def reap(self, limit: int = 500, *, judge: str = "") -> Reaped:
        if judge and self._leases.get(judge, 0) <= self._now():
            return Reaped(0, False)
        now, delta, left = self._now(), _Delta(), limit
        for lease_id in [lease for lease, expiry in self._leases.items() if expiry <= now]:
            del self._leases[lease_id]
            self._reaping.append(lease_id)
            delta.reaped.append(lease_id)
        for lease_id in list(self._reaping):
            for sid in list(self._instances.get(lease_id, ()))[:left]:
                self._forget(self._sessions[sid], delta)
                self._forget_usage(sid, delta)
                left -= 1
            if not self._instances.get(lease_id):
                self._instances.pop(lease_id, None)
                self._reaping.remove(lease_id)
        self._revoked_tokens = {jti: end for jti, end in self._revoked_tokens.items() if end > now}
        self._announce(delta)
        return Reaped(limit - left, bool(self._reaping))

    # Sessions

    async def register(self, lease_id: str, sessions: list[Session], *, cap: int = 0) -> Registered:
        if lease_id not in self._leases:
            raise LeaseLost(f"the lease {lease_id} was reaped: take a new one and register again")
        delta, outcomes = _Delta(), []
        for session in sessions:
            old = self._sessions.get(session.sid)
            same_user = old is not None and old.user.id == session.user.id
            if self._is_revoked(Token(session.user.id, session.jti, session.issued_at_ms)):
                outcomes.append(Outcome.REVOKED)
                continue
            if cap and not same_user and len(self._users.get(session.user.id, ())) >= cap:
                outcomes.append(Outcome.LIMIT)
                continue
            if old is not None:
                self._forget(old, delta)
                if not same_user:
                    self._forget_usage(session.sid, delta)
                delta.rooms_changed |= old.rooms != session.rooms
            self._add(replace(session, lease=lease_id), delta)
            outcomes.append(Outcome.OK)
        version = self._announce(delta)
        return Registered(self._epoch, version, self._now(), tuple(outcomes))

    async def unregister(self, sids: list[str]) -> None:
        delta = _Delta()
        for sid in sids:
            if session := self._sessions.get(sid):
                self._forget(session, delta)
                self._forget_usage(sid, delta)
        self._announce(delta)

    async def instance_sids(self, lease_id: str) -> frozenset[str]:
        return frozenset(self._instances.get(lease_id, ()))

    async def session(self, sid: str) -> Session | None:
        return self._sessions.get(sid)

    async def sessions(self) -> dict[str, Session]:
        return dict(self._sessions)

    async def sessions_of(self, user_id: str) -> list[Session]:
        return [self._sessions[sid] for sid in self._users.get(user_id, ())]

    async def users(self) -> dict[str, tuple[str, ...]]:
        return {user_id: tuple(sids) for user_id, sids in self._users.items()}

    async def room_users(self, rooms: list[str]) -> dict[str, frozenset[str]]:
        return {room: frozenset(self._rooms.get(room, ())) for room in rooms}

    async def snapshot(self) -> Snapshot:
        return Snapshot(self._epoch, self._version, frozenset(self._users), frozenset(self._models))

    async def new_epoch(self, seen: str) -> str:
        if self._epoch == seen:
            self._epoch = secrets.token_hex(8)
            self._announce(_Delta(rooms_changed=True))
        return self._epoch

    # Usage

    async def touch(self, sid: str, models: list[str], *, ttl_ms: int, cap: int = 0) -> Outcome:
        if sid not in self._sessions:
            return Outcome.UNKNOWN
        now, delta = self._now(), _Delta()
        used = list(dict.fromkeys([*self._usage.get(sid, ()), *models]))
        if cap and len(used) > cap and len(used) > len(self._usage.get(sid, ())):
            kept = [m for m in used if m in models or self._models.get(m, {}).get(sid, 0) > now]
            if len(kept) > cap:
                return Outcome.LIMIT
            for model in set(used) - set(kept):
                self._models.get(model, {}).pop(sid, None)
            used = kept
        if used:
            self._usage[sid] = used
        for model in models:
            if model not in self._models:
                self._models[model] = {}
                delta.started.append(model)
            self._models[model][sid] = max(now + ttl_ms, self._models[model].get(sid, 0))
        self._announce(delta)
        return Outcome.OK

    async def models_in_use(self) -> list[str]:
        now = self._now()
        return [model for model, sids in self._models.items() if _end(sids) > now]

    async def usage(self) -> Mapping[str, Mapping[str, int]]:
        now = self._now()
        live = {m: {sid: end for sid, end in sids.items() if end > now} for m, sids in self._models.items()}
        return {model: sids for model, sids in live.items() if sids}

    async def sweep(self) -> int | None:
        now, delta = self._now(), _Delta()
        for model in [model for model, sids in self._models.items() if _end(sids) <= now]:
            del self._models[model]
            delta.ended.append(model)
        self._announce(delta)
        return min((_end(sids) - now for sids in self._models.values()), default=None)

    # Revocation and locks

    async def revoke_token(self, jti: str, until_ms: int) -> None:
        self._revoked_tokens[jti] = until_ms
        self._announce(_Delta(revoked_tokens=[jti]))

    async def revoke_user(self, user_id: str) -> None:
        self._revoked_users[user_id] = self._now()
        self._announce(_Delta(revoked_users=[user_id]))

    async def revoked(self, tokens: list[Token]) -> list[bool]:
        return [self._is_revoked(token) for token in tokens]

    async def lock_acquire(self, name: str, owner: str, ttl_ms: int) -> int | None:
        now, lock = self._now(), self._locks.setdefault(name, _Lock())
        alive = lock.owner is not None and lock.expires > now
        if alive and lock.owner != owner:
            return None
        lock.fence += not alive
        lock.owner, lock.expires = owner, now + ttl_ms
        return lock.fence

    async def lock_renew(self, name: str, owner: str, ttl_ms: int) -> bool:
        now, lock = self._now(), self._locks.get(name)
        if lock is None or lock.owner != owner or lock.expires <= now:
            return False
        lock.expires = now + ttl_ms
        return True

    async def lock_release(self, name: str, owner: str) -> bool:
        lock = self._locks.get(name)
        if lock is None or lock.owner != owner or lock.expires <= self._now():
            return False
        lock.owner, lock.expires = None, 0
        return True

    # Inside

    def _now(self) -> int:
        return int(self._clock() * 1000) + self.clock_offset_ms

    def _is_revoked(self, token: Token) -> bool:
        if token.jti and token.jti in self._revoked_tokens:
            return True
        since = self._revoked_users.get(token.user_id)
        return since is not None and (token.issued_at_ms is None or token.issued_at_ms <= since)

    def _add(self, session: Session, delta: _Delta) -> None:
        self._note(session.user.id, delta)
        self._sessions[session.sid] = session
        self._instances[session.lease][session.sid] = None
        self._users.setdefault(session.user.id, {})[session.sid] = None
        for room in session.rooms:
            members = self._rooms.setdefault(room, Counter())
            members[session.user.id] += 1
            delta.moves[session.user.id, room] += members[session.user.id] == 1

    def _forget(self, session: Session, delta: _Delta) -> None:
        self._note(session.user.id, delta)
        del self._sessions[session.sid]
        self._instances[session.lease].pop(session.sid, None)
        self._users[session.user.id].pop(session.sid, None)
        if not self._users[session.user.id]:
            del self._users[session.user.id]
        for room in session.rooms:
            members = self._rooms[room]
            members[session.user.id] -= 1
            if not members[session.user.id]:
                del members[session.user.id]
                delta.moves[session.user.id, room] -= 1
            if not members:
                del self._rooms[room]

    def _forget_usage(self, sid: str, delta: _Delta) -> None:
        now = self._now()
        for model in self._usage.pop(sid, ()):
            sids = self._models.get(model, {})
            if sids.pop(sid, None) is not None and not any(end > now for end in sids.values()):
                del self._models[model]
                delta.ended.append(model)

    def _note(self, user_id: str, delta: _Delta) -> None:
        delta.was_online.setdefault(user_id, user_id in self._users)

    def _announce(self, delta: _Delta) -> int:
        joins = tuple(u for u, was in delta.was_online.items() if not was and u in self._users)
        leaves = tuple(u for u, was in delta.was_online.items() if was and u not in self._users)
        stayed = {u for u, was in delta.was_online.items() if was and u in self._users}
        moved = any(by and user_id in stayed for (user_id, _room), by in delta.moves.items())
        change = Change(
            epoch=self._epoch,
            version=self._version + 1,
            at_ms=self._now(),
            joins=joins,
            leaves=leaves,
            started=tuple(delta.started),
            ended=tuple(delta.ended),
            reaped=tuple(delta.reaped),
            revoked_tokens=tuple(delta.revoked_tokens),
            revoked_users=tuple(delta.revoked_users),
            rooms_changed=delta.rooms_changed or moved,
        )
        if change == Change(self._epoch, self._version + 1):
            return self._version
        self._version += 1
        for listener in self._listeners:
            listener(change)
        return self._version


def _end(sids: Mapping[str, int]) -> int:
    """When the last of a model's uses is over."""
    return max(sids.values(), default=0)
