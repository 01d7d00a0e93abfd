"""The message store of the demo application: in the same database as the SQL directory."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import insert, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from realtime.directory.database import Database
from realtime.directory.models import message_statuses, messages
from realtime.messages import Message
from realtime.messages.checking import check_key, checked_text, status_from_json, status_to_json


class SqlMessageStore:
    """A `MessageStore` in `database`, which must have been started (by its directory, usually)."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._insert = sqlite.insert if database.is_sqlite else postgresql.insert

    async def append(self, chat_id: str, message_id: str, text: str) -> None:
        await self._put(chat_id, message_id, text, keep=True)

    async def replace(self, chat_id: str, message_id: str, text: str) -> None:
        await self._put(chat_id, message_id, text, keep=False)

    async def add_status(self, chat_id: str, message_id: str, status: Mapping[str, object]) -> None:
        check_key(chat_id, message_id)
        row = {"chat_id": chat_id, "message_id": message_id, "status": status_to_json(status)}

        async def write(connection: AsyncConnection) -> None:
            await connection.execute(insert(message_statuses), row)

        await self._database.write(write)

    async def read(self, chat_id: str, message_id: str) -> Message | None:
        check_key(chat_id, message_id)
        text_query = select(messages.c.text).where(
            messages.c.chat_id == chat_id, messages.c.message_id == message_id
        )
        status_query = (
            select(message_statuses.c.status)
            .where(message_statuses.c.chat_id == chat_id, message_statuses.c.message_id == message_id)
            .order_by(message_statuses.c.id)
        )

        async def query(connection: AsyncConnection) -> Message | None:
            text = (await connection.execute(text_query)).scalar_one_or_none()
            statuses = tuple(map(status_from_json, (await connection.execute(status_query)).scalars()))
            if text is None and not statuses:
                return None
            return Message(chat_id, message_id, text or "", statuses)

        return await self._database.read(query)

    async def _put(self, chat_id: str, message_id: str, text: str, *, keep: bool) -> None:
        check_key(chat_id, message_id)
        statement = self._insert(messages).values(
            chat_id=chat_id, message_id=message_id, text=checked_text(text)
        )
        new = statement.excluded.text
        # The database joins the texts: two writers cannot overwrite each other's piece.
        statement = statement.on_conflict_do_update(
            index_elements=[messages.c.chat_id, messages.c.message_id],
            set_={"text": messages.c.text + new if keep else new},
        )

        async def write(connection: AsyncConnection) -> None:
            await connection.execute(statement)

        await self._database.write(write)
