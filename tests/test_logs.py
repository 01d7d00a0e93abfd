"""Logs: whose event a line is about, in text and in JSON, and that no token is ever in one."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import socketio

from realtime.auth import create_token
from realtime.log_context import about_socket, about_user, whose
from realtime.logs import JsonLines, TextLines, redacted
from realtime.server import RealtimeServer
from sim.processes.instances import SECRET_KEY, Instance
from tests.events.lab import ask, polling
from tests.support.stack import client, make_settings, running, until

# Always the same: it is in the names of tests, which every process that runs some must know.
TOKEN = create_token("ann", "k" * 40, expires_in=60, jti="fixed", now=1_700_000_000)


def record(message: str = "hello", *args: object, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("realtime.x", logging.WARNING, "file", 1, message, args, None)
    vars(made).update(extra)
    return made


class Kept(logging.Handler):
    """Keeps lines as JSON objects."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonLines("api-1"))
        self.lines: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(json.loads(self.format(record)))

    def of(self, message: str) -> dict[str, Any]:
        return next(line for line in self.lines if message in line["message"])


@pytest.fixture
def kept() -> Iterator[Kept]:
    handler = Kept()
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield handler
    root.removeHandler(handler)
    root.setLevel(before)


# What a line says


def test_a_line_of_json_has_time_level_logger_message_and_instance() -> None:
    line = json.loads(JsonLines("api-1").format(record("%d users", 7, created=1_700_000_000.25)))
    assert line == {
        "time": "2023-11-14T22:13:20.250+00:00",
        "level": "warning",
        "logger": "realtime.x",
        "message": "7 users",
        "instance": "api-1",
    }


def test_a_line_stays_one_line_whatever_is_in_it() -> None:
    try:
        raise ZeroDivisionError("a\nb")
    except ZeroDivisionError:
        made = record("first\nsecond", exc_info=sys.exc_info(), stack_info="Stack\n here")
    text = JsonLines("api-1").format(made)
    assert "\n" not in text
    line = json.loads(text)
    assert line["exception"].startswith("Traceback")
    assert line["stack"] == "Stack\n here"


async def test_lines_of_a_socket_s_event_name_the_socket_and_its_user(kept: Kept) -> None:
    def prepare(server: RealtimeServer) -> None:
        async def fails(_sid: str, *_args: Any) -> None:
            raise ZeroDivisionError

        async def knows(sid: str, *_args: Any) -> None:
            logging.getLogger("elsewhere").warning("deep inside")
            await server.handlers.user_list(sid)
            logging.getLogger("elsewhere").warning("deeper inside")

        server.wire.on("fails", fails)
        server.wire.on("knows", knows)

    async with running(make_settings(), prepare=prepare) as instance:
        async with client(instance.url, "ann") as ann:
            await ask(ann, "fails")
            await ask(ann, "knows")
            sid = ann.sid
        async with client(instance.url) as stranger:
            await ask(stranger, "fails")
            other = stranger.sid
        await until(lambda: not instance.server.wire.connections, what="both to be gone")
    failed = [line for line in kept.lines if line["message"].startswith("The handler of 'fails'")]
    assert [(line.get("sid"), line.get("user")) for line in failed] == [(sid, "ann"), (other, None)]
    assert "ZeroDivisionError" in failed[0]["exception"]
    assert kept.of("deep inside")["sid"] == sid
    assert kept.of("deeper inside")["user"] == "ann"
    assert kept.of("is not signed in")["sid"] == other
    assert not [line for line in kept.lines if "holding the lease" in line["message"] and "sid" in line]


