"""A directory in memory: for tests, simulation, and demos without a database."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from realtime.directory import User

DEMO_CHANNEL = "general"


def demo_user(user_id: str) -> User:
    """The user that a demo makes up for an id it has not seen."""
    return User(id=user_id, name=user_id, role="user", profile_image_url="/user.png")


class MemoryDirectory:
    """A `Directory` of what it was given.

    `channels` maps channel ids to their members' ids. With `auto_create` (demo) a user exists from its first
    `login` on and is a member of `general`.
    """

    def __init__(
        self,
        users: Iterable[User] = (),
        channels: Mapping[str, Iterable[str]] | None = None,
        *,
        auto_create: bool = False,
    ) -> None:
        self._auto_create = auto_create
        self._users = {user.id: user for user in users}
        self._channels: dict[str, set[str]] = {}
        for channel_id, members in (channels or {}).items():
            for user_id in members:
                self.add_member(channel_id, user_id)

    def add_user(self, user: User) -> None:
        """Add the user, or replace what is known of it."""
        self._users[user.id] = user

    def add_member(self, channel_id: str, user_id: str) -> None:
        self._channels.setdefault(user_id, set()).add(channel_id)

    def remove_member(self, channel_id: str, user_id: str) -> None:
        self._channels.get(user_id, set()).discard(channel_id)

    async def channels(self, user_id: str) -> frozenset[str]:
        return frozenset(self._channels.get(user_id, ()))

    async def login(self, user_id: str) -> tuple[User, frozenset[str]] | None:
        if self._auto_create and user_id not in self._users:
            self.add_user(demo_user(user_id))
            self.add_member(DEMO_CHANNEL, user_id)
        user = self._users.get(user_id)
        return None if user is None else (user, await self.channels(user_id))

    async def start(self) -> None:
        """Nothing to make ready."""

    async def close(self) -> None:
        """Nothing to give back."""
