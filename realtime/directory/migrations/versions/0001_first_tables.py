"""The first tables: users, memberships, messages and their statuses."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "realtime_users",
        sa.Column("id", sa.String(256), primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("role", sa.String(64), nullable=False),
        sa.Column("profile_image_url", sa.Text, nullable=False),
    )
    op.create_table(
        "realtime_memberships",
        sa.Column("channel_id", sa.String(256), primary_key=True),
        sa.Column("user_id", sa.String(256), primary_key=True),
    )
    op.create_index("realtime_memberships_by_user", "realtime_memberships", ["user_id"])
    op.create_table(
        "realtime_messages",
        sa.Column("chat_id", sa.String(256), primary_key=True),
        sa.Column("message_id", sa.String(256), primary_key=True),
        sa.Column("text", sa.Text, nullable=False),
    )
    op.create_table(
        "realtime_message_statuses",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True
        ),
        sa.Column("chat_id", sa.String(256), nullable=False),
        sa.Column("message_id", sa.String(256), nullable=False),
        sa.Column("status", sa.Text, nullable=False),
    )
    op.create_index(
        "realtime_message_statuses_by_message", "realtime_message_statuses", ["chat_id", "message_id", "id"]
    )


def downgrade() -> None:
    op.drop_table("realtime_message_statuses")
    op.drop_table("realtime_messages")
    op.drop_table("realtime_memberships")
    op.drop_table("realtime_users")
