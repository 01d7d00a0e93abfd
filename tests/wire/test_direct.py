"""A session that reads and writes its websocket itself: what that spares, and what it must not change."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from websockets import InvalidStatus, connect
from websockets.frames import Frame, Opcode

from realtime.wire import DirectProtocol, line, packets
from realtime.wire.limits import Limits

from .lab import BOUND, Client, Instance, Polling, Websocket, event, parsed, running, serving, until


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> dict[int, list[bytes]]:
    """What was written, write by write, by descriptor."""
    writes: dict[int, list[bytes]] = defaultdict(list)

    def write(descriptor: int, data: bytes) -> int:
        writes[descriptor].append(data)
        return os.write(descriptor, data)

    monkeypatch.setattr(line, "_write", write)
    return writes


def sessions(instance: Instance) -> list[Any]:
    return list(instance.server.eio.sockets.values())


async def turn() -> None:
    """Until what was sent in this turn has been written."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_an_emit_is_encoded_once_and_the_same_bytes_go_to_everyone(
    monkeypatch: pytest.MonkeyPatch, kernel: dict[int, list[bytes]]
) -> None:
    made: list[str] = []

    def note(owner: Any, name: str) -> None:
        call = getattr(owner, name)

        def noted(*args: Any, **kwargs: Any) -> Any:
            made.append(name)
            return call(*args, **kwargs)

        monkeypatch.setattr(owner, name, noted)

    note(packets, "_encoded")
    note(packets.engine_packet.Packet, "encode")
    note(packets, "_frame")
    async with serving() as instance, Websocket.to(instance), Websocket.to(instance), Websocket.to(instance):
        kernel.clear()
        made.clear()
        await instance.server.emit("x", {"n": 1})
        await turn()
        assert made == ["_encoded", "encode", "_frame"]
        first = next(iter(kernel.values()))[0]
        assert first.endswith(b'42["x",{"n":1}]')
        assert len(kernel) == 3
        assert all(len(writes) == 1 and writes[0] is first for writes in kernel.values())


async def test_what_is_emitted_in_one_turn_leaves_in_one_write_and_in_order(
    kernel: dict[int, list[bytes]],
) -> None:
    async with serving() as instance, Websocket.to(instance) as client:
        kernel.clear()
        for number in range(10):
            await instance.server.emit("x", number)
        assert not kernel
        await turn()
        assert [len(writes) for writes in kernel.values()] == [1]
        assert [parsed(await client.receive())[1] for _ in range(10)] == list(range(10))


async def test_what_is_emitted_in_one_turn_is_in_one_answer_to_a_poll() -> None:
    async with serving() as instance, Polling.to(instance) as client:
        poll = asyncio.create_task(client.get())
        await until(lambda: sessions(instance)[0].polling)
        for number in range(10):
            await instance.server.emit("x", number)
        _status, payload = await poll
        assert [parsed(each)[1] for each in payload.split("\x1e")] == list(range(10))


async def test_a_burst_reaches_pythons_client_by_polling_which_takes_few_packets_at_once() -> None:
    async with serving() as instance, Client.to(instance, "polling") as client:
        for number in range(100):
            await instance.server.emit("x", number)
        await until(lambda: ("x", 99) in client.events, "the last event")
        assert [event for event in client.events if event[0] != "connect"] == [("x", n) for n in range(100)]


async def test_attachments_go_the_same_way(kernel: dict[int, list[bytes]]) -> None:
    async with serving() as instance, Websocket.to(instance) as client:
        kernel.clear()
        await instance.server.emit("blob", {"a": b"\x00" * 70_000, "b": b"\x01" * 200})
        await turn()
        assert (await client.receive()).startswith("452-")
        assert [await client.receive(), await client.receive()] == [b"\x00" * 70_000, b"\x01" * 200]
        (writes,) = kernel.values()
        assert b"".join(writes).count(b"\x82") == 2


