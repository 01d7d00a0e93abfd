"""The application around the layer: what orchestrators ask, what a demo refuses, what a failed start says."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from realtime.app import ReadableStart, SocketsFirst, create_app, mount
from realtime.directory.memory import MemoryDirectory
from realtime.errors import DirectoryUnavailable
from realtime.server import RealtimeServer
from realtime.settings import load_settings
from tests.support.stack import SECRET, make_settings


class BrokenDirectory(MemoryDirectory):
    async def start(self) -> None:
        raise DirectoryUnavailable("the database is on holiday")


async def lifespan(app: Any, *messages: str) -> list[dict[str, Any]]:
    """What the application answers to lifespan messages."""
    answers: list[dict[str, Any]] = []
    incoming = iter(messages)

    async def receive() -> dict[str, Any]:
        return {"type": next(incoming)}

    async def send(message: dict[str, Any]) -> None:
        answers.append(message)

    await app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)
    return answers


async def test_a_start_that_fails_for_a_known_reason_says_it_in_one_sentence() -> None:
    app = create_app(make_settings(), directory=BrokenDirectory())
    assert await lifespan(app, "lifespan.startup") == [
        {"type": "lifespan.startup.failed", "message": "cannot start: the database is on holiday"}
    ]


async def test_a_start_that_fails_for_an_unknown_reason_keeps_its_traceback() -> None:
    class Surprising(MemoryDirectory):
        async def start(self) -> None:
            raise ZeroDivisionError("surprise")

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "lifespan.startup"}

    app = create_app(make_settings(), directory=Surprising())
    with pytest.raises(ZeroDivisionError):
        await app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)
    assert "Traceback" in sent[0]["message"]


async def test_a_failure_of_the_end_is_not_swallowed() -> None:
    async def app(_scope: Any, _receive: Any, _send: Any) -> None:
        raise DirectoryUnavailable("while stopping")

    with pytest.raises(DirectoryUnavailable):
        await ReadableStart(app)({"type": "lifespan"}, None, None)  # type: ignore[arg-type]


async def test_health_and_ready_answer_what_an_orchestrator_asks() -> None:
    app = create_app(make_settings(), directory=MemoryDirectory(auto_create=True))
    server = app.state.realtime
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://h") as http:
        assert (await http.get("/health")).json() == {"up": True}
        assert (await http.get("/ready")).status_code == 503
        await server.start()
        answer = await http.get("/ready")
        assert (answer.status_code, set(answer.json().values())) == (200, {True})
        await server.drain()
        answer = await http.get("/ready")
        assert (answer.status_code, answer.json()["accepting"]) == (503, False)
        assert (await http.get("/health")).status_code == 200
        await server.stop()


async def asked(app: Any, kind: str, server: Any, path: str = "/health", *, host: str | None = None) -> Any:
    """The type and the status or code of the first message that the application answers."""
    answers: list[Any] = []
    scope = {
        "type": kind,
        "path": path,
        "method": "GET",
        "headers": [] if host is None else [(b"host", host.encode())],
        "query_string": b"",
        "server": server,
    }

    async def receive() -> Any:
        return {"type": "websocket.connect"} if kind == "websocket" else {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        answers.append(message)

    await app(scope, receive, send)
    return answers[0]


@pytest.mark.parametrize("server", [("127.0.0.1", 80), ("::1", 80), ("/run/socket", None)])
async def test_a_demo_serves_whoever_comes_by_loopback(server: Any) -> None:
    app = create_app(load_settings(demo=True), directory=MemoryDirectory())
    assert (await asked(app, "http", server))["status"] == 200


@pytest.mark.parametrize("server", [("192.168.0.7", 80), ("::", 80), ("2001:db8::1", 80), ("h", 80), None])
async def test_a_demo_refuses_who_reaches_it_otherwise_whatever_server_runs_it(server: Any) -> None:
    """`uvicorn --host 0.0.0.0 realtime.main:app` with REALTIME_DEMO=true passes no check of ours on its way."""
    app = create_app(load_settings(demo=True), directory=MemoryDirectory())
    assert (await asked(app, "http", server))["status"] == 403
    assert (await asked(app, "websocket", server))["code"] == 1008


@pytest.mark.parametrize(
    ("named", "served"),
    [
        ("127.0.0.1:8080", True),
        ("[::1]:8080", True),
        ("localhost", True),
        ("LOCALHOST:80", True),
        ("demo.localhost:80", True),
        ("rebound.example:8080", False),
        ("localhost.rebound.example", False),
        ("192.168.0.7", False),
        ("127.0.0.1@rebound.example", False),
        ("rebound.example/127.0.0.1", False),
        ("/run/socket", False),
        ("[", False),
        ("", False),
    ],
)
async def test_a_demo_refuses_a_browser_whose_page_is_of_another_name(named: str, served: bool) -> None:
    """A page of anybody may get its own name to point to 127.0.0.1; then a browser lets it ask and read."""
    app = create_app(load_settings(demo=True), directory=MemoryDirectory())
    answer = await asked(app, "http", ("127.0.0.1", 80), host=named)
    assert answer["status"] == (200 if served else 403)
    if not served:
        assert (await asked(app, "websocket", ("127.0.0.1", 80), "/ws/socket.io/", host=named))[
            "code"
        ] == 1008


async def test_without_demo_every_address_and_name_is_served() -> None:
    app = create_app(make_settings(webui_secret_key=SECRET), directory=MemoryDirectory())
    assert (await asked(app, "http", ("192.168.0.7", 80), host="chat.example"))["status"] == 200


async def test_a_demo_inside_another_application_refuses_who_reaches_it_otherwise() -> None:
    """Its tokens can be made by anybody, whatever directory the application brings."""
    app = FastAPI()
    mount(app, RealtimeServer(load_settings(demo=True), MemoryDirectory()))
    for path in ("/ws/socket.io/", "/ws/other"):
        assert (await asked(app, "websocket", ("192.168.0.7", 80), path))["code"] == 1008
        assert (await asked(app, "http", ("192.168.0.7", 80), path))["status"] == 403


class Counting:
    """Middleware that somebody else might add."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        scope.setdefault("state", {})["counted"] = True
        await self.app(scope, receive, send)


