"""The sessions of this instance: what it has registered in the shared state, and what it is about to."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

from realtime.errors import LeaseLost, StateUnavailable, TokenRevoked, TooManySessions
from realtime.state import Outcome, Registered, Session, State

log = logging.getLogger(__name__)


@dataclass(slots=True)
class LocalSession:
    """A registered socket of this instance."""

    session: Session
    expires_at: float | None
    """When its token ends, unix seconds of the fleet's clock."""


class LeaseHolder(Protocol):
    """Under which lease to register, and how to get another when that one is lost."""

    def lease(self) -> str: ...

    async def regain(self, lost: str) -> None: ...

    def hurry(self) -> None: ...


class LocalSessions:
    """Registers and unregisters, one call at a time for a sid. ``on_rooms_changed`` may be set: it is called when
    sessions of this instance are in other rooms than before."""

    def __init__(self, state: State, leases: LeaseHolder, *, cap: int) -> None:
        self._state = state
        self._leases = leases
        self._cap = cap
        self._by_sid: dict[str, LocalSession] = {}
        self._by_user: dict[str, set[str]] = {}
        self._by_token: dict[str, set[str]] = {}
        self._calls: dict[str, asyncio.Event] = {}
        self._doubts: dict[str, float] = {}
        self.on_rooms_changed: Callable[[], None] = lambda: None
        self.counts: Counter[str] = Counter()
        """How often a registration was refused because its lease was gone."""

    def __len__(self) -> int:
        return len(self._by_sid)

    def __iter__(self) -> Iterator[LocalSession]:
        return iter(list(self._by_sid.values()))

    def get(self, sid: str) -> LocalSession | None:
        return self._by_sid.get(sid)

    def user_of(self, sid: str) -> str:
        """Whose session it is; empty if it is none of this instance."""
        local = self._by_sid.get(sid)
        return "" if local is None else local.session.user.id

    def of_user(self, user_id: str) -> list[str]:
        """Sids of the user's sessions on this instance."""
        return sorted(self._by_user.get(user_id, ()))

    def of_token(self, jti: str) -> list[str]:
        """Sids of the sessions on this instance that a token let in."""
        return sorted(self._by_token.get(jti, ()))

    def users(self) -> list[str]:
        """Users with a session on this instance."""
        return list(self._by_user)

    def rooms_of(self, user_id: str) -> frozenset[str]:
        """Rooms of the user's sessions on this instance."""
        return frozenset().union(*(self._by_sid[sid].session.rooms for sid in self.of_user(user_id)))

    def settled(self) -> dict[str, Session]:
        """Sessions with no call under way."""
        return {sid: local.session for sid, local in self._by_sid.items() if sid not in self._calls}

    def known(self) -> set[str]:
        """Sids that are registered here or have a call under way."""
        return self._by_sid.keys() | self._calls.keys()

    def doubts(self) -> dict[str, float]:
        """Sids whose last call failed, so that the shared state may have either; and when (the loop's time)."""
        return dict(self._doubts)

    def cleared(self, doubts: dict[str, float]) -> None:
        """The shared state is known again for these, unless another call failed meanwhile."""
        for sid, since in doubts.items():
            if self._doubts.get(sid) == since:
                del self._doubts[sid]

    async def register(self, session: Session, expires_at: float | None) -> Registered:
        """Registers a session, or changes it. Raises ``TokenRevoked``, ``TooManySessions`` or ``StateUnavailable``;
        then nothing changed here, and what may have been changed in the state will be repaired."""
        async with self._alone(session.sid):
            registered = await self._register(session)
            self._put(session, expires_at)
        return registered

    async def change_rooms(self, sid: str, rooms: Callable[[], frozenset[str]]) -> None:
        """Makes a session's rooms what ``rooms`` returns when its turn has come; passes over one that is gone."""
        async with self._alone(sid):
            local = self._by_sid.get(sid)
            if local is not None and local.session.rooms != (wanted := rooms()):
                session = replace(local.session, rooms=wanted)
                await self._register(session)
                self._put(session, local.expires_at)

    async def unregister(self, sids: list[str]) -> None:
        """Takes sessions out here, and in the shared state unless that cannot be reached: then later."""
        gone = [sid for sid in set(sids) if self._drop(sid) or sid in self._calls or sid in self._doubts]
        if not gone:
            return
        try:
            with self._doubting(*gone):
                async with self._alone(*gone):
                    for sid in gone:
                        self._drop(sid)  # a call that was under way may have brought it back
                    await self._state.unregister(gone)
        except StateUnavailable as error:
            log.warning("%d closed sessions are still in the shared state: %s", len(gone), error)

    @contextmanager
    def holding(self, sids: list[str]) -> Iterator[list[str]]:
        """For repairs: keeps calls for these sids waiting, since the later content must win. Yields those for which
        none is under way."""
        mine = asyncio.Event()
        free = [sid for sid in sids if sid not in self._calls]
        self._calls.update(dict.fromkeys(free, mine))
        try:
            yield free
        finally:
            for sid in free:
                del self._calls[sid]
            mine.set()

    async def _register(self, session: Session) -> Registered:
        lease = self._leases.lease()
        with self._doubting(session.sid):
            try:
                registered = await self._state.register(lease, [session], cap=self._cap)
            except LeaseLost:
                self.counts["refused"] += 1
                await self._leases.regain(lease)
                try:
                    registered = await self._state.register(self._leases.lease(), [session], cap=self._cap)
                except LeaseLost as error:
                    raise StateUnavailable(str(error)) from error
        if registered.outcomes[0] is Outcome.REVOKED:
            raise TokenRevoked
        if registered.outcomes[0] is Outcome.LIMIT:
            raise TooManySessions
        return registered

    def _put(self, session: Session, expires_at: float | None) -> None:
        before = self._by_sid.get(session.sid)
        self._drop(session.sid)
        self._by_sid[session.sid] = LocalSession(session, expires_at)
        self._by_user.setdefault(session.user.id, set()).add(session.sid)
        if session.jti is not None:
            self._by_token.setdefault(session.jti, set()).add(session.sid)
        if before is not None and before.session.rooms != session.rooms:
            self.on_rooms_changed()

    def _drop(self, sid: str) -> bool:
        local = self._by_sid.pop(sid, None)
        if local is None:
            return False
        _take_out(self._by_user, local.session.user.id, sid)
        if local.session.jti is not None:
            _take_out(self._by_token, local.session.jti, sid)
        return True

    @contextmanager
    def _doubting(self, *sids: str) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._doubts.update(dict.fromkeys(sids, asyncio.get_running_loop().time()))
            raise

    @asynccontextmanager
    async def _alone(self, *sids: str) -> AsyncIterator[None]:
        mine, taken = asyncio.Event(), list[str]()
        try:
            for sid in sorted(sids):  # in the same order by all, so that no two wait for each other
                while (other := self._calls.get(sid)) is not None:
                    await other.wait()
                self._calls[sid] = mine
                taken.append(sid)
            yield
        finally:
            for sid in taken:
                del self._calls[sid]
            mine.set()


def _take_out(index: dict[str, set[str]], key: str, sid: str) -> None:
    index[key].discard(sid)
    if not index[key]:
        del index[key]
