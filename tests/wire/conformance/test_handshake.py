"""Engine.IO protocol 4: the handshake, and requests that are refused before any session."""

from __future__ import annotations

import json

import pytest

from sim import http
from tests.wire.lab import Instance, serving, until

from .client import KINDS, POLLING, WEBSOCKET, Kind, WebSocket, ask, client, engine, path, polling, websocket


async def is_refused(instance: Instance, kind: Kind, target: str, code: int, message: str) -> None:
    """A request by its status and the code of its flaw, a websocket before it is accepted."""
    if kind.transport == "polling":
        assert flaw(await ask(instance, "GET", target)) == (code, message)
    else:
        async with WebSocket.open(instance, target) as connection:
            assert connection.refusal is not None
            assert connection.refusal.status == 403
    assert instance.nothing_left()


def flaw(response: http.Response) -> tuple[int, str]:
    assert response.status == 400
    assert response.headers["content-type"] == "application/json"
    answer = json.loads(response.body)
    return answer["code"], answer["message"]


async def test_a_session_begins_with_an_open_packet_by_either_transport(instance: Instance) -> None:
    opened = await ask(instance, "GET", path("polling"))
    assert (opened.status, opened.body[:2]) == (200, b"0{")
    async with WebSocket.open(instance, path("websocket")) as connection:
        assert str(await connection.receive()).startswith("0{")


async def test_polling_is_answered_as_plain_text(instance: Instance) -> None:
    opened = await ask(instance, "GET", path("polling"))
    assert opened.headers["content-type"].lower() == "text/plain; charset=utf-8"


@pytest.mark.parametrize("transport", KINDS[:2], ids=str)
async def test_the_open_packet_has_what_a_client_must_know_in_milliseconds_and_bytes(transport: Kind) -> None:
    async with serving(ping_interval=0.3, ping_timeout=1.25, max_http_buffer_size=5000) as instance:
        async with engine(instance, transport) as session:
            assert isinstance(session.handshake.pop("sid"), str)
            assert session.handshake == {
                "upgrades": ["websocket"] if transport == POLLING else [],
                "pingInterval": 300,
                "pingTimeout": 1250,
                "maxPayload": 5000,
            }


async def test_each_session_has_an_id_of_its_own(instance: Instance) -> None:
    async with polling(instance) as first, polling(instance) as second, websocket(instance) as third:
        assert len({first.sid, second.sid, third.sid}) == 3


async def test_query_parameters_that_the_protocol_does_not_know_are_ignored(instance: Instance) -> None:
    assert (await ask(instance, "GET", path("polling", t="x1", token="%00"))).status == 200


@pytest.mark.parametrize("transport", KINDS[:2], ids=str)
@pytest.mark.parametrize("version", [None, "3", "5", "", "four"])
async def test_a_request_that_does_not_name_version_four_is_refused(
    instance: Instance, transport: Kind, version: str | None
) -> None:
    target = path(transport.transport, EIO=version)
    await is_refused(instance, transport, target, 5, "Unsupported protocol version")


@pytest.mark.parametrize("transport", KINDS[:2], ids=str)
@pytest.mark.parametrize("named", [None, "", "flash", "polling,websocket"])
async def test_a_request_that_names_no_known_transport_is_refused(
    instance: Instance, transport: Kind, named: str | None
) -> None:
    await is_refused(instance, transport, path(named), 0, "Transport unknown")


@pytest.mark.parametrize("transport", KINDS[:2], ids=str)
async def test_a_request_that_names_an_unknown_session_is_refused(
    instance: Instance, transport: Kind
) -> None:
    target = path(transport.transport, sid="nobody")
    await is_refused(instance, transport, target, 1, "Session ID unknown")
    if transport == POLLING:
        assert flaw(await ask(instance, "POST", target, b"4x")) == (1, "Session ID unknown")


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE", "PATCH"])
async def test_a_handshake_by_another_method_than_get_is_refused(instance: Instance, method: str) -> None:
    assert flaw(await ask(instance, method, path("polling"))) == (2, "Bad handshake method")
    assert instance.nothing_left()


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_a_session_is_not_harmed_by_a_request_of_another_method(
    instance: Instance, method: str
) -> None:
    async with client(instance, POLLING) as session:
        assert flaw(await ask(instance, method, path(sid=session.sid)))[0] == 2
        await session.send('420["echo"]')
        assert await session.receive() == "430[]"


async def test_a_websocket_session_cannot_begin_without_a_websocket(instance: Instance) -> None:
    assert flaw(await ask(instance, "GET", path("websocket"))) == (3, "Bad request")
    assert instance.nothing_left()


async def test_a_polling_session_cannot_begin_by_a_websocket(instance: Instance) -> None:
    await is_refused(instance, WEBSOCKET, path("polling"), 3, "Bad request")


async def test_each_request_of_a_session_names_version_and_transport(instance: Instance) -> None:
    async with client(instance, POLLING) as session:
        for method in ("GET", "POST"):
            assert flaw(await ask(instance, method, path(sid=session.sid, EIO=None), b"4x"))[0] == 5
            assert flaw(await ask(instance, method, path(None, sid=session.sid), b"4x"))[0] == 0
            assert flaw(await ask(instance, method, path("websocket", sid=session.sid), b"4x"))[0] == 3
        await session.send('420["echo"]')
        assert await session.receive() == "430[]"


async def test_a_transport_that_is_switched_off_is_unknown() -> None:
    async with serving(transports=["polling"]) as instance:
        await is_refused(instance, WEBSOCKET, path("websocket"), 0, "Transport unknown")
    async with serving(transports=["websocket"]) as instance:
        await is_refused(instance, POLLING, path("polling"), 0, "Transport unknown")


async def test_a_client_that_leaves_in_the_handshake_leaves_nothing_behind(instance: Instance) -> None:
    async with WebSocket.open(instance, path("websocket")):
        pass
    await until(instance.nothing_left)
