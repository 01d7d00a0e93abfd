"""Engine.IO protocol 4: the heartbeat. A time that must pass is measured from below only: a slow machine passes too."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.wire.lab import Instance, serving, until

from .client import KINDS, POLLING, ByPolling, Kind, ask, client, end_of, engine, path
from .conftest import prepare

TRANSPORTS = KINDS[:2]


@pytest.mark.parametrize("transport", TRANSPORTS, ids=str)
async def test_the_server_sends_a_ping_each_interval(transport: Kind) -> None:
    async with serving(ping_interval=0.1, ping_timeout=20.0) as instance:
        began = time.monotonic()
        async with client(instance, transport) as session:
            waiting = asyncio.create_task(session.receive())
            await until(lambda: session.pings == 3)
            assert time.monotonic() - began >= 0.29
            await instance.server.emit("x")
            assert await waiting == '42["x"]'


@pytest.mark.parametrize("transport", TRANSPORTS, ids=str)
async def test_a_session_that_never_joined_a_namespace_is_pinged_too(transport: Kind) -> None:
    async with (
        serving(ping_interval=0.1, ping_timeout=20.0) as instance,
        engine(instance, transport) as session,
    ):
        waiting = asyncio.create_task(session.receive())
        await until(lambda: session.pings == 2)
        waiting.cancel()


@pytest.mark.parametrize("transport", TRANSPORTS, ids=str)
async def test_a_client_that_answers_stays_beyond_every_timeout(transport: Kind) -> None:
    async with (
        serving(ping_interval=0.1, ping_timeout=1.0) as instance,
        client(instance, transport) as session,
    ):
        prepare(instance)
        waiting = asyncio.create_task(session.receive())
        await until(lambda: session.pings == 15)
        await session.send('420["echo"]')
        assert await waiting == "430[]"


@pytest.mark.parametrize("transport", TRANSPORTS, ids=str)
async def test_a_client_that_does_not_answer_is_closed_when_its_time_is_over(transport: Kind) -> None:
    async with serving(ping_interval=0.1, ping_timeout=0.3) as instance:
        prepare(instance)
        deaf = Kind(transport.transport, answers_pings=False)
        began = time.monotonic()
        async with client(instance, deaf) as session:
            ended, before = await end_of(session)
            assert time.monotonic() - began >= 0.39
            assert ended.code == (1000 if transport.transport == "websocket" else 400)
            assert before == []
            assert session.pings == 1  # a ping that was not answered is not followed by another
            await until(instance.nothing_left)
            assert instance.seen == [("gone", "ping timeout")]


async def test_a_poll_that_comes_after_the_time_is_over_is_refused() -> None:
    async with serving(ping_interval=0.05, ping_timeout=0.2) as instance:
        async with client(instance, POLLING) as session:
            assert isinstance(session, ByPolling)
            await until(lambda: not instance.server.eio.sockets)
            assert (await session.get()).status == 400
            await until(instance.nothing_left)


@pytest.mark.parametrize("transport", TRANSPORTS, ids=str)
async def test_an_answer_that_came_while_the_server_stood_still_counts(transport: Kind) -> None:
    async with serving(ping_interval=0.1, ping_timeout=0.5) as instance:
        prepare(instance)
        async with client(instance, transport) as session:
            waiting = asyncio.create_task(session.receive())
            await until(lambda: session.pings == 3)
            time.sleep(1.5)  # noqa: ASYNC251  # client and server, which live in this process, stand still
            await until(lambda: session.pings == 8)
            await session.send('420["echo"]')
            assert await waiting == "430[]"
            assert instance.seen == [("echo",)]


@pytest.mark.parametrize("transport", TRANSPORTS, ids=str)
@pytest.mark.parametrize("ping", ["2", "2probe"])
async def test_a_ping_is_the_servers_to_send_and_ends_the_session_of_a_client_that_sends_it(
    instance: Instance, transport: Kind, ping: str
) -> None:
    async with client(instance, transport) as session:
        if isinstance(session, ByPolling):
            assert (await session.post(ping.encode())).status == 400
        else:
            await session.send(ping)
            assert (await end_of(session))[0].code == 1002
        await until(instance.nothing_left)


@pytest.mark.parametrize("transport", TRANSPORTS, ids=str)
async def test_a_pong_that_nobody_asked_for_is_ignored(instance: Instance, transport: Kind) -> None:
    async with client(instance, transport) as session:
        await session.send("3", "3", "3probe")
        await session.send('420["echo"]')
        assert await session.receive() == "430[]"


async def test_an_unknown_session_cannot_be_kept_alive() -> None:
    async with serving() as instance:
        assert (await ask(instance, "POST", path(sid="nobody"), b"3")).status == 400
