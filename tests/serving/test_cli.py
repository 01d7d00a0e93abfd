"""The command line: every option, what is refused with which words, and tokens that work."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from realtime import __main__ as command
from realtime.auth import decode_token
from realtime.secret import DEMO_SECRET_KEY
from realtime.server import RealtimeServer
from sim.processes.process import free_port
from tests.support.stack import SECRET, client

KEY = {"WEBUI_SECRET_KEY": SECRET}


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (
        "WEBUI_SECRET_KEY",
        "DATABASE_URL",
        "WEBSOCKET_MANAGER",
        "WEBSOCKET_REDIS_URL",
        "REALTIME_DEMO",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def call(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(command.main, arguments, env=environment, prog_name="python -m realtime")


class Served:
    """Stands for the server: keeps what it was made of."""

    started = True

    def __init__(self, app: Any, **options: Any) -> None:
        self.realtime: RealtimeServer = app.state.realtime
        self.options = options

    def run(self) -> None:
        return None


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Served]:
    made: list[Served] = []

    def make(app: Any, **options: Any) -> Served:
        made.append(Served(app, **options))
        return made[-1]

    monkeypatch.setattr(command, "make_server", make)
    return made


@pytest.mark.parametrize("arguments", [("--help",), ("token", "--help")])
def test_help_needs_no_settings(arguments: Sequence[str]) -> None:
    result = call(*arguments, REALTIME_LEASE_SECONDS="nonsense")
    assert result.exit_code == 0
    assert "Usage: python -m realtime" in result.output


def test_help_names_every_option_and_where_settings_come_from() -> None:
    text = call("--help").output
    for option in ("--host", "--port", "--redis-url", "--database-url", "--demo", "--log-level", "token"):
        assert option in text
    assert "environment" in text


def test_without_options_it_is_one_instance_alone_on_loopback(served: list[Served]) -> None:
    result = call(**KEY)
    assert result.exit_code == 0, result.output
    settings = served[0].realtime.settings
    assert served[0].options == {"host": "127.0.0.1", "port": 8080, "log_level": "info"}
    assert (settings.websocket_manager, settings.redis_url, settings.demo) == ("", None, False)


def test_every_option_arrives(served: list[Served]) -> None:
    options = "--host 10.1.2.3 --port 0 --redis-url valkey://r:7/2 --database-url sqlite:////tmp/x.db --log-level error"
    assert call(*options.split(), **KEY).exit_code == 0
    settings = served[0].realtime.settings
    assert served[0].options == {"host": "10.1.2.3", "port": 0, "log_level": "error"}
    assert (settings.websocket_manager, settings.redis_url) == ("redis", "redis://r:7/2")
    assert settings.async_database_url == "sqlite+aiosqlite:////tmp/x.db"


def test_an_option_goes_before_the_environment(served: list[Served]) -> None:
    environment = {"WEBSOCKET_MANAGER": "redis", "WEBSOCKET_REDIS_URL": "redis://environment:1/0"}
    assert call("--redis-url", "redis://option:1/0", **environment, **KEY).exit_code == 0
    assert call(**environment, **KEY).exit_code == 0
    assert [it.realtime.settings.redis_url for it in served] == [
        "redis://option:1/0",
        "redis://environment:1/0",
    ]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.8.8.8"])
def test_a_demo_needs_no_key_and_serves_loopback(served: list[Served], host: str) -> None:
    assert call("--demo", "--host", host).exit_code == 0
    assert served[0].realtime.settings.demo


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "example.org", "0"])
def test_a_demo_on_any_other_address_is_refused(served: list[Served], host: str) -> None:
    result = call("--demo", "--host", host)
    assert result.exit_code == 2
    assert "REALTIME_DEMO" in result.output
    assert "127.0.0.1" in result.output
    assert not served


@pytest.mark.parametrize(
    ("arguments", "environment", "named"),
    [
        ((), {}, "WEBUI_SECRET_KEY: missing"),
        ((), {"WEBUI_SECRET_KEY": "short"}, "WEBUI_SECRET_KEY"),
        ((), {"WEBUI_SECRET_KEY": "a" * 64}, "WEBUI_SECRET_KEY"),
        ((), {"WEBUI_SECRET_KEY": DEMO_SECRET_KEY}, "WEBUI_SECRET_KEY"),
        (("token", "u"), {}, "WEBUI_SECRET_KEY"),
        ((), KEY | {"REALTIME_LEASE_SECONDS": "soon"}, "REALTIME_LEASE_SECONDS"),
        ((), KEY | {"ENABLE_WEBSOCKET_SUPPORT": "perhaps"}, "ENABLE_WEBSOCKET_SUPPORT"),
        ((), KEY | {"WEBSOCKET_MANAGER": "rabbitmq"}, "WEBSOCKET_MANAGER"),
        ((), KEY | {"WEBSOCKET_MANAGER": "redis"}, "WEBSOCKET_REDIS_URL"),
        ((), KEY | {"CORS_ALLOW_ORIGIN": "nonsense"}, "CORS_ALLOW_ORIGIN"),
        (("--redis-url", "http://user:hidden@h"), KEY, "WEBSOCKET_REDIS_URL"),
        (("--redis-url", "redis://user:hidden@h/0?x=y"), KEY, "WEBSOCKET_REDIS_URL"),
        (("--database-url", "mysql://user:hidden@h/d"), KEY, "DATABASE_URL"),
        (("--port", "99999"), KEY, "--port"),
        (("--host", ""), KEY, "--host"),
        (("--log-level", "loud"), KEY, "--log-level"),
        (("--unknown",), KEY, "--unknown"),
        (("serve",), KEY, "serve"),
        (("token",), KEY, "USER_ID"),
        (("token", ""), KEY, "USER_ID"),
        (("token", "u\n"), KEY, "USER_ID"),
        (("token", "u" * 257), KEY, "USER_ID"),
        (("token", "u", "--expires-in", "0"), KEY, "--expires-in"),
        (("token", "u", "--expires-in", "-5"), KEY, "--expires-in"),
        (("token", "u", "--expires-in", "soon"), KEY, "--expires-in"),
        (("token", "u", "--expires-in", "nan"), KEY, "expires_in"),
        (("token", "u", "--expires-in", "1e300"), KEY, "expires_in"),
    ],
)
def test_a_wrong_value_ends_with_status_2_and_its_name(
    served: list[Served], arguments: Sequence[str], environment: dict[str, str], named: str
) -> None:
    result = call(*arguments, **environment)
    assert result.exit_code == 2, result.output
    assert named in result.output
    assert "Traceback" not in result.output
    assert "hidden" not in result.output
    assert not served


def test_several_wrong_settings_are_told_together() -> None:
    output = call(**KEY, REALTIME_LEASE_SECONDS="x", CORS_ALLOW_ORIGIN="y").output
    assert "REALTIME_LEASE_SECONDS" in output
    assert "CORS_ALLOW_ORIGIN" in output


def test_a_token_is_signed_with_the_servers_key_and_for_the_time_given() -> None:
    result = call("token", "ann", "--expires-in", "60", **KEY)
    assert result.exit_code == 0
    claims = decode_token(result.output.strip(), SECRET)
    assert claims.user_id == "ann"
    assert claims.expires_at is not None
    assert 0 < claims.expires_at - time.time() <= 60
    assert claims.jti, "without one it could not be revoked"


def test_a_demos_token_is_signed_with_the_demos_key() -> None:
    assert decode_token(call("--demo", "token", "ann").output.strip(), DEMO_SECRET_KEY).user_id == "ann"


# What needs the real process.


def environment(**more: str) -> dict[str, str]:
    folder = str(Path(command.__file__).parent.parent)
    return {"PATH": "/usr/bin:/bin", "PYTHONPATH": folder, "WEBUI_SECRET_KEY": SECRET, **more}


def ended(*arguments: str, within: float, **more: str) -> tuple[int, str]:
    """Exit status and output of a process that must end by itself."""
    done = subprocess.run(
        [sys.executable, "-m", "realtime", "--port", "0", *arguments],
        env=environment(**more), capture_output=True, text=True, timeout=within, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@contextlib.contextmanager
def started(*arguments: str, **more: str) -> Iterator[str]:
    """The address that a process prints."""
    process = subprocess.Popen(
        [sys.executable, "-m", "realtime", "--port", "0", *arguments],
        env=environment(**more), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        found = re.fullmatch(r"listening on (http://\S+)\n", line)
        assert found, line
        yield found[1]
    finally:
        process.kill()
        process.wait(10)
        process.stdout.close()


def get(url: str) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.e2e
async def test_port_0_is_printed_and_one_instance_alone_works() -> None:
    with started("--log-level", "error") as url:
        assert get(f"{url}/health") == (200, {"up": True})
        status, facts = get(f"{url}/ready")
        assert (status, all(facts.values())) == (200, True)
        for unknown in ("/docs", "/openapi.json", "/"):
            assert get(url + unknown)[0] == 404


@pytest.mark.e2e
async def test_a_demo_takes_the_tokens_that_its_command_line_prints() -> None:
    token = call("--demo", "token", "ann").output.strip()
    with started("--demo", WEBUI_SECRET_KEY="") as url:
        async with (
            client(url, token=token) as ann,
            client(url, token=token, transports=("polling",)) as again,
        ):
            for each in (ann, again):
                await each.wait_for("user-list", lambda data: data == {"user_ids": ["ann"]})
            assert await ann.sio.call("join-channels", {"auth": {"token": token}}) == {
                "channels": ["general"]
            }


@pytest.mark.e2e
@pytest.mark.parametrize("log_level", ["info", "error"])
def test_redis_down_at_the_start_is_one_clear_sentence_within_bounds(log_level: str) -> None:
    port = free_port()
    url = f"redis://user:hidden@127.0.0.1:{port}/0"
    status, output = ended(
        "--redis-url", url, "--log-level", log_level, within=40, REALTIME_STATE_TIMEOUT_SECONDS="0.3"
    )
    assert status == 3
    assert "Traceback" not in output
    assert "hidden" not in output
    sentence = next(line for line in output.splitlines() if "cannot start" in line)
    assert "WEBSOCKET_REDIS_URL" in sentence
    assert str(port) in sentence


@pytest.mark.e2e
def test_a_database_that_cannot_be_used_is_one_clear_sentence() -> None:
    status, output = ended("--database-url", "sqlite:////nowhere/at/all.db", within=40)
    assert status == 3
    assert "Traceback" not in output
    assert "/nowhere/at/all.db" in output


@pytest.mark.e2e
def test_a_port_in_use_is_told() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        status, output = ended("--port", str(port), within=40)
    assert status == 3
    assert "Traceback" not in output
    assert re.search(rf"{port}.*address already in use", output)
