"""The lease of this instance: taken, renewed, and taken anew when it was lost.

A renewal is also how an instance learns what it missed: it returns the epoch, the version and how many sessions the
shared state counts for the lease. Whatever differs from here leads to a snapshot or to a repair; these have tasks of
their own, because a renewal must wait for nothing but the state.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
from collections import Counter

from realtime.clock import FleetClock
from realtime.errors import SchemaMismatch, StateUnavailable
from realtime.repairs import Repair, Repairs
from realtime.replica import Replica
from realtime.sessions import LocalSessions
from realtime.state import State

log = logging.getLogger(__name__)

SHORTEST_PAUSE = 0.05
COMPARE_EVERY = 8
"""Renewals after which sids are compared although their number agrees: one too many may hide one too few."""


class LeaseKeeper:
    """Holds the lease of one instance."""

    def __init__(self, state: State, clock: FleetClock, *, name: str, ttl: float) -> None:
        """``ttl``: seconds after which the lease expires unless renewed."""
        self._state = state
        self._clock = clock
        self._name = name
        self._ttl = ttl
        self._incarnations = itertools.count(1)
        self._renewals = itertools.count(1)
        self._lease_id = ""
        self._epoch = ""
        self._renewed_at = float("-inf")
        self._may_judge_from = float("-inf")
        self._expiry_ms = 0
        self._released = False
        self._now = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()
        self.counts: Counter[str] = Counter()
        """How often a lease was acquired, renewed or lost, how often renewing failed, and how often this instance
        came to judge nobody for a while."""
        self.sessions: LocalSessions
        self.replica: Replica
        self.repairs: Repairs

    def lease(self) -> str:
        """The lease under which to register; raises ``StateUnavailable`` while there is none."""
        if not self._lease_id:
            raise StateUnavailable("this instance has no lease at the moment: try again")
        return self._lease_id

    @property
    def held(self) -> bool:
        """Whether the lease was renewed recently enough to count on it."""
        return bool(self._lease_id) and asyncio.get_running_loop().time() - self._renewed_at < self._ttl

    @property
    def current(self) -> str:
        """The lease that is held, or was until its loss is known; empty after ``release``."""
        return self._lease_id

    @property
    def may_judge(self) -> bool:
        """Whether this instance may take others for dead: not if it could not renew just now or not long ago, or if
        renewals were lost. What kept it from that may have kept them too, and they shall have the time to come back."""
        now = asyncio.get_running_loop().time()
        return now >= self._may_judge_from and now - self._renewed_at < self._ttl / 2

    def hurry(self, *, recheck_tokens: bool = False) -> None:
        """Renews now rather than at the next turn; optionally asks again whether tokens were revoked meanwhile."""
        if recheck_tokens:
            self.repairs.want(Repair.RECHECK_TOKENS)
        self._now.set()

    async def acquire(self) -> None:
        """Takes a new incarnation. Raises ``SchemaMismatch`` or ``StateUnavailable``."""
        incarnation = f"{self._name}~{next(self._incarnations)}.{secrets.token_hex(3)}"
        loop = asyncio.get_running_loop()
        sent_at = loop.time()
        lease = await self._state.acquire(incarnation, round(self._ttl * 1000))
        self._lease_id, self._epoch, self._renewed_at = lease.id, lease.epoch, sent_at
        self._expiry_ms = lease.now_ms + round(self._ttl * 1000)
        self._clock.learn(lease.now_ms, took=loop.time() - sent_at)
        self.counts["acquired"] += 1
        log.info("holding the lease %s", lease.id)

    async def run(self) -> None:
        """Renews until cancelled; no failure ends it, because a lease that lapses takes all its sessions along."""
        loop = asyncio.get_running_loop()
        while True:
            self._now.clear()
            pause = self._ttl / 4
            try:
                await self.renew()
                if not (self.held or self._released):
                    # Its answer came after a stall: what it says is old, and clients are being sent away.
                    pause = SHORTEST_PAUSE
            except StateUnavailable as error:
                pause /= 2
                self.counts["failed"] += 1
                log.warning("the lease could not be renewed: %s", error)
            except SchemaMismatch as error:
                self.counts["failed"] += 1
                log.error("the lease was lost and cannot be taken again: %s", error)
            except Exception:
                self.counts["failed"] += 1
                log.exception("the lease could not be renewed")
            # A time, not a duration: after a stall the next renewal is due at once, wherever in here it struck.
            due = loop.time() + pause
            await asyncio.sleep(min(SHORTEST_PAUSE, pause))  # however often somebody hurries
            try:
                async with asyncio.timeout_at(due):
                    await self._now.wait()
            except TimeoutError:
                pass

    async def renew(self) -> None:
        """One renewal; a lease found lost is taken anew. What its answer asks to repair is begun, not awaited."""
        async with self._one_at_a_time:
            await self._renew()

    async def regain(self, lost: str) -> None:
        """For whoever found the lease ``lost`` gone: returns when there is another. Raises ``StateUnavailable``."""
        try:
            async with asyncio.timeout(self._ttl):
                async with self._one_at_a_time:
                    if self._lease_id == lost:
                        await self._renew()
        except (TimeoutError, SchemaMismatch) as error:
            raise StateUnavailable("this instance lost its lease and has no other yet: try again") from error

    async def release(self) -> None:
        """Gives the lease up for good, and removes what is still under it."""
        self._released = True
        async with self._one_at_a_time:
            lease_id, self._lease_id = self._lease_id, ""
            if lease_id:
                await self._state.release(lease_id)
                await self.repairs.reap()

    async def _renew(self) -> None:
        if self._released:
            return
        loop = asyncio.get_running_loop()
        asked_at, sent_at = self.replica.position, loop.time()
        settled = len(self.sessions.settled())
        renewal = await self._state.renew(self._lease_id, round(self._ttl * 1000))
        self._clock.learn(renewal.now_ms, took=loop.time() - sent_at)
        if loop.time() - self._renewed_at > self._ttl / 2 or renewal.stood_ms < self._expiry_ms:
            self.counts["abstained"] += 1
            # Also where the renewals of a while were lost: a replica took over, and others' leases only look expired.
            self._may_judge_from = loop.time() + self._ttl
        if not renewal.alive:
            self.counts["lost"] += 1
            log.warning("the lease %s was lost: taking a new one", self._lease_id)
            await self.acquire()
            self.replica.want_snapshot()
            self.repairs.want(Repair.REGISTER_ALL)
            return
        self.counts["renewed"] += 1
        self._renewed_at, self._expiry_ms = sent_at, renewal.now_ms + round(self._ttl * 1000)
        self.replica.check(renewal.epoch, renewal.version, asked_at=asked_at)
        if renewal.epoch != self._epoch:
            self._epoch = renewal.epoch
            self.repairs.want(Repair.REGISTER_ALL)
        if renewal.sessions != settled or self.sessions.doubts() or next(self._renewals) % COMPARE_EVERY == 0:
            self.repairs.want(Repair.COMPARE)
        if renewal.reapable:
            self.repairs.want(Repair.REAP)
