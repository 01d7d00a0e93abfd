"""Engine.IO protocol 4: HTTP long-polling."""

from __future__ import annotations

import asyncio
import base64

import pytest

from sim import http
from tests.wire.lab import BOUND, Instance, serving, until

from .client import KINDS, POLLING, SEPARATOR, ByPolling, EndedError, Kind, ask, client, end_of, path
from .conftest import prepare

POLLERS = [each for each in KINDS if each.transport == "polling"]


@pytest.fixture(params=POLLERS, ids=str)
def poller(request: pytest.FixtureRequest) -> Kind:
    given: Kind = request.param
    return given


def polls(instance: Instance) -> bool:
    """Whether a poll waits for packets."""
    (session,) = instance.server.eio.sockets.values()
    return session.polling


async def test_packets_that_are_posted_are_answered_with_ok(instance: Instance, poller: Kind) -> None:
    async with client(instance, poller) as session:
        assert isinstance(session, ByPolling)
        response = await session.post(b'42["x"]')
        assert (response.status, response.body) == (200, b"ok")
        await until(lambda: ("x",) in instance.seen)


async def test_several_packets_of_one_request_are_handled_in_order(instance: Instance, poller: Kind) -> None:
    async with client(instance, poller) as session:
        await session.send(*(f'42["n",{n}]' for n in range(50)))
        await until(lambda: len(instance.seen) == 50)
        assert instance.seen == [("n", n) for n in range(50)]


async def test_packets_that_wait_come_in_one_payload_parted_by_record_separators() -> None:
    async with serving() as instance, client(instance, POLLING) as session:
        for n in range(3):
            await instance.server.emit("n", n)
        assert isinstance(session, ByPolling)
        payload = (await session.get()).body.decode()
        assert payload.split(SEPARATOR) == ['42["n",0]', '42["n",1]', '42["n",2]']


async def test_binary_data_is_sent_as_base64_behind_a_b() -> None:
    async with serving() as instance, client(instance, POLLING) as session:
        await instance.server.emit("x", b"\x00\xff\x01")
        assert isinstance(session, ByPolling)
        head, attachment = (await session.get()).body.decode().split(SEPARATOR)
        assert head.startswith("451-")
        assert attachment == "b" + base64.b64encode(b"\x00\xff\x01").decode()


async def test_binary_data_is_received_as_base64_behind_a_b(instance: Instance, poller: Kind) -> None:
    async with client(instance, poller) as session:
        assert isinstance(session, ByPolling)
        body = '451-["x",{"_placeholder":true,"num":0}]' + SEPARATOR + "b" + "AP8B"
        assert (await session.post(body.encode())).status == 200
        await until(lambda: ("x", b"\x00\xff\x01") in instance.seen)


async def test_a_poll_waits_until_there_is_a_packet() -> None:
    async with serving() as instance, client(instance, POLLING) as session:
        assert isinstance(session, ByPolling)
        poll = asyncio.create_task(session.get())
        await until(lambda: polls(instance))
        assert not poll.done()
        await instance.server.emit("x")
        assert (await poll).body == b'42["x"]'


async def test_a_second_poll_at_the_same_time_is_refused_and_ends_the_session() -> None:
    async with serving() as instance, client(instance, POLLING) as session:
        assert isinstance(session, ByPolling)
        first = asyncio.create_task(session.get())
        await until(lambda: polls(instance))
        assert (await session.get()).status == 400
        await asyncio.wait_for(first, BOUND)
        assert (await session.get()).status == 400
        await until(instance.nothing_left)


async def test_a_second_post_at_the_same_time_is_refused_and_ends_the_session(instance: Instance) -> None:
    async with client(instance, POLLING) as session:
        assert isinstance(session, ByPolling)
        whole = http.request("POST", "127.0.0.1", path(sid=session.sid), b'42["half"]')
        _reader, writer = await asyncio.open_connection("127.0.0.1", instance.port)
        writer.write(whole[:-3])
        (held,) = instance.server.eio.sockets.values()
        await until(lambda: held._posting)
        assert (await session.post(b'42["second"]')).status == 400
        writer.close()
        await until(instance.nothing_left)
        assert instance.seen == [("gone", "server disconnect")]


@pytest.mark.parametrize(
    "body", [b"", b"x", b"9", b"\xff", b"4\xff", b"bA", b"\x1e", b'42["x"]\x1e', b'42["x"]\x1ex', b"hello"]
)
async def test_a_payload_that_cannot_be_decoded_is_refused_and_ends_the_session(
    instance: Instance, body: bytes
) -> None:
    async with client(instance, POLLING) as session:
        assert isinstance(session, ByPolling)
        assert (await session.post(body)).status == 400
        assert (await session.get()).status == 400
        await until(instance.nothing_left)
        assert ("x",) not in instance.seen


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_payload_may_be_as_large_as_the_handshake_says_and_not_larger(chunked: bool) -> None:
    async with serving(max_http_buffer_size=200_000) as instance, client(instance, POLLING) as session:
        prepare(instance)

        async def post(size: int) -> int:
            body = b'42["x","' + b"a" * (size - 10) + b'"]'
            headers = {"Transfer-Encoding": "chunked"} if chunked else {"Content-Length": str(size)}
            sent = b"%x\r\n%s\r\n0\r\n\r\n" % (size, body) if chunked else body
            request = http.request("POST", "127.0.0.1", path(sid=session.sid), headers=headers)
            if chunked:
                request = request.replace(b"Content-Length: 0\r\n", b"")
            reader, writer = await asyncio.open_connection("127.0.0.1", instance.port)
            try:
                writer.write(request + sent)
                return (await asyncio.wait_for(http.response(reader), BOUND)).status
            finally:
                writer.close()

        assert await post(200_000) == 200
        await until(lambda: [len(each[1]) for each in instance.seen] == [200_000 - 10])
        assert await post(200_001) == 400
        await until(instance.nothing_left)


async def test_a_payload_that_does_not_come_whole_is_not_handled_and_ends_the_session(
    instance: Instance,
) -> None:
    async with client(instance, POLLING) as session:
        body = b'42["first"]\x1e42["second"]'
        request = http.request("POST", "127.0.0.1", path(sid=session.sid), body)
        _reader, writer = await asyncio.open_connection("127.0.0.1", instance.port)
        writer.write(request[: -len(b'\x1e42["second"]')])
        (held,) = instance.server.eio.sockets.values()
        await until(lambda: held._posting)
        writer.close()
        await until(instance.nothing_left)
        assert [name for name, *_ in instance.seen] == ["gone"]


async def test_a_session_that_ended_answers_every_request_with_400(instance: Instance, poller: Kind) -> None:
    async with client(instance, poller) as session:
        await session.send("1")
        ended, _ = await end_of(session)
        assert ended.code == 400
        with pytest.raises(EndedError, match="Session ID unknown"):
            await session.send("4x")
    assert (await ask(instance, "GET", path(sid=session.sid))).status == 400
