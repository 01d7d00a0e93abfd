"""Requests for sessions of other instances: refused as the protocol says, and told to who runs the balancer."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator

import aiohttp
import pytest

from realtime.tags import new_sid
from tests.wire.lab import Instance, Polling, serving

OWN, OTHER = "ownowno1", "another2"


@pytest.fixture
async def instance() -> AsyncIterator[Instance]:
    async with serving(tag=OWN) as made:
        yield made


async def refused(instance: Instance, method: str, sid: str) -> None:
    url = f"{instance.http}/socket.io/?EIO=4&transport=polling&sid={sid}"
    async with aiohttp.ClientSession() as http, http.request(method, url) as answer:
        assert answer.status == 400
        assert json.loads(await answer.text()) == {"code": 1, "message": "Session ID unknown"}


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


async def test_session_ids_begin_with_the_tag_and_socket_ids_do_not(instance: Instance) -> None:
    async with Polling.to(instance) as client:
        assert f"&sid={OWN}" in client.url
        assert not any(sid.startswith(OWN) for sid in instance.manager.book.members)


async def test_a_stray_request_gets_the_protocols_error_and_one_line_says_what_to_configure(
    instance: Instance, caplog: pytest.LogCaptureFixture
) -> None:
    sid = new_sid(OTHER)
    for _ in range(5):
        await refused(instance, "GET", sid)
        await refused(instance, "POST", sid)
    (line,) = told(caplog)
    for word in (OTHER, OWN, "python -m realtime balancer nginx", "haproxy", "REALTIME_INSTANCE_NAME"):
        assert word in line
    assert sid not in line, "a session id is a secret"
    assert instance.server.counters.requests_strayed == 10


async def test_a_stray_websocket_is_refused_and_told_as_well(
    instance: Instance, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"{instance.http}/socket.io/?EIO=4&transport=websocket&sid={new_sid(OTHER)}"
    async with aiohttp.ClientSession() as http:
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await http.ws_connect(url)
    assert caught.value.status == 403
    assert len(told(caplog)) == 1


@pytest.mark.parametrize("sid", [OWN + "x" * 20, "x" * 20, "nonsense", "x" * 28 + "%0A", "../" * 9])
async def test_a_session_that_ended_here_and_a_strangers_nonsense_are_refused_without_a_word(
    instance: Instance, sid: str, caplog: pytest.LogCaptureFixture
) -> None:
    await refused(instance, "GET", sid)
    assert told(caplog) == []
    assert instance.server.counters.requests_strayed == 0


async def test_without_a_tag_of_its_own_an_instance_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as instance:
        await refused(instance, "GET", new_sid(OTHER))
        assert told(caplog) == []
