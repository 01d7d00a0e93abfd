"""Alembic migrations run from the program, safely when several instances start at once."""

from __future__ import annotations

import asyncio
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util.exc import CommandError
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from realtime.errors import DirectoryUnavailable, SchemaMismatch
from realtime.urls import async_database_url, redacted

VERSION_TABLE = "realtime_alembic_version"
# Any number that nobody else is likely to lock in the same database ("rtmigrat" as bytes).
_ADVISORY_LOCK = 0x72746D6967726174


async def migrate(url: str, *, timeout: float = 30.0, revision: str = "head") -> None:
    """Bring the database's tables to `revision`; all in one transaction, so a failure changes nothing.

    Alembic reads files and works synchronously: it runs in a thread, on an event loop of its own.

    Raises:
        DirectoryUnavailable: the database cannot be reached, or others kept it locked for `timeout` seconds.
        SchemaMismatch: a newer version of this package has migrated the database.
    """
    address = async_database_url(url)
    try:
        await asyncio.to_thread(lambda: asyncio.run(_upgrade(address, timeout, revision)))
    except CommandError as error:
        raise SchemaMismatch(
            "The database was migrated by a newer version of this software: start that version instead."
        ) from error
    except TimeoutError as error:
        raise DirectoryUnavailable(
            f"The database at {redacted(url)} could not be migrated within {timeout:g} s."
        ) from error
    except Exception as error:
        reason = error.orig if isinstance(error, DBAPIError) else error
        raise DirectoryUnavailable(
            f"The database at {redacted(url)} could not be migrated: {type(reason).__name__}: {reason}"
        ) from error


async def _upgrade(url: str, timeout: float, revision: str) -> None:
    engine = create_async_engine(url, poolclass=NullPool)
    try:
        async with asyncio.timeout(timeout), engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                # Held until the transaction ends, however it ends: a crash in between leaves no lock behind.
                await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
            await connection.run_sync(_run_alembic, revision)
    finally:
        await engine.dispose()


def _run_alembic(connection: Connection, revision: str) -> None:
    config = Config()
    # A "%" would be taken for the start of a placeholder.
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)
