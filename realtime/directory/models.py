"""The tables, of users, memberships and messages; names are prefixed, for the database may be shared."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, MetaData, String, Table, Text

metadata = MetaData()

# Lengths in characters, as `realtime.ids.check_id` counts them.
_Id = String(256)

users = Table(
    "realtime_users",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("name", Text, nullable=False),
    Column("role", String(64), nullable=False),
    Column("profile_image_url", Text, nullable=False),
)

memberships = Table(
    "realtime_memberships",
    metadata,
    Column("channel_id", _Id, primary_key=True),
    Column("user_id", _Id, primary_key=True),
    Index("realtime_memberships_by_user", "user_id"),
)

messages = Table(
    "realtime_messages",
    metadata,
    Column("chat_id", _Id, primary_key=True),
    Column("message_id", _Id, primary_key=True),
    Column("text", Text, nullable=False),
)

# One row a status, and not a list in the message's row: adding one is an insert, which cannot lose another's.
message_statuses = Table(
    "realtime_message_statuses",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("chat_id", _Id, nullable=False),
    Column("message_id", _Id, nullable=False),
    Column("status", Text, nullable=False),
    Index("realtime_message_statuses_by_message", "chat_id", "message_id", "id"),
)