async def test_lines_about_a_socket_from_outside_its_events_name_it_too(kept: Kept) -> None:
    settings = make_settings(realtime_max_outgoing_bytes=1024)
    async with running(settings) as instance, polling(instance.url) as slow:
        server = instance.server
        await slow.post("40" + json.dumps({"token": create_token("ann", settings.secret_key, expires_in=60)}))
        await until(lambda: len(server.sessions) == 1, what="ann to be signed in")
        sid = next(iter(server.sessions)).session.sid
        for _ in range(3):
            await server.emit_to_users("note", "x" * 2000, ["ann"])
    slow_line = kept.of("reads too slowly")
    assert (slow_line["sid"], slow_line["user"]) == (sid, "ann")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"realtime_slow_consumer_seconds": 0.3}, "reads too slowly"),
        ({"websocket_server_ping_interval": 0.2, "websocket_server_ping_timeout": 0.2}, "left: ping timeout"),
        ({"realtime_handshake_seconds": 0.3}, "did not join a namespace in time"),
    ],
)
async def test_lines_that_a_timer_brings_about_name_the_socket_and_its_user(
    settings: dict[str, float], message: str, kept: Kept
) -> None:
    def prepare(server: RealtimeServer) -> None:
        async def leaves(sid: str, reason: str) -> None:
            logging.getLogger("elsewhere").warning("left: %s", reason)
            await server.handlers.disconnect(sid, reason)

        server.wire.on("disconnect", leaves)

    joins = "join" not in message
    made = make_settings(**settings)
    async with running(made, prepare=prepare) as instance, polling(instance.url) as silent:
        server, sid = instance.server, silent.sid
        if joins:
            token = create_token("ann", made.secret_key, expires_in=60)
            await silent.post("40" + json.dumps({"token": token}))
            await until(lambda: len(server.sessions) == 1, what="ann to be signed in")
            sid = next(iter(server.sessions)).session.sid
        await until(lambda: not server.wire.connections, what="the connection to be closed")
    line = kept.of(message)
    assert (line["sid"], line.get("user")) == (sid, "ann" if joins else None)


def test_a_socket_named_by_the_line_itself_is_not_given_another_one_s_user() -> None:
    about_socket("one")
    about_user("ann")
    try:
        assert json.loads(JsonLines("i").format(record(sid="one")))["user"] == "ann"
        line = json.loads(JsonLines("i").format(record(sid="two")))
        assert (line["sid"], "user" in line) == ("two", False)
        assert TextLines().format(record()).endswith("realtime.x: hello [sid=one user=ann]")
        about_socket("three")
        assert whose() == ("three", "")
        about_socket("four", {"four": "bob"}.__getitem__)
        assert whose() == ("four", "bob")
    finally:
        about_socket("")
    assert TextLines().format(record()).endswith("realtime.x: hello")


@pytest.mark.parametrize("form", ["text", "json"])
def test_the_command_logs_in_the_form_of_the_setting(form: str) -> None:
    settings = {"REALTIME_LOG_FORMAT": form, "REALTIME_INSTANCE_NAME": "api-7"}
    with Instance(demo=True, settings=settings) as instance:
        line = next(line for line in instance.log.splitlines() if "holding the lease" in line)
    if form == "json":
        assert json.loads(line)["instance"] == "api-7"
        assert json.loads(line)["logger"] == "realtime.leasing"
    else:
        assert " INFO realtime.leasing: holding the lease api-7~1." in line


