"""The lease of this instance: taken, renewed, and taken anew with everything registered again when it was lost.

A renewal is also how an instance learns what it missed: it returns the epoch, the version and how many sessions the
shared state counts for the lease. Whatever differs from here leads to a repair.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TypeVar

from realtime.clock import FleetClock
from realtime.errors import LeaseLost, SchemaMismatch, StateUnavailable
from realtime.replica import Replica
from realtime.sessions import LocalSessions
from realtime.state import Outcome, State, Token

log = logging.getLogger(__name__)

_T = TypeVar("_T")

BATCH = 200


class LeaseKeeper:
    """Holds the lease of one instance. ``on_revoked(sid)`` is called for sessions that may not stay."""

    def __init__(
        self,
        state: State,
        clock: FleetClock,
        *,
        name: str,
        ttl: float,
        on_revoked: Callable[[str], Awaitable[None]],
    ) -> None:
        self._state = state
        self._clock = clock
        self._name = name
        self._ttl = ttl
        self._on_revoked = on_revoked
        self._incarnations = itertools.count(1)
        self._lease_id = ""
        self._epoch = ""
        self._renewed_at = float("-inf")
        self._now = asyncio.Event()
        self._recheck = False
        self._everything = False
        self._repairing = asyncio.Lock()
        self.counts: Counter[str] = Counter()
        """How often a safeguard worked: acquired, lost, reregistered, repaired, reaped."""
        self.sessions: LocalSessions
        self.replica: Replica

    def lease(self) -> str:
        """The lease under which to register; raises ``StateUnavailable`` while there is none."""
        if not self._lease_id:
            raise StateUnavailable("this instance has no lease at the moment: try again")
        return self._lease_id

    @property
    def held(self) -> bool:
        """Whether the lease was renewed recently enough to count on it."""
        return bool(self._lease_id) and asyncio.get_running_loop().time() - self._renewed_at < self._ttl

    def hurry(self, *, recheck_tokens: bool = False) -> None:
        """Renews now rather than at the next turn; optionally asks again whether tokens were revoked meanwhile."""
        self._recheck |= recheck_tokens
        self._now.set()

    async def acquire(self) -> None:
        """Takes a new incarnation. Raises ``SchemaMismatch`` or ``StateUnavailable``."""
        incarnation = f"{self._name}~{next(self._incarnations)}.{secrets.token_hex(3)}"
        sent_at = asyncio.get_running_loop().time()
        lease = await self._state.acquire(incarnation, round(self._ttl * 1000))
        self._lease_id, self._epoch, self._renewed_at = lease.id, lease.epoch, sent_at
        self._clock.learn(lease.now_ms)
        self.counts["acquired"] += 1
        log.info("holding the lease %s", lease.id)

    async def run(self) -> None:
        """Renews, repairs and reaps until cancelled."""
        while True:
            try:
                await self.renew()
                await self._reap()
            except StateUnavailable as error:
                log.warning("the lease could not be renewed: %s", error)
            except SchemaMismatch as error:
                log.error("the lease is lost for good: %s", error)
            self._now.clear()
            try:
                async with asyncio.timeout(self._ttl / 4):
                    await self._now.wait()
            except TimeoutError:
                pass

    async def renew(self) -> None:
        """One renewal, with the repairs that its answer asks for."""
        async with self._repairing:
            await self._renew()

    async def regain(self, lost: str) -> None:
        """For whoever found the lease ``lost`` gone: returns when there is another. Raises ``StateUnavailable``."""
        try:
            async with asyncio.timeout(self._ttl):
                async with self._repairing:
                    if self._lease_id == lost:
                        await self._renew()
        except TimeoutError:
            raise StateUnavailable("this instance lost its lease and has no other yet: try again") from None

    async def _renew(self) -> None:
        asked_at = self.replica.position
        sent_at = asyncio.get_running_loop().time()
        settled = len(self.sessions.settled())
        renewal = await self._state.renew(self._lease_id, round(self._ttl * 1000))
        self._clock.learn(renewal.now_ms)
        if not renewal.alive:
            self.counts["lost"] += 1
            log.warning("the lease %s was lost: taking a new one", self._lease_id)
            await self.acquire()
            self.replica.want_snapshot()
            self._everything = True
        else:
            self._renewed_at = sent_at
            self.replica.check(renewal.epoch, renewal.version, asked_at=asked_at)
            self._everything |= renewal.epoch != self._epoch
            self._epoch = renewal.epoch
        if self._everything or renewal.sessions != settled:
            await self._reconcile(everything=self._everything)
            self._everything = False
        if self._recheck:
            self._recheck = False
            await self._recheck_tokens()

    async def release(self) -> None:
        """Gives the lease up, and removes what is still under it."""
        if not self._lease_id:
            return
        lease_id, self._lease_id = self._lease_id, ""
        await self._state.release(lease_id)
        await self._reap()

    async def _reap(self) -> None:
        while (reaped := await self._state.reap()).more or reaped.sessions:
            if reaped.sessions:
                self.counts["reaped"] += reaped.sessions
                log.warning("removed %d sessions of instances that are gone", reaped.sessions)
            if not reaped.more:
                break

    async def _reconcile(self, *, everything: bool) -> None:
        """Makes the shared state hold exactly this instance's sessions. Those with a call under way are left alone."""
        settled, known = self.sessions.settled(), self.sessions.known()
        there = await self._state.instance_sids(self._lease_id)
        known |= self.sessions.known()
        for sids in _batched([sid for sid in settled if everything or sid not in there]):
            await self._register_again(sids)
        for sids in _batched(sorted(there - known)):
            await self._state.unregister(sids)
            self.counts["repaired"] += len(sids)

    async def _register_again(self, sids: list[str]) -> None:
        settled = self.sessions.settled()
        sessions = [settled[sid] for sid in sids if sid in settled]
        if not sessions:
            return
        with self.sessions.holding([session.sid for session in sessions]):
            try:
                registered = await self._state.register(self._lease_id, sessions)
            except LeaseLost as error:
                self._everything = True
                self._now.set()
                raise StateUnavailable(str(error)) from error
        self.counts["reregistered"] += len(sessions)
        for session, outcome in zip(sessions, registered.outcomes, strict=True):
            if outcome is Outcome.REVOKED:
                await self._on_revoked(session.sid)

    async def _recheck_tokens(self) -> None:
        sessions = [local.session for local in self.sessions]
        for batch in _batched(sessions):
            flags = await self._state.revoked([Token(s.user.id, s.jti, s.issued_at_ms) for s in batch])
            for session, revoked in zip(batch, flags, strict=True):
                if revoked:
                    await self._on_revoked(session.sid)


def _batched(items: list[_T], size: int = BATCH) -> list[list[_T]]:
    return [items[at : at + size] for at in range(0, len(items), size)]
