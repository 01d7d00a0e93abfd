"""What the shared state takes and gives: sessions, leases, changes, snapshots.

Times are unix milliseconds by the state's own clock (Redis' ``TIME``), whatever an instance's clock says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from realtime.directory import User

SCHEMA = "1"
"""Version of the layout of the shared state; instances of different schemas never share a fleet."""


class Outcome(StrEnum):
    """What became of one registration or one touch."""

    OK = "ok"
    REVOKED = "revoked"
    LIMIT = "limit"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Session:
    """One signed-in socket: whose it is, which rooms it is in, which token let it in.

    Sid, user id, rooms and ``jti`` are not empty and without control characters (``realtime.ids``). ``lease`` is the
    state's to fill: it is empty in what is registered.
    """

    sid: str
    user: User
    rooms: frozenset[str] = frozenset()
    jti: str | None = None
    issued_at_ms: int | None = None
    lease: str = ""


@dataclass(frozen=True, slots=True)
class Lease:
    """An instance's right to own sessions; ``id`` is new with every incarnation."""

    id: str
    epoch: str
    version: int
    now_ms: int


@dataclass(frozen=True, slots=True)
class Renewal:
    """What Redis knows at the moment a lease is renewed; whatever differs from here leads to a repair."""

    alive: bool
    epoch: str
    version: int
    sessions: int
    now_ms: int
    stood_ms: int
    """The expiry that stood until now (0: none): one earlier than the last that was answered says that Redis lost
    renewals, this instance's and so perhaps everybody's."""
    reapable: int
    """Leases that expired or were released and are not cleared yet, and revoked tokens that expired."""


@dataclass(frozen=True, slots=True)
class Registered:
    """The answer to a registration: the version it is part of, and an outcome for each session in order."""

    epoch: str
    version: int
    now_ms: int
    outcomes: tuple[Outcome, ...]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything a replica holds, at one version."""

    epoch: str
    version: int
    users: frozenset[str]
    models: frozenset[str]


@dataclass(frozen=True, slots=True)
class Change:
    """One version's difference. Order of versions is order of changes, on all instances. ``at_ms``: when it was."""

    epoch: str
    version: int
    at_ms: int = field(default=0, compare=False, kw_only=True)
    joins: tuple[str, ...] = ()
    leaves: tuple[str, ...] = ()
    started: tuple[str, ...] = ()
    ended: tuple[str, ...] = ()
    reaped: tuple[str, ...] = ()
    """Leases whose sessions are being removed."""
    revoked_tokens: tuple[str, ...] = ()
    revoked_users: tuple[str, ...] = ()
    rooms_changed: bool = False
    """Users who stayed online, or sessions that stayed, are in other rooms than before."""


@dataclass(frozen=True, slots=True)
class Token:
    """What is needed to ask whether a token was revoked."""

    user_id: str
    jti: str | None
    issued_at_ms: int | None


@dataclass(frozen=True, slots=True)
class Reaped:
    """What one bounded call of ``reap`` removed; ``more`` says that another call has work to do."""

    sessions: int
    more: bool


ChangeListener = Callable[[Change], None]
ReadyListener = Callable[[], None]


class State(Protocol):
    """The shared state: verbs, each atomic, each one round trip.

    Every verb may raise ``StateUnavailable`` (bounded by the state's time-out); a verb that raised may still have
    taken effect, so all of them may be repeated.
    """

    async def start(self) -> None:
        """Check that the state can be used; raises ``StateUnavailable``."""

    async def close(self) -> None: ...

    def listen(self, on_change: ChangeListener, on_ready: ReadyListener) -> None:
        """Hear changes in order. ``on_ready`` is called whenever some may have been missed: take a snapshot then."""

    async def acquire(self, lease_id: str, ttl_ms: int) -> Lease:
        """Take a lease under an id never used before. Raises ``SchemaMismatch`` if a fleet of another schema lives."""

    async def renew(self, lease_id: str, ttl_ms: int) -> Renewal:
        """Prolong a lease, even one past its expiry: it ends when it is reaped, not before."""

    async def release(self, lease_id: str) -> None:
        """Make a lease's sessions reapable at once."""

    async def leases(self) -> dict[str, int]:
        """Leases that were not reaped, with the time at which each expires."""

    async def reap(self, limit: int = 500, *, judge: str = "") -> Reaped:
        """Remove at most ``limit`` sessions of expired or released leases; fewer if they are in very many rooms.

        ``judge`` is the lease of the instance that asks: if that one has expired itself, nothing is done.
        """

    async def register(self, lease_id: str, sessions: list[Session], *, cap: int = 0) -> Registered:
        """Add sessions, or change them: user, rooms and token become what is given, in one step.

        Raises ``LeaseLost`` if the lease was reaped. ``cap`` bounds the sessions of one user (0: no bound).
        """

    async def unregister(self, sids: list[str]) -> None: ...

    async def instance_sids(self, lease_id: str) -> frozenset[str]: ...

    async def session(self, sid: str) -> Session | None: ...

    async def sessions(self) -> dict[str, Session]: ...

    async def sessions_of(self, user_id: str) -> list[Session]:
        """In the order in which they were last registered."""

    async def users(self) -> dict[str, tuple[str, ...]]:
        """Online users, each with the sids of its sessions in the order in which they were last registered."""

    async def room_users(self, rooms: list[str]) -> dict[str, frozenset[str]]:
        """Users with a session in each of these rooms, on all instances."""

    async def snapshot(self) -> Snapshot: ...

    async def new_epoch(self, seen: str) -> str:
        """Replace epoch ``seen`` by a new one, once, however many ask; returns the epoch in force."""

    async def touch(self, sid: str, models: list[str], *, ttl_ms: int, cap: int = 0) -> Outcome:
        """Say that a session uses models from now on for ``ttl_ms`` at least. ``cap`` bounds a session's models."""

    async def models_in_use(self) -> list[str]: ...

    async def usage(self) -> Mapping[str, Mapping[str, int]]:
        """For each model in use the sids that use it, each with the time until which it does."""

    async def sweep(self) -> int | None:
        """End the models whose time is over; returns milliseconds until the next is due, None if there is none."""

    async def revoke_token(self, jti: str, until_ms: int) -> None: ...

    async def revoke_user(self, user_id: str) -> None:
        """Revoke every token that was issued to the user up to now."""

    async def revoked(self, tokens: list[Token]) -> list[bool]: ...

    async def lock_acquire(self, name: str, owner: str, ttl_ms: int) -> int | None:
        """Returns a fencing token that only grows, or None if another owner holds the lock."""

    async def lock_renew(self, name: str, owner: str, ttl_ms: int) -> bool: ...

    async def lock_release(self, name: str, owner: str) -> bool: ...