async def test_plain_frames_reach_a_client_that_negotiated_compression() -> None:
    async with serving() as instance, Websocket.to(instance) as client:
        assert [type(each).__name__ for each in client.raw.protocol.extensions] == ["PerMessageDeflate"]
        await instance.server.emit("x", "y" * 1000)
        assert parsed(await client.receive()) == ["x", "y" * 1000]
        await client.send(event("echo", "1" * 500))  # compressed on its way here
        await instance.server.emit("x", 2)
        assert parsed(await client.receive()) == ["x", 2]


async def test_the_call_has_returned_and_no_task_is_left_for_a_connection() -> None:
    async with serving() as instance:
        before = len(asyncio.all_tasks())
        async with Websocket.to(instance) as one, Websocket.to(instance) as two:
            clients = 2  # tasks of the clients' own
            await until(lambda: len(asyncio.all_tasks()) <= before + clients)
            assert all(session.direct for session in sessions(instance))
            await instance.server.emit("x")
            assert [parsed(await each.receive()) for each in (one, two)] == [["x"], ["x"]]
        await until(instance.nothing_left)


async def test_order_holds_from_a_poll_through_the_upgrade_to_the_websocket() -> None:
    async with serving() as instance, Polling.to(instance) as client, aiohttp.ClientSession() as http:
        await instance.server.emit("x", 0)
        url = client.url.replace("transport=polling", "transport=websocket")
        async with http.ws_connect(url, autoping=False) as ws:
            await ws.send_str("2probe")
            assert (await ws.receive(BOUND)).data == "3probe"
            await instance.server.emit("x", 1)
            await ws.send_str("5")
            await until(lambda: sessions(instance)[0].direct)
            await instance.server.emit("x", 2)
            assert [parsed((await ws.receive(BOUND)).data)[1] for _ in range(3)] == [0, 1, 2]


async def test_messages_that_came_right_behind_the_upgrade_are_handled_in_order() -> None:
    async with serving() as instance, Polling.to(instance) as client, aiohttp.ClientSession() as http:
        seen: list[int] = []
        instance.server.on("n", lambda sid, number: seen.append(number))
        url = client.url.replace("transport=polling", "transport=websocket")
        async with http.ws_connect(url, autoping=False) as ws:
            await ws.send_str("2probe")
            await ws.receive(BOUND)
            for packet in ("5", *(f'42["n",{number}]' for number in range(5))):
                await ws.send_str(packet)
            await until(lambda: len(seen) == 5)
            assert seen == [0, 1, 2, 3, 4]


@asynccontextmanager
async def standard(how: str) -> AsyncIterator[Instance]:
    options: dict[str, Any] = {"ws": how} if how != "off" else {"direct": False}
    async with serving(**options) as instance:
        yield instance


@pytest.mark.parametrize("how", ["off", "websockets-sansio", "wsproto"])
async def test_where_it_is_not_to_be_had_the_standard_way_serves(how: str) -> None:
    async with standard(how) as instance:
        seen: list[Any] = []
        instance.server.on("n", lambda sid, number: seen.append(number))
        async with Websocket.to(instance) as client:
            assert not sessions(instance)[0].direct
            await instance.server.emit("x", 1)
            assert parsed(await client.receive()) == ["x", 1]
            await client.send('42["n",1]')
            await until(lambda: seen == [1])
        await until(instance.nothing_left)


async def test_a_burst_beyond_the_bound_in_one_turn_does_not_close_who_reads() -> None:
    async with (
        serving(limits=Limits(max_outgoing_bytes=256 * 1024)) as instance,
        Websocket.to(instance) as client,
    ):
        for number in range(64):
            await instance.server.emit("x", (number, "y" * 16_384))
        assert [parsed(await client.receive())[1] for _ in range(64)] == list(range(64))
        assert instance.server.counters.slow_consumers == 0


