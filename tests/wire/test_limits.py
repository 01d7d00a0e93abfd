"""What a client may send and how long it may take: refused beyond, and closed if it goes on."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
import websockets

from realtime.directory.memory import MemoryDirectory
from realtime.errors import LimitExceeded, SettingsError
from realtime.server import RealtimeServer
from realtime.settings import load_settings
from realtime.wire import Limits, LocalBus, LocalHub
from realtime.wire.limits import PACKETS_PER_EVENT, Bucket
from sim import http

from .lab import Instance, Polling, Websocket, event, parsed, serving, until

TRANSPORTS = ["websocket", "polling"]
NO_REFILL = 1
"""Events a second that do not matter within a test."""


def to(
    instance: Instance, transport: str, *, connect: bool = True
) -> AbstractAsyncContextManager[Websocket | Polling]:
    kind: Any = Websocket if transport == "websocket" else Polling
    client: AbstractAsyncContextManager[Websocket | Polling] = kind.to(instance, connect=connect)
    return client


async def send(client: Websocket | Polling, *packets: str) -> None:
    """As far as the server lets it: it may close the connection in between."""
    with contextlib.suppress(websockets.ConnectionClosed):
        await (client.send(*packets) if isinstance(client, Websocket) else client.post(*packets))


async def ended(instance: Instance, client: Websocket | Polling) -> tuple[int, list[str]]:
    """How the server closed it: the close code (by polling, the code of the last notice), and the packets before."""
    if isinstance(client, Websocket):
        code, _reason, packets = await client.closed()
        return code, packets
    packets = client.waiting
    status, payload = await client.get()
    while status == 200:
        packets += payload.split("\x1e")
        status, payload = await client.get()
    return next(parsed(each)[1]["code"] for each in packets if "closing" in each), packets


def error_of(packet: str) -> str:
    return str(parsed(packet)[0]["error"]["code"])


# --- events


def test_a_bucket_gives_a_burst_at_once_and_then_its_rate() -> None:
    bucket = Bucket(10, 3)
    assert [bucket.take(100.0) for _ in range(5)] == [True, True, True, False, False]
    assert [bucket.take(100.125), bucket.take(100.125)] == [True, False]
    assert [bucket.take(200.0) for _ in range(4)] == [True, True, True, False]


def test_a_bucket_remembers_refusals_until_it_is_full_again() -> None:
    bucket = Bucket(10, 3)
    for _ in range(6):
        bucket.take(100.0)
    assert not bucket.ignored
    bucket.take(100.0)
    assert bucket.ignored

    patient = Bucket(10, 3)
    for _ in range(6):
        patient.take(100.0)
    assert patient.take(101.0)
    for _ in range(3):
        patient.take(101.0)
    assert not patient.ignored


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_events_beyond_the_burst_are_refused_in_their_acks_and_not_handled(transport: str) -> None:
    limits = Limits(max_events_per_second=NO_REFILL, max_event_burst=6)
    async with serving(limits=limits) as instance, to(instance, transport) as client:
        seen: list[int] = []
        instance.server.on("n", lambda sid, n: seen.append(n))
        await send(client, *(f'42{n}["n",{n}]' for n in range(8)))
        answers = [await client.receive() for _ in range(8)]
        refused = [answer for answer in answers if "error" in answer]
        # The CONNECT was the first event.
        assert {answer[:3] for answer in refused} == {"435", "436", "437"}
        assert {error_of(answer) for answer in refused} == {"limit-exceeded"}
        assert seen == [0, 1, 2, 3, 4]
        assert instance.server.counters.events_refused == 3


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_who_pauses_may_send_again(transport: str) -> None:
    limits = Limits(max_events_per_second=50, max_event_burst=5)
    async with serving(limits=limits) as instance, to(instance, transport) as client:
        seen: list[int] = []
        instance.server.on("n", lambda sid, n: seen.append(n))
        await send(client, *(event("n", 1) for _ in range(8)))
        await until(lambda: instance.server.counters.events_refused > 0)
        seen.clear()
        await asyncio.sleep(0.2)  # a full bucket; more does no harm
        await send(client, *(event("n", 2) for _ in range(5)))
        await until(lambda: seen.count(2) == 5, "the events after the pause")


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_who_goes_on_is_closed_for_flooding(transport: str) -> None:
    limits = Limits(max_events_per_second=NO_REFILL, max_event_burst=10)
    async with serving(limits=limits) as instance:
        async with to(instance, transport) as client:
            await send(client, *(event("n") for _ in range(30)))
            code, packets = await ended(instance, client)
            assert code == 4011
            assert parsed(packets[0]) == ["closing", {"code": 4011, "reason": "too many events"}]
        assert instance.server.counters.sockets_flooding == 1
        assert instance.server.counters.events_refused == 11
        await until(instance.nothing_left)


async def test_connecting_and_leaving_over_and_over_counts_as_events() -> None:
    limits = Limits(max_events_per_second=NO_REFILL, max_event_burst=4)
    async with serving(limits=limits) as instance, Websocket.to(instance) as client:
        for _ in range(3):
            await client.send("41", "40")
            assert (await client.receive()).startswith("40{")
        await client.send("41", "40")
        refusal = await client.receive()
        assert refusal.startswith("44{")
        assert parsed(refusal)["data"] == {"code": "limit-exceeded"}
        await send(client, "40", "40", "40", "40")
        assert (await client.closed())[0] == 4011


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("packet", ["3", "4399[]"])
async def test_pongs_and_acks_are_no_events_but_not_boundless(transport: str, packet: str) -> None:
    limits = Limits(max_events_per_second=NO_REFILL, max_event_burst=4)
    most = PACKETS_PER_EVENT * 4
    async with serving(limits=limits) as instance:
        async with to(instance, transport) as client:
            heard: list[str] = []
            instance.server.on("hi", heard.append)
            await send(client, *[packet] * (most - 5), event("hi"))
            await until(lambda: heard, "the event after many pongs or acks")
            assert instance.server.counters.sockets_flooding == 0
            await send(client, *[packet] * most)
            code, _packets = await ended(instance, client)
            assert code == 4011
            assert instance.server.counters.events_refused == 0
        assert instance.server.counters.sockets_flooding == 1
        await until(instance.nothing_left)


# --- rooms


async def test_a_socket_enters_only_so_many_rooms_and_its_client_is_told() -> None:
    async with serving(limits=Limits(max_rooms=3)) as instance, Websocket.to(instance) as client:

        async def enter(sid: str, room: str) -> None:
            await instance.server.enter_room(sid, room)

        async def leave(sid: str, room: str) -> None:
            await instance.server.leave_room(sid, room)

        instance.server.on("enter", enter)
        instance.server.on("leave", leave)
        (sid,) = instance.manager.book.members
        for name in "abcb":
            await client.send(f'421["enter","{name}"]')
            assert await client.receive() == "431[]"
        await client.send('422["enter","d"]')
        assert error_of(await client.receive()) == "limit-exceeded"
        assert instance.manager.local_rooms(sid) == {"a", "b", "c"}
        await client.send('423["leave","a"]', '424["enter","d"]')
        assert [await client.receive(), await client.receive()] == ["433[]", "434[]"]
        assert instance.manager.local_rooms(sid) == {"b", "c", "d"}
        assert instance.server.counters.rooms_refused == 1


async def test_a_socket_that_goes_on_entering_too_many_rooms_is_closed() -> None:
    async with serving(limits=Limits(max_rooms=1)) as instance, Websocket.to(instance) as client:
        (sid,) = instance.manager.book.members
        await instance.server.enter_room(sid, "a")
        instance.manager.max_refused_rooms = 5
        for number in range(5):
            with pytest.raises(LimitExceeded):
                await instance.server.enter_room(sid, f"r{number}")
            assert not instance.server.is_gone(sid)
        with pytest.raises(LimitExceeded):
            await instance.server.enter_room(sid, "one more")
        assert (await client.closed())[0] == 4011
        assert instance.server.counters.sockets_flooding == 1


async def test_a_room_too_many_that_another_instance_asks_for_is_refused_and_no_fault_of_the_bus() -> None:
    hub = LocalHub()
    async with (
        serving(LocalBus(hub), limits=Limits(max_rooms=1)) as instance,
        serving(LocalBus(hub)) as other,
        Websocket.to(instance),
    ):
        (sid,) = instance.manager.book.members
        await other.manager.move(sid, "a", into=True)
        assert instance.manager.local_rooms(sid) == {"a"}
        with pytest.raises(LimitExceeded):
            await other.manager.move(sid, "b", into=True)
        assert instance.server.counters.rooms_refused == 1
        assert instance.manager.local_rooms(sid) == {"a"}
        assert instance.server.counters.bus_malformed == 0


# --- the handshake


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_connection_that_never_says_connect_is_closed_in_time(transport: str) -> None:
    async with serving(limits=Limits(handshake_seconds=0.3)) as instance:
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with to(instance, transport, connect=False) as client:
            if isinstance(client, Websocket):
                assert (await client.closed())[:2] == (1008, "no CONNECT in time")
            else:
                assert await client.get() == (200, "6")
                assert (await client.get())[0] == 400
            assert loop.time() - began >= 0.3
        assert instance.server.counters.handshakes_expired == 1
        await until(instance.nothing_left)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_connection_that_was_refused_is_closed_and_one_that_joined_stays(transport: str) -> None:
    async with serving(limits=Limits(handshake_seconds=0.1)) as instance:
        async with to(instance, transport) as joined:
            await send(joined, "41")  # who has joined once may take its time to come again
            async with to(instance, transport, connect=False) as refused:
                await send(refused, "40/nowhere,")
                assert (await refused.receive()).startswith("44/nowhere,")
                await until(lambda: instance.server.counters.handshakes_expired == 1, "its end")
            await send(joined, "40")
            assert (await joined.receive()).startswith("40{")
        assert instance.server.counters.handshakes_expired == 1


async def test_a_client_whose_connect_is_still_being_handled_is_not_closed_for_that() -> None:
    async with serving(limits=Limits(handshake_seconds=0.05)) as instance:
        gate = asyncio.Event()

        @instance.server.on("connect")
        async def connect(sid: str, environ: Any, auth: Any) -> None:
            if auth:
                await gate.wait()

        async with Websocket.to(instance, connect=False) as client:
            await client.send('40{"slow":1}')
            async with Websocket.to(instance, connect=False) as silent:
                assert (await silent.closed())[0] == 1008
            gate.set()
            assert (await client.receive()).startswith("40{")


async def test_a_request_whose_body_does_not_come_ends_its_session_in_time() -> None:
    async with serving(limits=Limits(handshake_seconds=0.2)) as instance, Polling.to(instance) as client:
        whole = http.request("POST", "x", client.url.removeprefix(instance.http), b'42["n"]')
        reader, writer = await asyncio.open_connection("127.0.0.1", instance.port)
        writer.write(whole[:-3])
        answer = await asyncio.wait_for(http.response(reader), 5)
        assert answer.status == 400
        await until(instance.nothing_left)
        writer.close()


# --- settings


def test_the_settings_reach_the_wire() -> None:
    names = {
        "realtime_max_outgoing_bytes": 5000,
        "realtime_slow_consumer_seconds": 7.5,
        "realtime_handshake_seconds": 8.5,
        "realtime_max_events_per_second": 11,
        "realtime_max_event_burst": 12,
        "realtime_max_rooms_per_session": 1013,
    }
    server = RealtimeServer(load_settings(demo=True, **names), MemoryDirectory())
    assert server.wire.limits == Limits(5000, 7.5, 8.5, 11, 12, 1013)
    assert server.wire.eio.limits == server.wire.limits
    assert RealtimeServer(load_settings(demo=True), MemoryDirectory()).wire.limits == Limits()


def test_rooms_must_be_enough_for_the_channels() -> None:
    with pytest.raises(SettingsError, match=r"REALTIME_MAX_ROOMS_PER_SESSION: got 1000; .* 10 more"):
        load_settings(demo=True, realtime_max_rooms_per_session=1000)
