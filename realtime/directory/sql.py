"""The directory in a real database: SQLite or PostgreSQL through SQLAlchemy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from sqlalchemy import Table, bindparam, delete, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from realtime.directory import User
from realtime.directory.batching import Batcher
from realtime.directory.database import Database
from realtime.directory.memory import DEMO_CHANNEL, demo_user
from realtime.directory.models import memberships, users

Login: TypeAlias = tuple[User, frozenset[str]]

_USERS = select(users.c.id, users.c.name, users.c.role, users.c.profile_image_url).where(
    users.c.id.in_(bindparam("ids", expanding=True))
)
_MEMBERSHIPS = select(memberships.c.user_id, memberships.c.channel_id).where(
    memberships.c.user_id.in_(bindparam("ids", expanding=True))
)


class SqlDirectory:
    """A `Directory` in the database at `url` (the setting DATABASE_URL).

    Look-ups of users that happen at the same time share queries, at most `max_batch` users each. With `demo`
    a user exists from its first `login` on and is a member of `general`. `timeout` bounds every call, in
    seconds.
    """

    def __init__(self, url: str, *, demo: bool = False, timeout: float = 2.0, max_batch: int = 512) -> None:
        self.database = Database(url, timeout=timeout)
        self._insert = sqlite.insert if self.database.is_sqlite else postgresql.insert
        fetch = self._fetch_or_create if demo else self._fetch
        self._logins: Batcher[str, Login] = Batcher(fetch, timeout=timeout, max_batch=max_batch)
        self._channels: Batcher[str, frozenset[str]] = Batcher(
            self._fetch_channels, timeout=timeout, max_batch=max_batch
        )

    async def login(self, user_id: str) -> tuple[User, frozenset[str]] | None:
        return await self._logins.load(user_id)

    async def channels(self, user_id: str) -> frozenset[str]:
        return await self._channels.load(user_id) or frozenset()

    async def add_user(self, user: User) -> None:
        """Add the user, or replace what is known of it."""
        row = _row(user)
        statement = self._insert(users).values(row)
        statement = statement.on_conflict_do_update(index_elements=[users.c.id], set_=row)

        async def write(connection: AsyncConnection) -> None:
            await connection.execute(statement)

        await self.database.write(write)

    async def add_member(self, channel_id: str, user_id: str) -> None:
        await self._add_rows([(memberships, [{"channel_id": channel_id, "user_id": user_id}])])

    async def remove_member(self, channel_id: str, user_id: str) -> None:
        statement = delete(memberships).where(
            memberships.c.channel_id == channel_id, memberships.c.user_id == user_id
        )

        async def write(connection: AsyncConnection) -> None:
            await connection.execute(statement)

        await self.database.write(write)

    async def start(self) -> None:
        await self.database.start()

    async def close(self) -> None:
        await self._logins.close()
        await self._channels.close()
        await self.database.close()

    async def _fetch(self, user_ids: list[str]) -> Mapping[str, Login]:
        parameters = {"ids": _padded(user_ids)}

        async def query(connection: AsyncConnection) -> dict[str, Login]:
            found = (await connection.execute(_USERS, parameters)).all()
            channels = await _channels_of(connection, parameters)
            return {row[0]: (User(*row), channels.get(row[0], frozenset())) for row in found}

        return await self.database.read(query)

    async def _fetch_channels(self, user_ids: list[str]) -> Mapping[str, frozenset[str]]:
        parameters = {"ids": _padded(user_ids)}
        return await self.database.read(lambda connection: _channels_of(connection, parameters))

    async def _fetch_or_create(self, user_ids: list[str]) -> Mapping[str, Login]:
        found = await self._fetch(user_ids)
        # Sorted, as two instances that insert the same users in different orders could lock each other out.
        missing = sorted(user_id for user_id in user_ids if user_id not in found)
        if not missing:
            return found
        await self._add_rows(
            [
                (users, [_row(demo_user(user_id)) for user_id in missing]),
                (memberships, [{"channel_id": DEMO_CHANNEL, "user_id": user_id} for user_id in missing]),
            ]
        )
        # Not read again: where another instance was first, it made up the same.
        made_up = {user_id: (demo_user(user_id), frozenset({DEMO_CHANNEL})) for user_id in missing}
        return {**found, **made_up}

    async def _add_rows(self, additions: Sequence[tuple[Table, list[dict[str, str]]]]) -> None:
        async def write(connection: AsyncConnection) -> None:
            for table, rows in additions:
                await connection.execute(self._insert(table).on_conflict_do_nothing(), rows)

        await self.database.write(write)


async def _channels_of(
    connection: AsyncConnection, parameters: Mapping[str, object]
) -> dict[str, frozenset[str]]:
    channels: dict[str, list[str]] = {}
    for user_id, channel_id in await connection.execute(_MEMBERSHIPS, parameters):
        channels.setdefault(user_id, []).append(channel_id)
    return {user_id: frozenset(names) for user_id, names in channels.items()}


def _row(user: User) -> dict[str, str]:
    return {
        "id": user.id,
        "name": user.name,
        "role": user.role,
        "profile_image_url": user.profile_image_url,
    }


def _padded(values: list[str]) -> list[str]:
    """`values` with the last repeated up to a power of two: few statements of different shape to prepare."""
    return values + values[-1:] * ((1 << (len(values) - 1).bit_length()) - len(values))
