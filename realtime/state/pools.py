"""The seed's three pools, as readable views on the shared state: they show all instances."""

from __future__ import annotations

from typing import Any

from .types import Session, State


class SessionPool:
    """sid → ``{"id", "name", "role", "profile_image_url"}`` of its user."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def get(self, sid: str) -> dict[str, Any] | None:
        session = await self._state.session(sid)
        return None if session is None else _user(session)

    async def items(self) -> dict[str, dict[str, Any]]:
        """A copy of the whole pool."""
        return {sid: _user(session) for sid, session in (await self._state.sessions()).items()}

    async def keys(self) -> list[str]:
        return list(await self._state.sessions())


class UserPool:
    """User id → sids of the user's sessions, oldest first. A user is online iff it is in here."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def get(self, user_id: str) -> list[str]:
        return [session.sid for session in await self._state.sessions_of(user_id)]

    async def items(self) -> dict[str, list[str]]:
        """A copy of the whole pool."""
        return {user_id: list(sids) for user_id, sids in (await self._state.users()).items()}

    async def keys(self) -> list[str]:
        return list((await self._state.snapshot()).users)


class UsagePool:
    """Model → sid → ``{"until_ms"}``: until when, by Redis' clock, the session uses it."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def get(self, model: str) -> dict[str, dict[str, int]]:
        return (await self.items()).get(model, {})

    async def items(self) -> dict[str, dict[str, dict[str, int]]]:
        """A copy of the whole pool."""
        usage = await self._state.usage()
        return {model: {sid: {"until_ms": end} for sid, end in sids.items()} for model, sids in usage.items()}

    async def keys(self) -> list[str]:
        return await self._state.models_in_use()


def _user(session: Session) -> dict[str, Any]:
    user = session.user
    return {"id": user.id, "name": user.name, "role": user.role, "profile_image_url": user.profile_image_url}
