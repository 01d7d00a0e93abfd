"""The sessions of this instance: what it has registered in the shared state, and what it is about to."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
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


class LocalSessions:
    """Registers and unregisters, one call at a time for a sid, and knows which sids have a call under way."""

    def __init__(self, state: State, leases: LeaseHolder, *, cap: int) -> None:
        self._state = state
        self._leases = leases
        self._cap = cap
        self._by_sid: dict[str, LocalSession] = {}
        self._by_user: dict[str, set[str]] = {}
        self._under_way: dict[str, int] = {}
        self._held: dict[str, asyncio.Event] = {}

    def __len__(self) -> int:
        return len(self._by_sid)

    def __iter__(self) -> Iterator[LocalSession]:
        return iter(list(self._by_sid.values()))

    def get(self, sid: str) -> LocalSession | None:
        return self._by_sid.get(sid)

    def of_user(self, user_id: str) -> list[str]:
        """Sids of the user's sessions on this instance."""
        return sorted(self._by_user.get(user_id, ()))

    def users(self) -> list[str]:
        """Users with a session on this instance."""
        return list(self._by_user)

    def settled(self) -> dict[str, Session]:
        """Sessions with no call under way."""
        return {sid: local.session for sid, local in self._by_sid.items() if sid not in self._under_way}

    def known(self) -> set[str]:
        """Sids that are registered here or have a call under way."""
        return self._by_sid.keys() | self._under_way.keys()

    async def register(self, session: Session, expires_at: float | None) -> Registered:
        """Registers a session, or changes it. Raises ``TokenRevoked``, ``TooManySessions`` or ``StateUnavailable``;
        then nothing changed here, and what may have been changed in the state will be repaired."""
        async with self._calling(session.sid):
            registered = await self._register(session)
            if registered.outcomes[0] is Outcome.REVOKED:
                raise TokenRevoked
            if registered.outcomes[0] is Outcome.LIMIT:
                raise TooManySessions
            self._drop(session.sid)
            self._by_sid[session.sid] = LocalSession(session, expires_at)
            self._by_user.setdefault(session.user.id, set()).add(session.sid)
        return registered

    async def unregister(self, sids: list[str]) -> None:
        """Takes sessions out here, and in the shared state unless that cannot be reached: then later."""
        gone = [sid for sid in sids if self._drop(sid)]
        if not gone:
            return
        async with self._calling(*gone):
            try:
                await self._state.unregister(gone)
            except StateUnavailable as error:
                log.warning("%d closed sessions are still in the shared state: %s", len(gone), error)

    def _drop(self, sid: str) -> bool:
        local = self._by_sid.pop(sid, None)
        if local is None:
            return False
        sids = self._by_user[local.session.user.id]
        sids.discard(sid)
        if not sids:
            del self._by_user[local.session.user.id]
        return True

    @contextmanager
    def holding(self, sids: list[str]) -> Iterator[None]:
        """Keeps calls for these sids waiting while a repair registers them again: the later content must win."""
        released = asyncio.Event()
        self._held.update(dict.fromkeys(sids, released))
        try:
            yield
        finally:
            for sid in sids:
                del self._held[sid]
            released.set()

    async def _register(self, session: Session) -> Registered:
        lease = self._leases.lease()
        try:
            return await self._state.register(lease, [session], cap=self._cap)
        except LeaseLost:
            await self._leases.regain(lease)
        try:
            return await self._state.register(self._leases.lease(), [session], cap=self._cap)
        except LeaseLost as error:
            raise StateUnavailable(str(error)) from error

    @asynccontextmanager
    async def _calling(self, *sids: str) -> AsyncIterator[None]:
        for sid in sids:
            while (released := self._held.get(sid)) is not None:
                await released.wait()
        for sid in sids:
            self._under_way[sid] = self._under_way.get(sid, 0) + 1
        try:
            yield
        finally:
            for sid in sids:
                self._under_way[sid] -= 1
                if not self._under_way[sid]:
                    del self._under_way[sid]
