"""Who the users are and which channels they belong to: what an application plugs in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class User:
    """A user as clients see it; `role` is the application's word ("user", "admin", …)."""

    id: str
    name: str
    role: str
    profile_image_url: str


class Directory(Protocol):
    """Looks users and channels up.

    Every method answers or raises `DirectoryUnavailable` within a bounded time, and does not block the event
    loop. Identifiers were checked by `realtime.ids.check_id`.
    """

    async def channels(self, user_id: str) -> frozenset[str]:
        """Ids of the channels that the user is a member of; empty for an unknown user."""
        ...

    async def login(self, user_id: str) -> tuple[User, frozenset[str]] | None:
        """User and channels in one look-up, for a session that is being opened; None for an unknown user.

        A connect storm calls this once for each socket, all at the same time.
        """
        ...

    async def start(self) -> None:
        """Make ready: connect, create what is missing."""
        ...

    async def close(self) -> None:
        """Give everything back; calls that still wait fail."""
        ...
