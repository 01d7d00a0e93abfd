"""Order of events, and what a socket's end does to them."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from socketio.exceptions import ConnectionRefusedError as Refused

from realtime.errors import Close, Forbidden, TooManySessions
from realtime.wire.lanes import Lane

from .lab import Client, Polling, Websocket, event, parsed, serving, until


class Gate:
    """A handler that reports that it has begun and goes on when it is let."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.opened = asyncio.Event()

    async def pass_through(self) -> None:
        self.entered.set()
        await self.opened.wait()


async def test_events_of_one_socket_are_handled_one_after_another_in_the_order_they_came() -> None:
    async with serving() as instance:
        seen: list[Any] = []
        gate = Gate()

        @instance.server.on("step")
        async def step(sid: str, number: int) -> None:
            seen.append(("begin", number))
            if number == 0:
                await gate.pass_through()
            seen.append(("end", number))

        async with Websocket.to(instance) as client:
            await client.send(*(event("step", n) for n in range(4)), '421["step",4]')
            await asyncio.wait_for(gate.entered.wait(), 5)
            # The queue has the others, so they have been read while the handler was running.
            connection = next(iter(instance.server.connections.values()))
            await until(lambda: len(connection.lane) == 4)
            assert seen == [("begin", 0)]
            gate.opened.set()
            assert (await client.receive()).startswith("431")
        assert seen == [(what, n) for n in range(5) for what in ("begin", "end")]


async def test_sockets_do_not_wait_for_each_other() -> None:
    async with serving() as instance:
        gate = Gate()
        instance.server.on("wait", lambda sid: gate.pass_through())
        instance.server.on("echo", lambda sid, what: what)
        async with Websocket.to(instance) as one, Websocket.to(instance) as other:
            await one.send(event("wait"))
            await asyncio.wait_for(gate.entered.wait(), 5)
            await other.send('427["echo","x"]')
            assert await other.receive() == '437["x"]'
            gate.opened.set()


@pytest.mark.parametrize("binary", [False, True])
async def test_a_handler_may_wait_for_an_acknowledgement_of_its_own_socket(binary: bool) -> None:
    async with serving() as instance:

        @instance.server.on("ask")
        async def ask(sid: str) -> Any:
            return await instance.server.call("question", sid=sid, timeout=5)

        async with Client.to(instance) as client:
            client.sio.on("question", lambda: b"yes" if binary else "yes")
            assert await client.sio.call("ask", timeout=5) == (b"yes" if binary else "yes")


async def test_a_running_connect_handler_does_not_hold_up_reading() -> None:
    async with serving() as instance:
        gate = Gate()

        @instance.server.on("connect")
        async def connect(sid: str, environ: Any, auth: Any) -> None:
            await gate.pass_through()

        seen: list[Any] = []
        instance.server.on("early", lambda sid, n: seen.append(n))
        async with Polling.to(instance, connect=False) as client:
            assert await client.post("40") == 200
            await asyncio.wait_for(gate.entered.wait(), 5)
            assert await client.post(event("early", 1)) == 200
            assert seen == []
            gate.opened.set()
            assert (await client.receive()).startswith("40{")
            await until(lambda: seen == [1])


async def test_a_socket_with_too_many_events_waiting_is_closed_for_flooding() -> None:
    async with serving(max_pending_events=5) as instance:
        gate = Gate()
        instance.server.on("wait", lambda sid, n: gate.pass_through())
        async with Websocket.to(instance) as client:
            await client.send(event("wait", 0))
            await asyncio.wait_for(gate.entered.wait(), 5)
            await client.send(*(event("wait", n) for n in range(6)))
            code, reason, packets = await client.closed()
            assert (code, reason) == (4011, Close.FLOODING.value.reason)
            assert parsed(packets[0]) == ["closing", {"code": 4011, "reason": Close.FLOODING.value.reason}]
            assert packets[1:] == ["41"]
        assert instance.server.counters.lanes_flooded == 1
        gate.opened.set()
        await until(instance.nothing_left)


async def test_large_events_that_wait_are_bounded_by_their_bytes() -> None:
    async with serving(max_http_buffer_size=1000) as instance:
        gate = Gate()
        instance.server.on("wait", lambda sid, n: gate.pass_through())
        async with Websocket.to(instance) as client:
            await client.send(event("wait", 0))
            await asyncio.wait_for(gate.entered.wait(), 5)
            await client.send(*(event("wait", "x" * 900) for n in range(5)))
            assert (await client.closed())[0] == 4011
        gate.opened.set()


async def test_a_failing_handler_is_answered_logged_once_and_the_next_event_is_handled(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serving() as instance:

        @instance.server.on("break")
        async def break_(sid: str) -> None:
            raise RuntimeError("secret detail")

        @instance.server.on("cancelled")
        async def cancelled(sid: str) -> None:
            waiting = asyncio.ensure_future(asyncio.Event().wait())
            waiting.cancel()
            await waiting

        instance.server.on("unserialisable", lambda sid: object())
        instance.server.on("forbidden", lambda sid: (_ for _ in ()).throw(Forbidden()))
        instance.server.on("echo", lambda sid, what: what)
        async with Websocket.to(instance) as client:
            for number, name in enumerate(("break", "cancelled", "unserialisable"), 1):
                caplog.clear()
                await client.send(f'42{number}["{name}"]')
                answer = parsed(await client.receive())
                assert answer == [{"error": {"code": "internal", "message": "Internal error"}}]
                assert len([r for r in caplog.records if r.levelno >= logging.ERROR]) == 1
            caplog.clear()
            await client.send('428["forbidden"]')
            assert parsed(await client.receive())[0]["error"]["code"] == "forbidden"
            assert not [r for r in caplog.records if r.levelno >= logging.WARNING]
            await client.send('429["echo","still here"]')
            assert await client.receive() == '439["still here"]'
        assert instance.server.counters.events_failed == 3


async def test_a_worker_that_is_ended_from_outside_is_noticed_and_its_connection_closed() -> None:
    async with serving() as instance:
        left: list[Any] = []
        gate = Gate()
        instance.server.on("wait", lambda sid: gate.pass_through())
        instance.server.on("disconnect", lambda sid, reason: left.append(reason))
        async with Websocket.to(instance) as client:
            await client.send(event("wait"))
            await asyncio.wait_for(gate.entered.wait(), 5)
            worker = next(iter(instance.server.connections.values())).lane._worker
            assert worker is not None
            worker.cancel()
            code, _, packets = await client.closed()
            assert code == 1012
            assert parsed(packets[0])[1]["code"] == 4012
        await until(lambda: left)
        assert instance.server.counters.lane_workers_lost == 1
        await until(instance.nothing_left)


async def test_when_the_transport_closes_the_socket_is_gone_before_its_running_handler_ends() -> None:
    async with serving() as instance:
        seen: list[Any] = []
        gate = Gate()

        @instance.server.on("slow")
        async def slow(sid: str) -> None:
            await gate.pass_through()
            seen.append(("slow", instance.server.is_gone(sid)))

        @instance.server.on("disconnect")
        async def disconnect(sid: str, reason: str) -> None:
            session = await instance.server.get_session(sid)
            seen.append(
                ("disconnect", reason, sorted(instance.server.rooms(sid)) == sorted([sid, "r"]), session)
            )

        instance.server.on("later", lambda sid: seen.append("later"))
        async with Websocket.to(instance) as client:
            (sid,) = instance.manager.book.members
            await instance.server.enter_room(sid, "r")
            await instance.server.save_session(sid, {"k": 1})
            await client.send(event("slow"), event("later"))
            await asyncio.wait_for(gate.entered.wait(), 5)
            assert not instance.server.is_gone(sid)
        await until(lambda: instance.server.is_gone(sid))
        assert instance.manager.local_participants("r") == frozenset()
        assert seen == []
        gate.opened.set()
        await until(instance.nothing_left)
        assert seen == [("slow", True), ("disconnect", "transport close", True, {"k": 1})]


async def test_what_a_client_sent_before_it_disconnected_is_still_handled() -> None:
    async with serving() as instance:
        seen: list[Any] = []
        gate = Gate()
        instance.server.on("slow", lambda sid: gate.pass_through())
        instance.server.on("last", lambda sid: seen.append("last"))
        instance.server.on("disconnect", lambda sid, reason: seen.append(reason))
        async with Websocket.to(instance) as client:
            await client.send(event("slow"), event("last"), "41", "1")
            await asyncio.wait_for(gate.entered.wait(), 5)
            await client.closed()
        gate.opened.set()
        await until(instance.nothing_left)
        assert seen == ["last", "client disconnect"]


@pytest.mark.parametrize("transport", ["websocket", "polling"])
async def test_a_connect_handler_that_ends_after_the_client_left_is_undone_by_one_disconnect(
    transport: str,
) -> None:
    async with serving() as instance:
        gate = Gate()
        left: list[str] = []

        @instance.server.on("connect")
        async def connect(sid: str, environ: Any, auth: Any) -> None:
            await gate.pass_through()
            assert instance.server.is_gone(sid)
            await instance.server.enter_room(sid, "too late")

        instance.server.on("disconnect", lambda sid, reason: left.append(sid))
        client: Any
        if transport == "websocket":
            async with Websocket.to(instance, connect=False) as client:
                await client.send("40")
                await asyncio.wait_for(gate.entered.wait(), 5)
        else:
            async with Polling.to(instance, connect=False) as client:
                await client.post("40")
                await asyncio.wait_for(gate.entered.wait(), 5)
                pending = asyncio.create_task(client.get())
                await client.post("1")
                assert (await asyncio.wait_for(pending, 5))[0] == 200
                assert (await client.get())[0] == 400
        (sid,) = instance.manager.book.members
        await until(lambda: instance.server.is_gone(sid))
        gate.opened.set()
        await until(instance.nothing_left)
        assert left == [sid]


async def test_events_of_a_client_that_left_while_it_was_connecting_are_not_handled() -> None:
    async with serving() as instance:
        gate = Gate()
        seen: list[Any] = []

        @instance.server.on("connect")
        async def connect(sid: str, environ: Any, auth: Any) -> None:
            await gate.pass_through()

        instance.server.on("early", lambda sid: seen.append("early"))
        instance.server.on("disconnect", lambda sid, reason: seen.append(reason))
        async with Websocket.to(instance, connect=False) as client:
            await client.send("40")
            await gate.entered.wait()
            await client.send(event("early"), "41")
            (sid,) = instance.manager.book.members
            await until(lambda: instance.server.is_gone(sid))
            gate.opened.set()
            await until(lambda: not instance.manager.book.members)
        await until(instance.nothing_left)
        assert seen == ["client disconnect"]
        assert instance.server.counters.events_dropped == 1


@pytest.mark.parametrize("transport", ["websocket", "polling"])
@pytest.mark.parametrize(
    ("how", "message", "data"),
    [
        ("false", "Connection rejected by server", None),
        ("refused", "go away", {"code": "why"}),
        ("typed", str(TooManySessions()), {"code": "too-many-sessions"}),
        ("broken", "Internal error", {"code": "internal"}),
    ],
)
async def test_a_refused_client_is_told_why_and_leaves_no_trace(
    transport: str, how: str, message: str, data: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving() as instance:
        left: list[str] = []

        @instance.server.on("connect")
        async def connect(sid: str, environ: Any, auth: Any) -> Any:
            await instance.server.enter_room(sid, "r")
            instance.manager.admit(sid)
            await instance.server.emit("early", to=sid)
            if how == "refused":
                raise Refused("go away", {"code": "why"})
            if how == "typed":
                raise TooManySessions()
            if how == "broken":
                raise RuntimeError("secret")
            return False

        instance.server.on("disconnect", lambda sid, reason: left.append(sid))
        kind: Any = Websocket if transport == "websocket" else Polling
        async with kind.to(instance, connect=False) as client:
            await (client.send if transport == "websocket" else client.post)("40", '42["after"]')
            answer = await client.receive()
            assert answer.startswith("44{")
            expected = {"message": message} | ({"data": data} if data else {})
            assert parsed(answer) == expected
            assert not instance.manager.book.members
            assert not instance.manager.book.tables
            assert not instance.manager.book.admitted
        tracebacks = [r for r in caplog.records if r.exc_info]
        assert len(tracebacks) == (1 if how == "broken" else 0)
        assert left == []
        assert instance.server.counters.connects_failed + instance.server.counters.connects_refused == 1


async def test_python_and_its_client_see_the_code_of_a_refusal() -> None:
    async with serving() as instance:

        @instance.server.on("connect")
        async def connect(sid: str, environ: Any, auth: Any) -> Any:
            raise TooManySessions()

        client = Client()
        with pytest.raises(Exception, match="One or more namespaces failed"):
            await client.sio.connect(instance.http, transports=["websocket"])
        assert (await client.got("connect_error"))[1]["data"] == {"code": "too-many-sessions"}
        await client.sio.shutdown()


async def test_unknown_namespaces_and_second_connects_are_answered_as_the_reference_server_does() -> None:
    async with serving() as instance:
        async with Websocket.to(instance) as client:
            await client.send("40/nowhere,")
            assert await client.receive() == '44/nowhere,{"message":"Invalid namespace"}'
            await client.send("40")
            assert (await client.closed())[0] == 1002
        await until(instance.nothing_left)


@pytest.mark.parametrize(
    "packets",
    [
        ["9"],
        ["42"],
        ["42{}"],
        ["42[]"],
        ['42["disconnect"]'],
        ['42["connect"]'],
        ["431{}"],
        ["43[]"],
        ["42["],
        ["42" + "[" * 100_000],
        ['451-["x",{"_placeholder":true,"num":7}]'],
        ['451-["x",{"_placeholder":true,"num":0}]', '42["y"]'],
        ['45999-["x"]'],
        ['451-["x"]'],
        ['451-["x",[{"_placeholder":true,"num":0},{"a":{"_placeholder":1,"num":0}}]]'],
        ['452-["x",{"_placeholder":true,"num":1},{"_placeholder":true,"num":1}]'],
        ['461-0[{"_placeholder":true,"num":0},{"_placeholder":true,"num":0}]'],
        [b"binary"],
        ["44{}"],
        ["x"],
    ],
)
async def test_a_malformed_packet_ends_the_connection_quietly(
    packets: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    async with serving() as instance:
        ran: list[Any] = []
        instance.server.on("disconnect", lambda sid, reason: ran.append(reason))
        async with Websocket.to(instance) as client:
            await client.send(*packets)
            await client.closed()
        await until(instance.nothing_left)
        assert len(ran) == 1
        assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


async def test_an_event_before_any_connect_ends_the_connection() -> None:
    async with serving() as instance:
        async with Websocket.to(instance, connect=False) as client:
            await client.send(event("x"))
            assert (await client.closed())[0] == 1002
        await until(instance.nothing_left)


async def test_a_namespace_can_be_left_and_joined_again_while_its_disconnect_handler_runs() -> None:
    async with serving() as instance:
        gate = Gate()

        @instance.server.on("disconnect")
        async def disconnect(sid: str, reason: str) -> None:
            await gate.pass_through()

        async with Websocket.to(instance) as client:
            (first,) = instance.manager.book.members
            await client.send("41")
            await asyncio.wait_for(gate.entered.wait(), 5)
            await client.send("40")
            await until(lambda: len(instance.manager.book.members) == 2)
            gate.opened.set()
            second = parsed(await client.receive())["sid"]
            assert second != first
            await until(lambda: set(instance.manager.book.members) == {second})
        await until(instance.nothing_left)


async def test_disconnect_handlers_run_once_even_when_they_raise_a_type_error() -> None:
    async with serving() as instance:
        runs: list[Any] = []

        @instance.server.on("disconnect")
        async def disconnect(sid: str, reason: str) -> None:
            runs.append(reason)
            raise TypeError("mine")

        async with Websocket.to(instance):
            pass
        await until(instance.nothing_left)
        assert runs == ["transport close"]
        assert instance.server.counters.disconnects_failed == 1


async def test_handlers_of_the_older_form_are_called_without_auth_and_reason() -> None:
    async with serving() as instance:
        runs: list[Any] = []
        instance.server.on("connect", lambda sid, environ: runs.append("connect"))
        instance.server.on("disconnect", lambda sid: runs.append("disconnect"))
        async with Websocket.to(instance):
            pass
        await until(instance.nothing_left)
        assert runs == ["connect", "disconnect"]


async def test_a_lane_drops_only_what_has_the_tag_and_keeps_its_bounds_right() -> None:
    done: list[str] = []
    lane = Lane(limit=3, limit_weight=10, raised=lambda error: None, lost=lambda: None)

    def job(name: str) -> Any:
        async def run() -> None:
            done.append(name)

        return run

    assert lane.put(job("a"), tag="x", weight=6)
    assert not lane.put(job("b"), tag="x", weight=6)
    assert lane.put(job("c"), tag="y", weight=4)
    assert lane.drop("x") == 1
    assert lane.put(job("d"), tag="x", weight=6)
    await until(lambda: not lane.busy)
    assert done == ["c", "d"]
