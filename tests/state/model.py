"""What the shared state should hold, in plain dictionaries: written from its documentation, not from its code.

Where the documentation leaves a choice (which sessions a bounded reap takes first, when exactly the end of a model
nobody uses is announced) the model gives bounds, and takes over what was chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from realtime.state import Outcome, Session, Token


@dataclass
class Expected:
    """What one verb must announce. ``may_end``: models whose end may or may not be among it."""

    joins: set[str] = field(default_factory=set)
    leaves: set[str] = field(default_factory=set)
    started: set[str] = field(default_factory=set)
    must_end: set[str] = field(default_factory=set)
    may_end: set[str] = field(default_factory=set)
    reaped: set[str] = field(default_factory=set)
    revoked_tokens: set[str] = field(default_factory=set)
    revoked_users: set[str] = field(default_factory=set)
    rooms_changed: bool = False

    @property
    def certain(self) -> bool:
        """Whether there must be an announcement, whatever is chosen."""
        return bool(
            self.joins
            or self.leaves
            or self.started
            or self.must_end
            or self.reaped
            or self.revoked_tokens
            or self.revoked_users
            or self.rooms_changed
        )


@dataclass
class Lock:
    owner: str | None = None
    expires: int = 0
    fence: int = 0


@dataclass
class Model:
    """``now`` is the state's time in ms; a verb's method returns what the verb must return, or announce."""

    now: int
    leases: dict[str, int] = field(default_factory=dict)
    reaping: set[str] = field(default_factory=set)
    sessions: dict[str, Session] = field(default_factory=dict)
    order: dict[str, list[str]] = field(default_factory=dict)
    uses: dict[tuple[str, str], int] = field(default_factory=dict)
    announced: set[str] = field(default_factory=set)
    tokens: dict[str, int] = field(default_factory=dict)
    users_revoked: dict[str, int] = field(default_factory=dict)
    locks: dict[str, Lock] = field(default_factory=dict)

    # What it looks like

    def rooms_of(self, user: str) -> set[str]:
        return {room for s in self.sessions.values() if s.user.id == user for room in s.rooms}

    def room_users(self, room: str) -> set[str]:
        return {s.user.id for s in self.sessions.values() if room in s.rooms}

    def in_use(self) -> set[str]:
        return {model for (_sid, model), until in self.uses.items() if until > self.now}

    def usage(self) -> dict[str, dict[str, int]]:
        return {
            model: {sid: end for (sid, used), end in self.uses.items() if used == model and end > self.now}
            for model in self.in_use()
        }

    def of_lease(self, lease: str) -> set[str]:
        return {sid for sid, session in self.sessions.items() if session.lease == lease}

    def reapable(self) -> set[str]:
        gone = self.reaping | {lease for lease, end in self.leases.items() if end <= self.now}
        return {sid for sid, session in self.sessions.items() if session.lease in gone}

    def is_revoked(self, token: Token) -> bool:
        since = self.users_revoked.get(token.user_id)
        by_user = since is not None and (token.issued_at_ms is None or token.issued_at_ms <= since)
        return by_user or token.jti in self.tokens

    # Verbs

    def release(self, lease: str) -> Expected:
        if self.leases.pop(lease, None) is None:
            return Expected()
        self.reaping.add(lease)
        return Expected(reaped={lease})

    def reap(self, left: set[str]) -> Expected:
        """``left``: sids that are registered after it."""
        expected = Expected(reaped={lease for lease, end in self.leases.items() if end <= self.now})
        for lease in expected.reaped:
            del self.leases[lease]
        self.reaping |= expected.reaped
        self._presence(expected, lambda: self._remove(set(self.sessions) - left, expected))
        self.reaping = {lease for lease in self.reaping if self.of_lease(lease)}
        self.tokens = {jti: end for jti, end in self.tokens.items() if end > self.now}
        return expected

    def register(self, lease: str, sessions: list[Session], cap: int) -> tuple[list[Outcome], Expected]:
        expected, outcomes = Expected(), list[Outcome]()

        def all_of_them() -> None:
            outcomes.extend(self._register_one(lease, session, cap, expected) for session in sessions)

        self._presence(expected, all_of_them)
        return outcomes, expected

    def unregister(self, sids: list[str]) -> Expected:
        expected = Expected()
        self._presence(expected, lambda: self._remove(sids, expected))
        return expected

    def touch(self, sid: str, models: list[str], ttl: int, cap: int) -> tuple[Outcome, Expected]:
        expected = Expected()
        if sid not in self.sessions:
            return Outcome.UNKNOWN, expected
        live = {model for (user, model), end in self.uses.items() if user == sid and end > self.now}
        if cap and len(live | set(models)) > cap:
            return Outcome.LIMIT, expected
        for model in models:
            self.uses[sid, model] = max(self.uses.get((sid, model), 0), self.now + ttl)
            if model not in self.announced:
                expected.started.add(model)
                self.announced.add(model)
        return Outcome.OK, expected

    def sweep(self) -> tuple[int | None, Expected]:
        expected = Expected(must_end=self.announced - self.in_use())
        due = {model: max(sids.values()) for model, sids in self.usage().items()}
        return min((end - self.now for end in due.values()), default=None), expected

    def ended(self, models: set[str]) -> None:
        """Takes over which models were announced to have ended."""
        self.announced -= models
        for key in [key for key in self.uses if key[1] in models]:
            del self.uses[key]

    def lock_acquire(self, name: str, owner: str, ttl: int) -> int | None:
        lock = self.locks.setdefault(name, Lock())
        free = lock.owner is None or lock.expires <= self.now
        if not free and lock.owner != owner:
            return None
        lock.fence += free
        lock.owner, lock.expires = owner, self.now + ttl
        return lock.fence

    def holds_lock(self, name: str, owner: str) -> bool:
        lock = self.locks.get(name)
        return lock is not None and lock.owner == owner and lock.expires > self.now

    # Inside

    def _register_one(self, lease: str, session: Session, cap: int, expected: Expected) -> Outcome:
        user, old = session.user.id, self.sessions.get(session.sid)
        same_user = old is not None and old.user.id == user
        if self.is_revoked(Token(user, session.jti, session.issued_at_ms)):
            return Outcome.REVOKED
        if cap and not same_user and len(self.order.get(user, [])) >= cap:
            return Outcome.LIMIT
        if old is not None:
            expected.rooms_changed |= old.rooms != session.rooms
            uses = {key: end for key, end in self.uses.items() if same_user and key[0] == session.sid}
            self._remove([session.sid], expected if not same_user else Expected())
            self.uses |= uses
        self.sessions[session.sid] = Session(
            session.sid, session.user, session.rooms, session.jti, session.issued_at_ms, lease
        )
        self.order.setdefault(user, []).append(session.sid)
        return Outcome.OK

    def _remove(self, sids: Iterable[str], expected: Expected) -> None:
        for session in [self.sessions.pop(sid) for sid in set(sids) & self.sessions.keys()]:
            self.order[session.user.id].remove(session.sid)
            if not self.order[session.user.id]:
                del self.order[session.user.id]
            for key, end in [(key, end) for key, end in self.uses.items() if key[0] == session.sid]:
                del self.uses[key]
                if key[1] not in self.in_use():
                    (expected.must_end if end > self.now else expected.may_end).add(key[1])

    def _presence(self, expected: Expected, act: Callable[[], object]) -> None:
        before = {user: self.rooms_of(user) for user in self.order}
        act()
        after = {user: self.rooms_of(user) for user in self.order}
        expected.joins, expected.leaves = after.keys() - before.keys(), before.keys() - after.keys()
        expected.rooms_changed |= any(before[user] != after[user] for user in before.keys() & after.keys())
        expected.may_end -= expected.must_end