def test_warnings_and_what_nobody_caught_are_lines_like_all_others() -> None:
    program = """
import threading, warnings
from realtime.logs import configure
from realtime.settings import load_settings
configure(load_settings(demo=True, realtime_log_format="json"), level="info")
warnings.warn("odd")
def fail():
    raise ValueError("token=opaque")
thread = threading.Thread(target=fail)
thread.start()
thread.join()
fail()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False
    )
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["logger"] for line in lines] == ["py.warnings", "realtime", "realtime"]
    assert "UserWarning: odd" in lines[0]["message"]
    for line in lines[1:]:
        assert line["exception"].endswith("ValueError: token=***")
    assert done.returncode == 1


# What no line says


@pytest.mark.parametrize(
    "text",
    [
        TOKEN,
        f"GET /ws/socket.io/?EIO=4&token={TOKEN}&transport=polling",
        f"""0{{"token":"{TOKEN}"}}""",
        json.dumps(json.dumps({"token": TOKEN})),
        f"(b'authorization', b'Bearer {TOKEN}')",
        f"{{'token': '{TOKEN[:40]}...{TOKEN[-30:]}'}}",
        f"{TOKEN[:30]}…{TOKEN[-30:]}",
        "token=opaque-" + TOKEN[-30:],
        '{"token": "opaque-' + TOKEN[-30:] + '"}',
        "Authorization: Bearer opaque-" + TOKEN[-30:],
        "cookie: opaque-" + TOKEN[-30:],
        "redis://:opaque-" + TOKEN[-30:] + "@redis:6379/0",
    ],
)
def test_a_token_is_hidden_in_whatever_form_it_comes(text: str) -> None:
    hidden = redacted(f"before {text} after")
    assert hidden.startswith("before ")
    assert hidden.endswith(" after")
    for part in (TOKEN[:20], TOKEN[-30:], TOKEN[-12:]):
        assert part not in hidden
    for form in (JsonLines("i"), TextLines()):
        assert TOKEN[-12:] not in form.format(record("before %s after", text))


@pytest.mark.parametrize(
    "text",
    [
        "the socket abc is not signed in: The token has expired: sign in again.",
        "redis://redis:6379/0",
        "7 users",
    ],
)
def test_what_is_no_token_is_left_as_it_is(text: str) -> None:
    assert redacted(text) == text


async def test_a_client_s_token_is_in_no_line_however_it_came_and_whatever_failed(tmp_path: Path) -> None:
    """With everything logged at DEBUG, in our form and by a handler that formats by itself."""
    plain = tmp_path / "plain.log"
    tokens: list[str] = []

    def token(user: str, expires_in: float = 600) -> str:
        tokens.append(create_token(user, SECRET_KEY, expires_in=expires_in))
        return tokens[-1]

    def broken() -> str:
        tokens.append(token("mallory")[:-4] + "AAAA")
        return tokens[-1]

    settings = {"PLAIN_LOG": str(plain)}
    with Instance(demo=True, module="tests.support.logged_app", settings=settings) as instance:
        for transport in ("websocket", "polling"):
            for given in (token("ann"), token("boom"), token("old", 0.001), broken()):
                ways: list[dict[str, Any]] = [
                    {"auth": {"token": given}},
                    {"auth": {"token": [given]}},
                    {"url": f"{instance.url}/?token={given}"},
                    {"headers": {"Authorization": f"Bearer {given}"}},
                    {"headers": {"Cookie": f"token={given}"}},
                ]
                for way in ways:
                    await visit(instance.url, transport, given, way)
            await hostile(instance.url, transport, token("ann"))
        said = instance.log
    lines = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    everything = said + plain.read_text()
    failures = [line for line in lines if "of the application" in line.get("exception", "")]
    assert failures, "the application's failure with a token in it was logged"
    assert any("the directory failed" in line.get("exception", "") for line in lines)
    assert any("is not signed in: The token has expired" in line["message"] for line in lines)
    assert any("malformed packet" in line["message"] for line in lines)
    assert any("[accepted]" in line["message"] for line in lines), "lines about connections are logged"
    assert any(line["level"] == "debug" for line in lines)
    assert any(line.get("user") == "ann" for line in lines)
    assert "[accepted]" in plain.read_text()
    for each in tokens:
        head, _, signature = each.rpartition(".")
        for secret in (each, signature, signature[-16:], head):
            assert secret not in everything, next(line for line in everything.splitlines() if secret in line)


async def visit(url: str, transport: str, token: str, way: dict[str, Any]) -> None:
    """Connects with a token in one way, sends it once more in events that fail, and leaves."""
    sio = socketio.AsyncClient(reconnection=False)
    try:
        await sio.connect(
            **{"url": url, "socketio_path": "/ws/socket.io", "transports": [transport], "wait_timeout": 5}
            | way
        )
        for event in ("user-join", "join-channels", "usage", "channel-events", "fails", "unknown"):
            for payload in ({"auth": {"token": token}}, {"auth": {"token": {"token": token}}}, token):
                await sio.emit(event, payload)
        await sio.call("user-list", timeout=5)
    except socketio.exceptions.ConnectionError:
        pass  # the directory failed
    finally:
        await sio.shutdown()


async def hostile(url: str, transport: str, token: str) -> None:
    """Packets that cannot be understood, with a token in them."""
    packets = (f'40{{"token":"{token}"', f'42["user-join",{{"token":"{token}"}}', f"9{token}", f"421{token}")
    query = f"EIO=4&transport={transport}&token={token}"
    async with aiohttp.ClientSession() as http:
        for packet in packets:
            if transport == "websocket":
                async with http.ws_connect(f"{url}/ws/socket.io/?{query}") as ws:
                    await ws.receive()
                    await ws.send_str(packet)
                    while (await ws.receive(timeout=5)).type is aiohttp.WSMsgType.TEXT:
                        pass
            else:
                async with http.get(f"{url}/ws/socket.io/?{query}") as answer:
                    sid = json.loads((await answer.text())[1:])["sid"]
                async with http.post(f"{url}/ws/socket.io/?{query}&sid={sid}", data=packet) as answer:
                    await answer.read()
        async with http.get(f"{url}/ws/socket.io/?{query}&sid=unknown-{token}") as answer:
            assert answer.status == 400
