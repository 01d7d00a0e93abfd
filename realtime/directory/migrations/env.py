"""What Alembic runs: `realtime.directory.migrating` hands the connection over."""

from __future__ import annotations

from alembic import context

from realtime.directory.migrating import VERSION_TABLE
from realtime.directory.models import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
)
with context.begin_transaction():
    context.run_migrations()
