"""What is put right in the shared state: sessions it lost or kept too long, tokens revoked meanwhile, dead instances.

Each repair is wanted until it has succeeded; one that fails is tried again and does not hold up the others.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from enum import Enum
from itertools import islice
from typing import Protocol, TypeVar

from realtime.errors import LeaseLost, StateUnavailable
from realtime.sessions import LeaseHolder, LocalSessions
from realtime.state import Outcome, Session, State, Token

log = logging.getLogger(__name__)

_T = TypeVar("_T")

BATCH = 200
ROOMS_AT_ONCE = 10_000
"""Of sessions that are registered again together; Redis does nothing else meanwhile: some 70 ms."""
SHORTEST_PAUSE = 0.1
LONGEST_PAUSE = 1.0


class Repair(Enum):
    """The kinds of repair, in the order in which they are done."""

    REGISTER_ALL = "register all"
    COMPARE = "compare"
    RECHECK_TOKENS = "recheck tokens"
    REAP = "reap"


class Judge(LeaseHolder, Protocol):
    """A lease holder that knows whether it may take others for dead."""

    @property
    def may_judge(self) -> bool: ...

    @property
    def current(self) -> str: ...


class Repairs:
    """Repairs for one instance. ``on_revoked(sid)`` is called for sessions that may not stay."""

    def __init__(
        self,
        state: State,
        sessions: LocalSessions,
        leases: Judge,
        *,
        doubt_seconds: float,
        on_revoked: Callable[[str], Awaitable[None]],
    ) -> None:
        """``doubt_seconds``: how long a call that failed may still take effect in the state."""
        self._state = state
        self._sessions = sessions
        self._leases = leases
        self._doubt_seconds = doubt_seconds
        self._on_revoked = on_revoked
        self._wanted: set[Repair] = set()
        self._wake = asyncio.Event()
        self.counts: Counter[str] = Counter()
        """Sessions that were reregistered, removed (here unknown), reaped."""

    def want(self, repair: Repair) -> None:
        self._wanted.add(repair)
        self._wake.set()

    async def run(self) -> None:
        """Repairs what is wanted until cancelled."""
        pause = SHORTEST_PAUSE
        while True:
            await self._wake.wait()
            self._wake.clear()
            if await self.mend():
                pause = SHORTEST_PAUSE
            else:
                await asyncio.sleep(pause)
                pause = min(LONGEST_PAUSE, 2 * pause)
                self._wake.set()

    async def mend(self) -> bool:
        """One attempt at everything that is wanted; False if something of it failed and is still wanted."""
        failed = set()
        for repair in Repair:
            if repair not in self._wanted:
                continue
            self._wanted.discard(repair)
            try:
                await self._do(repair)
            except Exception as error:
                failed.add(repair)
                log.warning(
                    "trying again to %s: %s",
                    repair.value,
                    error,
                    exc_info=not isinstance(error, StateUnavailable),
                )
            except BaseException:
                self._wanted.add(repair)
                raise
        self._wanted |= failed
        return not failed

    async def reap(self) -> None:
        """Removes the sessions of leases that expired or were released, while this instance may judge."""
        more = True
        while more and self._leases.may_judge:
            reaped = await self._state.reap(judge=self._leases.current)
            more = reaped.more
            if reaped.sessions:
                self.counts["reaped"] += reaped.sessions
                log.warning("removed %d sessions of instances that are gone", reaped.sessions)

    async def _do(self, repair: Repair) -> None:
        if repair is Repair.REAP:
            await self.reap()
        elif repair is Repair.RECHECK_TOKENS:
            await self._recheck_tokens()
        else:
            await self._reconcile(everything=repair is Repair.REGISTER_ALL)

    async def _reconcile(self, *, everything: bool) -> None:
        """Makes the shared state hold exactly this instance's sessions. Those with a call under way are left alone."""
        began = asyncio.get_running_loop().time()
        doubts = self._sessions.doubts()
        there = await self._state.instance_sids(self._leases.lease())
        settled = self._sessions.settled().items()
        missing = [each for sid, each in settled if everything or sid not in there or sid in doubts]
        for sids in _portions(missing):
            await self._register_again(sids)
        for sids in _batched(sorted((there | doubts.keys()) - self._sessions.known())):
            await self._remove(sids)
        self._sessions.cleared({s: at for s, at in doubts.items() if began - at > self._doubt_seconds})

    async def _register_again(self, sids: list[str]) -> None:
        with self._sessions.holding(sids) as free:
            known = [local for sid in free if (local := self._sessions.get(sid)) is not None]
            sessions = [local.session for local in known]
            if not sessions:
                return
            try:
                registered = await self._state.register(self._leases.lease(), sessions)
            except LeaseLost as error:
                self._leases.hurry()
                raise StateUnavailable(str(error)) from error
        self.counts["reregistered"] += len(sessions)
        for session, outcome in zip(sessions, registered.outcomes, strict=True):
            if outcome is Outcome.REVOKED:
                await self._on_revoked(session.sid)

    async def _remove(self, sids: list[str]) -> None:
        known = self._sessions.known()
        with self._sessions.holding([sid for sid in sids if sid not in known]) as free:
            await self._state.unregister(free)
        self.counts["removed"] += len(free)

    async def _recheck_tokens(self) -> None:
        for batch in _batched(local.session for local in self._sessions):
            flags = await self._state.revoked([Token(s.user.id, s.jti, s.issued_at_ms) for s in batch])
            for session, revoked in zip(batch, flags, strict=True):
                local = self._sessions.get(session.sid)
                if revoked and local is not None and _same_token(local.session, session):
                    await self._on_revoked(session.sid)


def _same_token(one: Session, other: Session) -> bool:
    """A session may have brought a fresh token while the state was asked about the old one."""
    return (one.user.id, one.jti, one.issued_at_ms) == (other.user.id, other.jti, other.issued_at_ms)


def _portions(sessions: Iterable[Session]) -> Iterable[list[str]]:
    """Sids of a batch of sessions each, fewer if they are in very many rooms."""
    sids: list[str] = []
    rooms = 0
    for session in sessions:
        if sids and (len(sids) == BATCH or rooms + len(session.rooms) > ROOMS_AT_ONCE):
            yield sids
            sids, rooms = [], 0
        sids.append(session.sid)
        rooms += len(session.rooms)
    if sids:
        yield sids


def _batched(items: Iterable[_T], size: int = BATCH) -> Iterable[list[_T]]:
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch
