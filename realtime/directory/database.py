"""The database behind the SQL directory and message store: every access is off the event loop and bounded."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.schema import CreateIndex, CreateTable

from realtime.directory.migrating import migrate
from realtime.directory.models import metadata
from realtime.errors import DirectoryUnavailable, RealtimeError, SettingsError
from realtime.urls import async_database_url, redacted

log = logging.getLogger(__name__)

T = TypeVar("T")

_POOL_SIZE = 4


class Database:
    """One engine for one database.

    `url` as in the setting DATABASE_URL; `timeout` bounds each piece of work, in seconds, `start_timeout` the
    creation or migration of tables.

    Raises:
        SettingsError: `url` is not usable, or the driver for it is not installed.
    """

    def __init__(self, url: str, *, timeout: float = 2.0, start_timeout: float = 30.0) -> None:
        self._timeout = timeout
        self._start_timeout = start_timeout
        self._tasks: set[asyncio.Task[Any]] = set()
        self._failing = False
        try:
            self.url = async_database_url(url)
        except ValueError:
            raise SettingsError("DATABASE_URL: no address of an SQLite file or of PostgreSQL") from None
        self.is_sqlite = self.url.startswith("sqlite")
        self.engine = self._create_engine()
        self._writer = self.engine.execution_options(
            isolation_level="SERIALIZABLE" if self.is_sqlite else "READ COMMITTED"
        )

    def _create_engine(self) -> AsyncEngine:
        options: dict[str, object] = {
            "pool_size": _POOL_SIZE,
            "max_overflow": 0,
            "pool_timeout": self._timeout,
            # Single statements need no transaction; that saves the round trips that begin and end one.
            "isolation_level": "AUTOCOMMIT",
            "skip_autocommit_rollback": True,
        }
        if self.is_sqlite:
            # SQLite gives up waiting for another process' lock before we give up waiting for SQLite.
            options["connect_args"] = {"timeout": self._timeout * 0.8}
        else:
            # One more round trip for each batch; without it every connection of the pool fails once after
            # the server was restarted.
            options["pool_pre_ping"] = True
        try:
            engine = create_async_engine(self.url, **options)
        except ModuleNotFoundError as error:
            raise SettingsError(
                f"DATABASE_URL: driver {error.name!r} is not installed; pip install 'realtime-lab[postgres]'"
            ) from error
        if self.is_sqlite:
            event.listen(engine.sync_engine, "connect", _set_up_sqlite)
        return engine

    async def start(self) -> None:
        """Create the tables (SQLite) or migrate them; several instances may do so at once.

        Raises:
            DirectoryUnavailable: the database cannot be reached or its lock was not to be had.
            SchemaMismatch: a newer version of this package has migrated the database.
        """
        if self.is_sqlite:
            await self._create_tables()
        else:
            await migrate(self.url, timeout=self._start_timeout)

    async def read(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Run `work` without a transaction around its statements.

        Raises:
            DirectoryUnavailable: it failed or took longer than the time-out.
        """

        async def connected() -> T:
            async with self.engine.connect() as connection:
                return await work(connection)

        return await self._bounded(connected(), self._timeout)

    async def write(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Run `work` in one transaction. Its first statement must write: SQLite refuses to upgrade a reader.

        Raises:
            DirectoryUnavailable: it failed, and then changed nothing; or it took longer than the time-out,
                and then the outcome is not known.
        """

        async def connected() -> T:
            async with self._writer.begin() as connection:
                return await work(connection)

        return await self._bounded(connected(), self._timeout)

    async def close(self) -> None:
        """End what is under way and close all connections."""
        for task in self._tasks:
            _cancel_once(task)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._timeout)
        await self._bounded(self.engine.dispose(), self._timeout)

    async def _create_tables(self) -> None:
        statements = [CreateTable(table, if_not_exists=True) for table in metadata.sorted_tables]
        indexes = [index for table in metadata.sorted_tables for index in table.indexes]

        async def create(connection: AsyncConnection) -> None:
            # Kept in the file; readers and one writer do not block each other, across processes.
            await connection.execute(text("PRAGMA journal_mode=WAL"))
            for statement in statements:
                await connection.execute(statement)
            for index in indexes:
                await connection.execute(CreateIndex(index, if_not_exists=True))

        async def create_patiently() -> None:
            # A file that others use refuses a change of its journal mode, after SQLite's own wait at the latest,
            # which is shorter than a start may take.
            while True:
                try:
                    async with self.engine.connect() as connection:
                        return await create(connection)
                except OperationalError as error:
                    if "locked" not in str(error.orig):
                        raise
                    await asyncio.sleep(0.02)

        await self._bounded(create_patiently(), self._start_timeout, starting=True)

    async def _bounded(
        self, work: Coroutine[object, object, T], timeout: float, *, starting: bool = False
    ) -> T:
        """Await `work` no longer than `timeout`, even if it does not react to being cancelled.

        A driver that is cancelled may itself wait for a server that is gone, so asyncio's own time-outs,
        which wait for what they cancelled to end, are no bound.
        """
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        try:
            await asyncio.wait({task}, timeout=timeout)
        finally:
            _cancel_once(task)
        if not task.done():
            self._tell(f"no answer within {timeout:g} s")
            raise DirectoryUnavailable(f"The database did not answer within {timeout:g} s.")
        try:
            answer = task.result()
        except asyncio.CancelledError:
            raise DirectoryUnavailable(
                "The user directory is closed: this instance is shutting down."
            ) from None
        except RealtimeError:
            raise
        except Exception as error:
            reason = error.orig if isinstance(error, DBAPIError) else error
            what = f"{type(reason).__name__}: {reason}"
            if starting:
                raise DirectoryUnavailable(f"The database at {redacted(self.url)} failed: {what}") from error
            self._tell(what)
            raise DirectoryUnavailable from error
        if self._failing:
            self._failing = False
            log.info("the database can be used again")
        return answer

    def _tell(self, what: str) -> None:
        """What went wrong is for the log, once per outage: clients are told only that something did."""
        level = logging.DEBUG if self._failing else logging.WARNING
        self._failing = True
        log.log(level, "the database at %s cannot be used: %s", redacted(self.url), what)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # what an abandoned task died of is told nobody twice


def _cancel_once(task: asyncio.Task[Any]) -> None:
    # Cancelled again while it closes its connection, aiosqlite waits for ever for a thread that has ended.
    if not task.cancelling():
        task.cancel()


def _set_up_sqlite(connection: object, _record: object) -> None:
    # In WAL mode a crash of the process loses nothing; a power cut may lose the last transactions, no more.
    connection.execute("PRAGMA synchronous=NORMAL").close()  # type: ignore[attr-defined]
