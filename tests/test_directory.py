"""The directory, on memory, SQLite and PostgreSQL: who exists, who is where, and what happens when it fails."""

from __future__ import annotations

import asyncio
import math
import sqlite3
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, event, text

from realtime.directory import Directory, User
from realtime.directory.database import Database
from realtime.directory.memory import MemoryDirectory
from realtime.directory.migrating import VERSION_TABLE, migrate
from realtime.directory.models import metadata
from realtime.directory.sql import SqlDirectory
from realtime.errors import DirectoryUnavailable, SchemaMismatch, SettingsError
from tests.support.postgres import SQL_DATABASES
from tests.support.sqlite_threads import until_sqlite_threads_ended

ANN = User("ann", "Ann", "admin", "/ann.png")
BOB = User("bob", "Bob", "user", "/bob.png")


@pytest.fixture(params=SQL_DATABASES)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/directory.db"
    url: str = request.getfixturevalue("postgres_url")
    return url


@asynccontextmanager
async def started(url: str, *, demo: bool = False, timeout: float = 20.0) -> AsyncIterator[SqlDirectory]:
    """A directory on `url`; the time-out is long, as no test but those about it should meet it."""
    directory = SqlDirectory(url, demo=demo, timeout=timeout)
    try:
        await directory.start()
        yield directory
    finally:
        await directory.close()


@pytest.fixture(params=["memory", *SQL_DATABASES])
def make_directory(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[bool], Directory]:
    if request.param == "memory":
        return lambda demo: MemoryDirectory(auto_create=demo)
    if request.param == "sqlite":
        return lambda demo: SqlDirectory(f"sqlite:///{tmp_path}/directory.db", demo=demo, timeout=20)
    url = request.getfixturevalue("postgres_url")
    return lambda demo: SqlDirectory(url, demo=demo, timeout=20)


@pytest.fixture
async def directory(make_directory: Callable[[bool], Directory]) -> AsyncIterator[Directory]:
    made = make_directory(False)
    await made.start()
    yield made
    await made.close()


@pytest.fixture
async def demo(make_directory: Callable[[bool], Directory]) -> AsyncIterator[Directory]:
    made = make_directory(True)
    await made.start()
    yield made
    await made.close()


async def change(directory: Directory, method: str, *arguments: object) -> None:
    """Call one of the methods that change a directory: not part of the protocol, so one awaits, one does not."""
    result = getattr(directory, method)(*arguments)
    if isinstance(result, Awaitable):
        await result


@asynccontextmanager
async def locked(url: str) -> AsyncIterator[None]:
    """Somebody else keeps the database from being written, and PostgreSQL's tables from being read."""
    if url.startswith("sqlite"):
        other = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        try:
            yield
        finally:
            other.close()
        return
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE realtime_users, realtime_memberships")
            yield
    finally:
        await connection.close()


