"""Servers that tests share, and what a run says of the servers it did not find."""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
import redis
from hypothesis import HealthCheck, settings

from sim.processes.balancers import find_binary
from sim.processes.process import ProcessError
from sim.processes.redis import RedisServer, find_server, server_version
from tests.support.chromium import MISSING, find_chromium
from tests.support.node import NodeMissing, install_modules
from tests.support.node_client import NodeClient

# How long an example takes says something about the machine only.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
if settings.get_current_profile_name() == "default":  # who starts pytest may have chosen one
    settings.load_profile("any machine")

# A test that uses one of these, or has a parameter of that value, carries the marker.
_MARKER_OF_FIXTURE = {
    "redis_binary": "redis",
    "redis_url": "redis",
    "redis_server": "redis",
    "postgres_url": "postgres",
    "node_client": "node",
    "node_modules": "node",
}
_MARKER_OF_PARAMETER = {"redis": "redis", "postgres": "postgres", "postgresql": "postgres"}


# Its modules cannot even be imported without.
collect_ignore = [] if importlib.util.find_spec("playwright") else ["browser"]


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("servers")
    group.addoption(
        "--redis-binary",
        metavar="PATH",
        type=Path,
        help="start this Redis-compatible server, not the first found, and leave $REDIS_URL aside; write it with =",
    )
    parser.getgroup("browser").addoption(
        "--save-screenshots", action="store_true", help="tests/browser saves the page's pictures to reports/"
    )
    parser.getgroup("fuzzing").addoption(
        "--fuzz-cases", metavar="N", type=int, default=2000, help="how many hostile clients tests/wire tries"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a real server, before `-m` chooses."""
    for item in items:
        names = {_MARKER_OF_FIXTURE.get(name) for name in getattr(item, "fixturenames", ())}
        parameters = getattr(item, "callspec", None)
        values = parameters.params.values() if parameters else ()
        names |= {_MARKER_OF_PARAMETER.get(value) for value in values if isinstance(value, str)}
        for name in names - {None}:
            item.add_marker(str(name))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Name the servers used and those that other tests would need: nothing is left out in silence."""
    say = terminalreporter.write_line
    say("")
    if collect_ignore:
        say("not run: the page in a browser (no playwright; pip install -e '.[browser]')")
    elif find_chromium() is None:
        say(f"not run: the page in a browser ({MISSING})")
    for balancer in ("nginx", "haproxy"):
        if find_binary(balancer) is None:
            say(f"not run: instances behind {balancer} (not installed; .ci/run installs it on Debian)")
    if (url := _external_redis(config)) is not None:
        say(f"state tests ran on the server of $REDIS_URL, port {urlsplit(url).port or 6379}")
    else:
        try:
            binary = _chosen_binary(config)
        except ProcessError:
            return  # Each test that needed it failed and said so.
        used = server_version(binary)
        other = "Valkey" if used.product == "Redis" else "Redis 7"
        say(f"state tests ran on {used.product} {used.major}.{used.minor} ({binary})")
        say(f"not run: state tests on {other} (choose a server with --redis-binary=PATH; .ci/run tries both)")
    if not os.environ.get("TEST_POSTGRES_URL"):
        say(
            "not run: directory tests on PostgreSQL (give a server with TEST_POSTGRES_URL; .ci/run starts one)"
        )


def _external_redis(config: pytest.Config) -> str | None:
    return None if config.getoption("--redis-binary") else os.environ.get("REDIS_URL") or None


def _chosen_binary(config: pytest.Config) -> Path:
    chosen: Path | None = config.getoption("--redis-binary")
    if chosen is None:
        return find_server()
    if not server_version(chosen).product:
        raise ProcessError(f"--redis-binary={chosen} is no Redis-compatible server: give the path of one")
    return chosen


@pytest.fixture(scope="session")
def redis_binary(pytestconfig: pytest.Config) -> Path:
    """The server binary that tests start. Without one the test fails with a sentence that says what to do."""
    try:
        return _chosen_binary(pytestconfig)
    except ProcessError as missing:
        pytest.fail(str(missing), pytrace=False)


@pytest.fixture(scope="session")
def redis_url(pytestconfig: pytest.Config, request: pytest.FixtureRequest) -> Iterator[str]:
    """A real server for state tests: that of $REDIS_URL, else one of our own for the whole run.

    Shared, maybe with strangers: use keys with `redis_prefix` only, and never flush it. Tests of faults take
    `redis_server`.
    """
    if (url := _external_redis(pytestconfig)) is not None:
        yield url
        return
    with RedisServer(binary=request.getfixturevalue("redis_binary"), name="redis-shared") as server:
        yield server.url


@pytest.fixture
def redis_prefix(pytestconfig: pytest.Config) -> Iterator[str]:
    """A key prefix (`REDIS_KEY_PREFIX`) that no other test has; its keys are removed from an external server."""
    prefix = f"test-{secrets.token_hex(8)}"
    yield prefix
    if (url := _external_redis(pytestconfig)) is not None:
        with redis.Redis.from_url(url, socket_timeout=5) as client:
            for key in client.scan_iter(match=f"*{prefix}*", count=1000):
                client.unlink(key)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1, and its key."""
    if (openssl := shutil.which("openssl")) is None:
        pytest.fail("the tests of TLS make a certificate with openssl: install it", pytrace=False)
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "cert.pem", folder / "key.pem"
    command = [
        openssl,
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
    ]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    return certificate, key


@pytest.fixture
def redis_server(redis_binary: Path) -> Iterator[RedisServer]:
    """A server of the test's own, to kill, pause, empty and configure at will. Never an external one."""
    with RedisServer(binary=redis_binary) as server:
        yield server


@pytest.fixture
async def postgres_url() -> AsyncIterator[str]:
    """A fresh database on the PostgreSQL server of TEST_POSTGRES_URL, dropped afterwards."""
    given = os.environ.get("TEST_POSTGRES_URL")
    if not given:
        pytest.skip("not run: directory tests on PostgreSQL (TEST_POSTGRES_URL is not set)")
    server = urlsplit(given)._replace(scheme="postgresql")
    name = f"test_{secrets.token_hex(8)}"
    connection = await asyncpg.connect(server.geturl(), timeout=10)
    try:
        await connection.execute(f'CREATE DATABASE "{name}"')
        try:
            yield server._replace(path=f"/{name}").geturl()
        finally:
            await connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    finally:
        await connection.close()


@pytest.fixture(scope="session")
def node_modules() -> Path:
    """The installed packages of the JavaScript client. Without Node.js the test fails with a sentence."""
    try:
        return install_modules()
    except NodeMissing as missing:
        pytest.fail(str(missing), pytrace=False)


@pytest.fixture
async def node_client(node_modules: Path) -> AsyncIterator[NodeClient]:
    """One JavaScript client, not connected yet; tests that need more use `NodeClient` themselves."""
    async with NodeClient() as client:
        yield client
