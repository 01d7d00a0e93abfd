"""Closes what was revoked, however the news and a registration cross."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable

from realtime.errors import StateUnavailable
from realtime.replica import Difference, Replica
from realtime.sessions import LocalSessions
from realtime.state import Registered, Session, State, Token
from realtime.tasks import Supervisor

log = logging.getLogger(__name__)

REMEMBERED = 1000
MISSED = ("missed", None)


class Revocations:
    """``close(sid)`` ends a session whose token was revoked; ``recheck()`` asks for all when news were missed."""

    def __init__(
        self,
        state: State,
        sessions: LocalSessions,
        replica: Replica,
        tasks: Supervisor,
        *,
        close: Callable[[str], Awaitable[None]],
        recheck: Callable[[], None],
    ) -> None:
        self._state = state
        self._sessions = sessions
        self._replica = replica
        self._tasks = tasks
        self._close = close
        self._recheck = recheck
        self._recent: deque[tuple[int, tuple[str, str | None]]] = deque(maxlen=REMEMBERED)

    def on_difference(self, difference: Difference) -> None:
        if difference.fresh:
            self._recent.clear()
        version = self._replica.version
        if difference.missed:
            self._recent.append((version, MISSED))
            self._recheck()
        if not difference.revoked_tokens and not difference.revoked_users:
            return
        self._recent.extend((version, ("jti", jti)) for jti in difference.revoked_tokens)
        self._recent.extend((version, ("user", user)) for user in difference.revoked_users)
        sids = {sid for jti in difference.revoked_tokens for sid in self._sessions.of_token(jti)}
        sids.update(sid for user_id in difference.revoked_users for sid in self._sessions.of_user(user_id))
        hit = [local.session for sid in sorted(sids) if (local := self._sessions.get(sid)) is not None]
        if hit:
            self._tasks.once("close-revoked", self._close_revoked(hit))

    async def hit(self, session: Session, registered: Registered) -> bool:
        """Whether its token was revoked after it was registered: the news, or their loss, came before the answer, when
        the session was not known here yet. Raises ``StateUnavailable``."""
        if registered.epoch == self._replica.epoch and not self._named_since(registered.version, session):
            return False
        return (await self._state.revoked([_token(session)]))[0]

    def _named_since(self, version: int, session: Session) -> bool:
        named = {("jti", session.jti), ("user", session.user.id), MISSED}
        for at, what in reversed(self._recent):
            if at <= version:
                return False
            if what in named:
                return True
        return len(self._recent) == REMEMBERED  # there was more than is remembered

    async def _close_revoked(self, sessions: list[Session]) -> None:
        # A session of a revoked user may have come with a token that is newer than that: the state knows.
        try:
            flags = await self._state.revoked([_token(session) for session in sessions])
        except StateUnavailable:
            self._recheck()
            return
        for session, revoked in zip(sessions, flags, strict=True):
            local = self._sessions.get(session.sid)
            if revoked and local is not None and _token(local.session) == _token(session):
                await self._close(session.sid)


def _token(session: Session) -> Token:
    return Token(session.user.id, session.jti, session.issued_at_ms)