@pytest.fixture
async def silent_server() -> AsyncIterator[str]:
    """The address of a database server that accepts connections and never says a word."""
    stop = asyncio.Event()

    async def ignore(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await stop.wait()
        writer.close()

    server = await asyncio.start_server(ignore, "127.0.0.1", 0)
    yield f"postgresql://somebody:secret@127.0.0.1:{server.sockets[0].getsockname()[1]}/none"
    stop.set()
    server.close()


async def test_unknown_users_and_channels_are_nothing_and_no_error(directory: Directory) -> None:
    assert await directory.login("nobody") is None
    assert await directory.channels("nobody") == frozenset()


async def test_login_is_user_and_channels_together(directory: Directory) -> None:
    await change(directory, "add_user", ANN)
    await change(directory, "add_user", BOB)
    for channel_id, user_id in (("c1", "ann"), ("c2", "ann"), ("c2", "bob")):
        await change(directory, "add_member", channel_id, user_id)
    assert await directory.login("ann") == (ANN, frozenset({"c1", "c2"}))
    assert await directory.login("bob") == (BOB, frozenset({"c2"}))
    assert await directory.channels("ann") == {"c1", "c2"}


async def test_changes_are_seen_by_the_next_look_up(directory: Directory) -> None:
    await change(directory, "add_user", ANN)
    for _ in range(2):
        await change(directory, "add_member", "c1", "ann")
    assert await directory.channels("ann") == {"c1"}
    await change(directory, "remove_member", "c1", "ann")
    await change(directory, "remove_member", "c1", "ann")
    assert await directory.channels("ann") == frozenset()
    await change(directory, "add_user", User("ann", "Anne", "user", ""))
    assert await directory.login("ann") == (User("ann", "Anne", "user", ""), frozenset())


async def test_a_directory_that_is_no_demo_makes_nobody_up(directory: Directory) -> None:
    assert await directory.login("ann") is None
    assert await directory.channels("ann") == frozenset()


async def test_in_a_demo_a_user_exists_from_the_first_login_on(demo: Directory) -> None:
    assert await demo.channels("ann") == frozenset()
    first = await demo.login("ann")
    assert first is not None
    assert (first[0].id, first[0].name, first[0].role) == ("ann", "ann", "user")
    assert first[1] == {"general"}
    assert await demo.login("ann") == first
    assert await demo.channels("ann") == {"general"}


async def test_a_demo_leaves_users_that_exist_as_they_are(demo: Directory) -> None:
    await change(demo, "add_user", ANN)
    await change(demo, "add_member", "c1", "ann")
    assert await demo.login("ann") == (ANN, frozenset({"c1"}))


@pytest.mark.parametrize("name", ["'; DROP TABLE realtime_users; --", "%s :x ?", "☃ ünï", "x" * 256, "a\\b"])
async def test_odd_identifiers_are_data(demo: Directory, name: str) -> None:
    login = await demo.login(name)
    assert login is not None
    assert login[0].id == name
    assert await demo.channels(name) == login[1] == {"general"}


async def test_what_was_written_is_there_after_a_restart(database_url: str) -> None:
    async with started(database_url) as directory:
        await directory.add_user(ANN)
        await directory.add_member("c1", "ann")
    async with started(database_url) as directory:
        assert await directory.login("ann") == (ANN, frozenset({"c1"}))


@pytest.mark.parametrize("demo", [False, True])
async def test_a_storm_of_logins_costs_a_few_statements_not_one_each(database_url: str, demo: bool) -> None:
    async with started(database_url, demo=demo) as directory:
        statements: list[str] = []
        event.listen(
            directory.database.engine.sync_engine,
            "before_cursor_execute",
            lambda _c, _cursor, statement, *_rest: statements.append(statement),
        )
        logins = await asyncio.gather(*(directory.login(f"user-{number}") for number in range(2000)))
        assert sum(login is not None for login in logins) == (2000 if demo else 0)
        assert len(statements) <= math.ceil(2000 / 512) * (4 if demo else 2)


async def test_two_instances_that_see_the_same_new_users_agree(database_url: str) -> None:
    async with started(database_url, demo=True) as one, started(database_url, demo=True) as two:
        names = [f"user-{number}" for number in range(300)]
        answers = await asyncio.gather(
            *(one.login(name) for name in names), *(two.login(name) for name in reversed(names))
        )
        assert answers[:300] == answers[:299:-1]
        assert await asyncio.gather(*map(two.channels, names)) == [{"general"}] * len(names)


async def test_instances_that_start_at_once_on_an_empty_database_all_succeed(database_url: str) -> None:
    async with AsyncExitStack() as stack:
        directories = [SqlDirectory(database_url, demo=True, timeout=20) for _ in range(6)]
        for directory in directories:
            stack.push_async_callback(directory.close)
        await asyncio.gather(*(directory.start() for directory in directories))
        logins = await asyncio.gather(*(directory.login("ann") for directory in directories))
        assert None not in logins


async def test_a_start_waits_until_another_process_lets_go_of_a_new_file(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("CREATE TABLE anything (x)")
    # A reader in the old journal mode keeps the mode from being changed.
    other.execute("BEGIN")
    other.execute("SELECT * FROM anything").fetchall()
    directory = SqlDirectory(f"sqlite:///{path}", timeout=0.2)
    refusals: list[object] = []
    event.listen(directory.database.engine.sync_engine, "handle_error", refusals.append)
    start = asyncio.create_task(directory.start())
    async with asyncio.timeout(10):
        while not refusals and not start.done():
            await asyncio.sleep(0.001)
    other.close()
    await start
    assert refusals
    await directory.close()


async def test_the_migrations_make_exactly_the_tables_of_the_models(database_url: str) -> None:
    await migrate(database_url)
    await migrate(database_url)

    def differences(connection: Connection) -> list[object]:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        return list(compare_metadata(context, metadata))

    database = Database(database_url)
    try:
        async with database.engine.connect() as connection:
            assert await connection.run_sync(differences) == []
    finally:
        await database.close()


async def test_a_database_of_a_newer_version_is_left_alone(database_url: str) -> None:
    await migrate(database_url)
    database = Database(database_url)
    try:
        async with database.engine.begin() as connection:
            await connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
        with pytest.raises(SchemaMismatch, match="newer"):
            await migrate(database_url)
    finally:
        await database.close()


async def test_the_event_loop_runs_on_while_the_database_makes_us_wait(database_url: str) -> None:
    async with started(database_url, demo=True) as directory:
        async with locked(database_url):
            login = asyncio.create_task(directory.login("ann"))
            # The lock is only released below: had the query stopped the loop, it could never succeed.
            for _ in range(1000):
                await asyncio.sleep(0)
            assert not login.done()
        assert await login is not None


async def test_a_wait_for_a_lock_ends_at_the_time_out_and_all_is_well_afterwards(database_url: str) -> None:
    async with started(database_url, demo=True, timeout=0.5) as directory:
        async with locked(database_url):
            async with asyncio.timeout(20):
                results = await asyncio.gather(
                    *(directory.login(f"user-{number}") for number in range(20)), return_exceptions=True
                )
            assert {type(result) for result in results} == {DirectoryUnavailable}
        async with asyncio.timeout(20):
            while True:
                try:
                    assert await directory.login("ann") is not None
                except DirectoryUnavailable:
                    continue
                break


async def test_a_failing_query_fails_every_caller_and_the_next_one_works(database_url: str) -> None:
    async with started(database_url) as directory:
        async with directory.database.engine.begin() as connection:
            await connection.execute(text("ALTER TABLE realtime_users RENAME TO elsewhere"))
        async with asyncio.timeout(20):
            results = await asyncio.gather(
                *(directory.login(f"user-{number}") for number in range(20)), return_exceptions=True
            )
        assert {type(result) for result in results} == {DirectoryUnavailable}
        async with directory.database.engine.begin() as connection:
            await connection.execute(text("ALTER TABLE elsewhere RENAME TO realtime_users"))
        assert await directory.login("ann") is None


async def test_an_identifier_the_database_refuses_is_a_typed_error(database_url: str) -> None:
    async with started(database_url, demo=True) as directory:
        with pytest.raises(DirectoryUnavailable):
            await directory.login("a\ud800")


async def test_closing_fails_a_look_up_that_waits(database_url: str) -> None:
    async with started(database_url, demo=True) as directory:
        async with locked(database_url):
            login = asyncio.create_task(directory.login("ann"))
            for _ in range(100):
                await asyncio.sleep(0)
            closing = asyncio.create_task(directory.close())
            async with asyncio.timeout(10):
                with pytest.raises(DirectoryUnavailable):
                    await login
        await closing


if "postgresql" in SQL_DATABASES:

    async def test_lost_connections_are_replaced_unseen(postgres_url: str) -> None:
        async with started(postgres_url, demo=True) as directory:
            await asyncio.gather(directory.login("ann"), directory.login("bob"), directory.channels("ann"))
            other = await asyncpg.connect(postgres_url)
            await other.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            await other.close()
            assert await directory.login("ann") is not None
            assert await directory.channels("ann") == {"general"}

    async def test_a_migration_that_failed_leaves_nothing_behind(postgres_url: str) -> None:
        connection = await asyncpg.connect(postgres_url)
        try:
            await connection.execute("CREATE TABLE realtime_messages (id integer)")
            with pytest.raises(DirectoryUnavailable, match="realtime_messages"):
                await migrate(postgres_url)
            assert (
                await connection.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 1
            )
            await connection.execute("DROP TABLE realtime_messages")
        finally:
            await connection.close()
        await migrate(postgres_url)


async def test_a_server_that_never_answers_is_waited_for_in_bounds(silent_server: str) -> None:
    directory = SqlDirectory(silent_server, timeout=0.2)
    async with asyncio.timeout(20):
        with pytest.raises(DirectoryUnavailable):
            await directory.login("ann")
        with pytest.raises(DirectoryUnavailable, match=r"within 0\.2 s"):
            await directory.channels("ann")
        with pytest.raises(DirectoryUnavailable, match="could not be migrated"):
            await migrate(silent_server, timeout=0.2)
        await directory.close()


async def test_a_database_out_of_reach_is_a_typed_error_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(DirectoryUnavailable, match=r"/missing/x\.db") as caught:
        await SqlDirectory(f"sqlite:///{tmp_path}/missing/x.db").start()
    # Port 1 on loopback: nothing listens there.
    directory = SqlDirectory("postgresql://somebody:s3cret@127.0.0.1:1/none", timeout=10)
    for call in (directory.start, lambda: directory.channels("ann")):
        with pytest.raises(DirectoryUnavailable) as caught:
            await call()
        assert "s3cret" not in str(caught.value)
    await directory.close()
    await until_sqlite_threads_ended()


async def test_work_that_does_not_react_to_being_cancelled_is_abandoned_at_the_time_out(
    tmp_path: Path,
) -> None:
    database = Database(f"sqlite:///{tmp_path}/x.db", timeout=0.1)
    release = asyncio.Event()

    async def stubborn(_connection: object) -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    async with asyncio.timeout(10):
        with pytest.raises(DirectoryUnavailable, match=r"within 0\.1 s"):
            await database.read(stubborn)
    release.set()
    await database.close()


@pytest.fixture
def without_asyncpg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "asyncpg", None)


@pytest.mark.usefixtures("without_asyncpg")
def test_a_missing_driver_is_named_with_what_to_install() -> None:
    with pytest.raises(SettingsError, match=r"DATABASE_URL.*asyncpg.*pip install"):
        SqlDirectory("postgresql://somebody@127.0.0.1/none")


def test_an_address_of_no_known_database_is_refused() -> None:
    with pytest.raises(SettingsError, match="DATABASE_URL"):
        SqlDirectory("mysql://somebody@127.0.0.1/none")


async def test_what_is_wrong_with_the_database_is_for_the_log_and_not_for_clients(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with started(database_url) as it:
        async with it.database.engine.begin() as connection:
            await connection.execute(text("DROP TABLE realtime_memberships"))
            await connection.execute(text("DROP TABLE realtime_users"))
        for _ in range(2):
            with pytest.raises(DirectoryUnavailable) as refused:
                await it.login("ann")
            assert str(refused.value) == DirectoryUnavailable.advice
    told = [
        record
        for record in caplog.records
        if record.levelname == "WARNING" and "realtime_users" in record.message
    ]
    assert len(told) == 1