@pytest.mark.parametrize("added", [False, True])
async def test_sockets_are_served_past_the_application_unless_somebody_added_middleware(added: bool) -> None:
    app = create_app(make_settings(), directory=MemoryDirectory(auto_create=True))
    if added:
        app.add_middleware(Counting)
    seen: list[Any] = []
    sockets = app.state.realtime_sockets
    inner = sockets.engineio_server.handle_request

    async def handle_request(scope: Any, receive: Any, send: Any) -> Any:
        seen.append((scope["path"], "router" in scope, scope.get("state", {}).get("counted", False)))
        return await inner(scope, receive, send)

    sockets.engineio_server.handle_request = handle_request
    served = SocketsFirst(app)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(served), base_url="http://h") as http:
        answer = await http.get("/ws/socket.io/?EIO=4&transport=polling&sid=nobody")
        assert (answer.status_code, answer.json()["code"]) == (400, 1)
        assert seen == [("/ws/socket.io/", added, added)]
        assert (await http.get("/health")).json() == {"up": True}
        assert (await http.get("/ws/elsewhere")).status_code == 404
        assert (await http.get("/ws/socket.io/../../health")).status_code == 200
        assert len(seen) == 1


async def test_a_demo_serves_no_sockets_to_others_past_the_application() -> None:
    settings = make_settings(demo=True)
    app = SocketsFirst(create_app(settings, directory=MemoryDirectory(auto_create=True)))
    path = "/ws/socket.io/?EIO=4&transport=polling"
    assert (await asked(app, "http", ("192.0.2.1", 8080), path))["status"] == 403
    assert (await asked(app, "websocket", ("192.0.2.1", 8080), path))["code"] == 1008