async def test_a_websocket_that_fails_while_it_is_written_takes_nothing_from_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serving() as instance, Websocket.to(instance), Websocket.to(instance) as good:
        line = sessions(instance)[0].line

        class Broken:
            def __getattr__(self, name: str) -> Any:
                return getattr(transport, name)

            def write(self, _data: bytes) -> None:
                raise RuntimeError("broken")

        transport, line._transport, line._descriptor = line._transport, Broken(), None
        await instance.server.emit("x")
        assert parsed(await good.receive()) == ["x"]
        await until(lambda: len(instance.server.connections) == 1, "the end of the broken one")
        assert [record.getMessage() for record in caplog.records] == [
            "A websocket could not be written: RuntimeError('broken')"
        ]


async def raw_frames(client: Websocket, *frames: Frame) -> None:
    for frame in frames:
        client.raw.transport.write(frame.serialize(mask=True))
    await asyncio.sleep(0)


async def test_text_that_is_not_utf8_closes_with_1007_and_no_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serving() as instance, Websocket.to(instance) as client:
        await raw_frames(client, Frame(Opcode.TEXT, b"42\xff\xfe"))
        code, _reason, _packets = await client.closed()
        assert code == 1007
        await until(instance.nothing_left)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("kind", [Opcode.PING, Opcode.PONG, Opcode.CONT])
async def test_a_flood_of_frames_that_are_no_messages_is_no_way_around_the_limits(kind: Opcode) -> None:
    limits = Limits(max_events_per_second=1, max_event_burst=5)
    async with serving(limits=limits) as instance, Websocket.to(instance) as client:
        if kind is Opcode.CONT:
            await raw_frames(client, Frame(Opcode.TEXT, b"4", fin=False))
        await raw_frames(client, *[Frame(kind, b"", fin=kind is not Opcode.CONT) for _ in range(200)])
        await until(lambda: instance.server.counters.sockets_flooding == 1)
        _code, _reason, came = await client.closed()
        assert parsed(came[0])[1]["code"] == 4011


async def test_a_refused_websocket_is_no_error_of_the_server(caplog: pytest.LogCaptureFixture) -> None:
    async def refuse(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.http.response.start", "status": 400, "headers": []})
        await send({"type": "websocket.http.response.body", "body": b"no"})

    async with running(None, refuse) as port:
        with pytest.raises(InvalidStatus) as refused:
            await connect(f"ws://127.0.0.1:{port}/")
        assert refused.value.response.status_code == 400
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_server_that_lets_go_tells_who_is_connected_directly() -> None:
    async with serving() as instance, Websocket.to(instance) as client:
        await instance.server.aclose(timeout=1.0)
        code, _reason, _packets = await client.closed()
        assert code == 1001
        await until(lambda: not instance.server.eio.sockets)


async def test_a_connection_that_breaks_ends_the_session_at_once() -> None:
    async with serving() as instance:
        gone: list[str] = []
        instance.server.on("disconnect", lambda sid, reason: gone.append(reason))
        async with Websocket.to(instance) as client:
            client.raw.transport.abort()
            await until(lambda: gone == ["transport close"])
            await until(instance.nothing_left)


def test_frames_are_what_the_websocket_protocol_says() -> None:
    for size in (0, 1, 124, 125, 65_534, 65_535, 70_000):
        for data in ("x" * size, b"x" * size):
            packet = packets.SharedPacket(4, data)
            text = isinstance(data, str)
            payload = ("4" + data).encode() if isinstance(data, str) else data
            assert packet.frame == Frame(Opcode.TEXT if text else Opcode.BINARY, payload).serialize(
                mask=False
            )


def test_production_serves_with_it() -> None:
    from realtime.app import create_app
    from realtime.serving import make_server
    from realtime.settings import load_settings

    server = make_server(create_app(load_settings(demo=True)), host="127.0.0.1", port=0)
    assert server.config.ws is DirectProtocol
