"""Several instances on one bus: emits, rooms, calls, and a bus that misbehaves."""

from __future__ import annotations

import asyncio
import json
import logging
import pickle
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from socketio.async_pubsub_manager import AsyncPubSubManager

from realtime.errors import BusOverloaded, CallTimeout, Close, MessageTooLarge, SessionGone, StateUnavailable
from realtime.wire import LocalHub

from .lab import BOUND, Client, FaultyBus, Instance, Websocket, parsed, serving, unavailable, until


class Pair:
    """Two instances; `here` calls and `there` has the client."""

    def __init__(
        self, here: Instance, there: Instance, hub: LocalHub, buses: tuple[FaultyBus, FaultyBus]
    ) -> None:
        self.here = here
        self.there = there
        self.hub = hub
        self.here_bus, self.there_bus = buses

    def sid(self) -> str:
        (sid,) = self.there.manager.book.members
        return str(sid)

    def nothing_waits(self) -> bool:
        return len(self.here.manager.waiting) == len(self.there.manager.waiting) == 0 and not any(
            member.asks for each in (self.here, self.there) for member in each.manager.book.members.values()
        )


@asynccontextmanager
async def pair(**options: Any) -> AsyncIterator[Pair]:
    hub = LocalHub()
    buses = FaultyBus(hub), FaultyBus(hub)
    async with serving(buses[0], manager_options=options) as here:
        async with serving(buses[1], manager_options=options) as there:
            yield Pair(here, there, hub, buses)


class StockManager(AsyncPubSubManager):
    """python-socketio's own manager on our bus."""

    def __init__(self, hub: LocalHub, **options: Any) -> None:
        super().__init__(**options)
        self.bus = hub.bus()
        self.queue: asyncio.Queue[bytes] = asyncio.Queue()
        self.bus.listen("socketio", self.queue.put_nowait)

    async def _publish(self, data: Any) -> None:
        await self.bus.publish("socketio", json.dumps(data).encode())

    async def _listen(self) -> AsyncIterator[bytes]:
        while True:
            yield await self.queue.get()


async def test_an_emit_reaches_the_room_on_every_instance_once() -> None:
    async with pair() as p, Websocket.to(p.here) as near, Websocket.to(p.there) as far:
        for instance in (p.here, p.there):
            (sid,) = instance.manager.book.members
            await instance.server.enter_room(sid, "r")
        await p.here.server.emit("x", {"n": b"\x01"}, to="r")
        await p.here.server.emit("y", ("two", "args"), to=["r", p.sid()], skip_sid=p.sid())
        await p.here.server.emit("end")
        for client, packets in ((near, 4), (far, 3)):
            got = [await client.receive() for _ in range(packets)]
            assert got[:2] == ['451-["x",{"n":{"_placeholder":true,"num":0}}]', b"\x01"]
            assert got[2:] == (['42["y","two","args"]'] if client is near else []) + ['42["end"]']


async def test_stock_instances_and_write_only_managers_understand_the_bus_and_are_understood() -> None:
    async with pair(room_channels=False) as p, Client.to(p.there) as client:
        import socketio

        from .lab import running

        stock_manager = StockManager(p.hub)
        stock = socketio.AsyncServer(async_mode="asgi", client_manager=stock_manager)
        stock.on("connect", lambda sid, environ: None)
        outside = StockManager(p.hub, write_only=True)
        async with running(stock, socketio.ASGIApp(stock)) as port:
            async with Client.to(Instance(stock, port)) as of_stock:
                client.sio.on("ask", lambda n: n + 1)
                of_stock.sio.on("ask", lambda n: n + 2)
                await outside.emit("outside", {"b": b"\x00"})
                await p.here.server.emit("ours", ["list"])
                for each in (client, of_stock):
                    assert await each.got("outside") == ("outside", {"b": b"\x00"})
                    assert await each.got("ours") == ("ours", ["list"])
                assert await stock.call("ask", 1, sid=p.sid(), timeout=5) == 2
                assert await p.here.server.call("ask", 1, sid=of_stock.sid, timeout=5) == 3
                # Rooms across the two kinds.
                await stock.enter_room(p.sid(), "r")
                await until(lambda: p.there.manager.local_rooms(p.sid()) == {"r"})
                await p.here.server.enter_room(of_stock.sid, "r")
                await until(lambda: "r" in stock.rooms(of_stock.sid))
                # A method that stock does not know does it no harm.
                await p.here.manager.close_elsewhere("nobody", "/", "KICKED")
                await p.here.server.emit("in r", to="r")
                await client.got("in r")
                await of_stock.got("in r")
                await stock.disconnect(p.sid())
                assert (await client.got("disconnect"))[1] == "server disconnect"
                assert not len(p.here.manager.waiting)
            stock_manager.thread.cancel()
            await asyncio.wait([stock_manager.thread])
            await asyncio.wait_for(stock.shutdown(), BOUND)


async def test_room_changes_over_the_bus_are_applied_in_order_and_reported() -> None:
    async with pair() as p, Websocket.to(p.there):
        changes: list[frozenset[str]] = []
        manager = p.there.manager
        manager.on_rooms_changed = lambda sid, namespace: changes.append(manager.local_rooms(sid))
        await p.here.server.enter_room(p.sid(), "a")
        await p.here.server.enter_room(p.sid(), "b")
        await p.here.server.leave_room(p.sid(), "a")
        await p.here.server.close_room("b")
        await until(lambda: len(changes) == 4)
        assert changes == [{"a"}, {"a", "b"}, {"b"}, frozenset()]


async def test_a_close_that_is_to_be_confirmed_is_by_the_instance_that_has_the_socket_or_had_it() -> None:
    hub = LocalHub()
    deaf = {"manager_options": {"join_seconds": 0.1}}
    async with serving(FaultyBus(hub), **deaf) as here, serving(FaultyBus(hub)) as there:
        async with Websocket.to(there) as client:
            sid = next(iter(there.manager.book.members))
            assert await here.server.close(sid, Close.KICKED, confirmed=True) is False
            assert (await client.closed())[0] == Close.KICKED.value.code
        await until(there.nothing_left)
        assert await here.server.close(sid, Close.KICKED, confirmed=True) is False
        with pytest.raises(StateUnavailable):
            await here.server.close("x" * 20, Close.KICKED, confirmed=True)
        assert await here.server.close("x" * 20, Close.KICKED) is False
        assert not len(here.manager.waiting)


async def test_a_socket_is_closed_with_its_reason_from_another_instance() -> None:
    async with pair() as p, Websocket.to(p.there) as client:
        assert await p.here.server.close(p.sid(), Close.KICKED) is False
        code, _, packets = await client.closed()
        assert code == 4004
        assert parsed(packets[0]) == ["closing", {"code": 4004, "reason": Close.KICKED.value.reason}]


# --- a bus that fails


@pytest.mark.parametrize(
    ("failure", "counter"),
    [
        (unavailable(), "bus_unavailable"),
        (ConnectionResetError(), "bus_unavailable"),
        (BusOverloaded(), "bus_overloaded"),
        (RuntimeError("a bug"), "bus_failed"),
    ],
)
async def test_when_the_bus_fails_local_delivery_goes_on_and_the_log_is_not_flooded(
    failure: BaseException, counter: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with pair() as p, Websocket.to(p.here) as near:
        p.here_bus.failure = failure
        for n in range(20):
            await p.here.server.emit("n", n)
        assert [parsed(await near.receive())[1] for _ in range(20)] == list(range(20))
        assert getattr(p.here.server.counters, counter) == 20
        assert len([r for r in caplog.records if "did not get a message" in r.message]) == 1


async def test_a_message_that_is_too_large_is_delivered_to_nobody() -> None:
    async with pair(max_message_bytes=500) as p, Websocket.to(p.here) as near, Websocket.to(p.there) as far:
        with pytest.raises(MessageTooLarge):
            await p.here.server.emit("big", "x" * 600)
        with pytest.raises(MessageTooLarge):
            await p.here.manager.call("big", "x" * 600, sid=p.sid(), timeout=5)
        await p.here.server.emit("small")
        assert await near.receive() == '42["small"]'
        assert await far.receive() == '42["small"]'
        assert p.nothing_waits()


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"null",
        b"{}",
        b'{"method":5}',
        b'{"method":"emit"}',
        b'{"method":"emit","event":"x","data":[1],"namespace":"/","room":{"a":1}}',
        b'{"method":"emit","event":"x","data":5,"binary":true}',
        b'{"method":"emit","event":"x","data":[1],"callback":[1]}',
        b'{"method":"emit","event":null,"data":[1]}',
        b'{"method":"callback","host_id":"HOST"}',
        b'{"method":"callback","host_id":"HOST","sid":"s","id":[],"args":[]}',
        b'{"method":"gone","host_id":"HOST","sid":"s","id":{}}',
        b'{"method":"forget","sid":[]}',
        b'{"method":"close","sid":"SID","close":"NO SUCH"}',
        b'{"method":"disconnect","sid":{}}',
        b'{"method":"enter_room","sid":"SID","room":["r"]}',
        b'{"method":"enter_room","sid":"SID"}',
        b'{"method":"close_room","room":{}}',
        b'{"method":"emit","data":' + b"[" * 100_000,
    ],
)
async def test_a_malformed_message_is_counted_and_the_next_one_is_handled(message: bytes) -> None:
    async with pair() as p, Websocket.to(p.there) as client:
        message = message.replace(b"SID", p.sid().encode())
        message = message.replace(b"HOST", p.there.manager.host_id.encode())
        await p.hub.bus().publish("socketio", message)
        await p.here.server.emit("still here")
        assert await client.receive() == '42["still here"]'
        assert p.there.server.counters.bus_malformed == 1
        assert not p.there.manager.book.tables


async def test_pickle_on_the_bus_is_never_read_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return (print, ("unpickled",))

    async with pair() as p, Websocket.to(p.there) as client:
        for _ in range(3):
            await p.hub.bus().publish("socketio", pickle.dumps(Trap()))
        await p.here.server.emit("still here")
        assert await client.receive() == '42["still here"]'
        assert p.there.server.counters.bus_pickle == 3
        said = [r for r in caplog.records if "pickle" in r.message]
        assert len(said) == 2  # once by each instance
        assert "upgrade" in said[0].message


async def test_the_inbound_queue_is_bounded_and_loss_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    async with pair(max_inbound=5) as p, Websocket.to(p.there) as client:
        bus = p.hub.bus()
        for n in range(20):
            text = json.dumps({"method": "emit", "event": "n", "data": [n], "namespace": "/"})
            p.there.manager.inbound.receive(text.encode())
        assert [parsed(await client.receive())[1] for _ in range(5)] == [0, 1, 2, 3, 4]
        assert p.there.server.counters.bus_inbound_dropped == 15
        await bus.publish("socketio", b'{"method":"emit","event":"end","data":[null],"namespace":"/"}')
        assert await client.receive() == '42["end"]'
        assert len([r for r in caplog.records if "faster" in r.message]) == 1


async def test_a_listener_task_that_is_ended_from_outside_is_noticed_and_replaced() -> None:
    async with pair() as p, Websocket.to(p.there) as client:
        text = b'{"method":"emit","event":"n","data":[null],"namespace":"/"}'
        p.there.manager.inbound.receive(text)
        worker = p.there.manager.inbound._lane._worker
        assert worker is not None
        worker.cancel()
        p.there.manager.inbound.receive(text)
        assert await client.receive() == '42["n"]'
        await until(lambda: p.there.server.counters.bus_listener_restarts == 1)


async def test_an_instance_does_not_parse_its_own_messages() -> None:
    async with pair() as p, Websocket.to(p.there) as client:
        await p.here.server.emit("x")
        await p.here.server.enter_room(p.sid(), "r")
        await p.here.server.close_room("r")
        await client.receive()
        assert len(p.here_bus.published) == 3
        assert (
            p.here.server.counters.bus_received == len(p.there_bus.published) == 1
        )  # that the room was entered


# --- calls


@pytest.mark.parametrize("where", ["here", "there"])
@pytest.mark.parametrize(
    ("answer", "result"), [("one", "one"), (("a", 2), ("a", 2)), (None, None), (b"\x05", b"\x05"), ([1], [1])]
)
async def test_a_call_returns_the_answer_from_any_instance_and_keeps_nothing(
    where: str, answer: Any, result: Any
) -> None:
    async with pair() as p:
        caller = p.there if where == "here" else p.here
        async with Client.to(p.there) as client:
            client.sio.on("ask", lambda *args: answer)
            assert await caller.manager.call("ask", {"q": 1}, sid=p.sid(), timeout=5) == result
            assert p.nothing_waits()
            if where == "here":
                assert p.there_bus.published == []


async def test_a_call_whose_answer_is_too_large_for_the_bus_fails_at_once_and_keeps_nothing() -> None:
    async with pair(max_message_bytes=1000) as p, Client.to(p.there) as client:
        client.sio.on("ask", lambda: "x" * 1000)
        with pytest.raises(MessageTooLarge):
            await p.here.manager.call("ask", sid=p.sid(), timeout=BOUND)
        assert await p.there.manager.call("ask", sid=p.sid(), timeout=BOUND) == "x" * 1000
        assert p.nothing_waits()


async def test_in_a_room_an_answer_too_large_for_the_bus_does_not_keep_the_others_from_answering() -> None:
    async with (
        pair(max_message_bytes=1000) as p,
        Websocket.to(p.there) as large,
        Websocket.to(p.there) as small,
    ):
        for sid in p.there.manager.book.members:
            await p.there.server.enter_room(sid, "r")
        answers: list[Any] = []
        await p.here.server.emit("ask", to="r", callback=answers.append)
        for client, answer in ((large, "x" * 1000), (small, "yes")):
            packet = await client.receive()
            await client.send("43" + packet[2 : packet.index("[")] + json.dumps([answer]))
            if client is large:
                await until(lambda: sum(len(m.asks) for m in p.there.manager.book.members.values()) == 1)
        await until(lambda: answers == ["yes"])


@pytest.mark.parametrize("where", ["here", "there"])
async def test_a_call_that_is_not_answered_times_out_with_its_own_error_and_leaves_nothing(
    where: str,
) -> None:
    async with pair() as p:
        caller = p.there if where == "here" else p.here
        async with Websocket.to(p.there) as client:
            with pytest.raises(CallTimeout):
                await caller.manager.call("ask", sid=p.sid(), timeout=0.2)
            packet = await client.receive()
            await until(p.nothing_waits)
            # The answer comes too late for this call and must not be taken for another's.
            later = asyncio.create_task(caller.manager.call("again", sid=p.sid(), timeout=5))
            second = await client.receive()
            await client.send("43" + packet[2 : packet.index("[")] + '["late"]')
            await client.send("43" + second[2 : second.index("[")] + '["right"]')
            assert await later == "right"
            await until(p.nothing_waits)


@pytest.mark.parametrize("where", ["here", "there"])
async def test_a_cancelled_call_leaves_nothing_on_either_side(where: str) -> None:
    async with pair() as p:
        caller = p.there if where == "here" else p.here
        async with Websocket.to(p.there) as client:
            calling = asyncio.create_task(caller.manager.call("ask", sid=p.sid(), timeout=60))
            await client.receive()
            calling.cancel()
            with pytest.raises(asyncio.CancelledError):
                await calling
            await until(p.nothing_waits)


@pytest.mark.parametrize("where", ["here", "there"])
@pytest.mark.parametrize("how", ["transport", "namespace", "server"])
async def test_a_call_fails_at_once_when_the_called_socket_goes(where: str, how: str) -> None:
    async with pair() as p:
        caller = p.there if where == "here" else p.here
        blocked = asyncio.Event()

        @p.there.server.on("disconnect")
        async def disconnect(sid: str, reason: str) -> None:
            await blocked.wait()  # the caller must not have to wait for this

        async with Websocket.to(p.there) as client:
            sid = p.sid()
            calling = asyncio.create_task(caller.manager.call("ask", sid=sid, timeout=60))
            await client.receive()
            if how == "transport":
                await client.raw.close()
            elif how == "namespace":
                await client.send("41")
            else:
                await p.there.server.close(sid, Close.KICKED)
            with pytest.raises(SessionGone):
                await asyncio.wait_for(calling, BOUND)
            assert p.nothing_waits()
            # And so does one that is made afterwards, the second time without any message crossing.
            with pytest.raises(SessionGone):
                await asyncio.wait_for(caller.manager.call("ask", sid=sid, timeout=60), BOUND)
            blocked.set()
        await until(p.there.nothing_left)
        with pytest.raises(SessionGone):
            await asyncio.wait_for(caller.manager.call("ask", sid=sid, timeout=60), BOUND)


async def test_calls_to_the_sockets_of_a_dead_instance_can_be_failed() -> None:
    async with pair() as p:
        calling = [
            asyncio.create_task(p.here.manager.call("ask", sid="of a dead instance", timeout=60))
            for _ in range(2)
        ]
        await until(lambda: len(p.here.manager.waiting) == 2)
        assert p.here.manager.fail_calls("someone else") == 0
        assert p.here.manager.fail_calls("of a dead instance") == 2
        assert [type(e) for e in await asyncio.gather(*calling, return_exceptions=True)] == [SessionGone] * 2
        assert p.nothing_waits()


async def test_a_call_over_a_bus_that_fails_raises_and_leaves_nothing() -> None:
    async with pair() as p, Websocket.to(p.there):
        for failure in (unavailable(), BusOverloaded(), TimeoutError()):
            p.here_bus.failure = failure
            expected = CallTimeout if isinstance(failure, TimeoutError) else type(failure)
            with pytest.raises(expected):
                await p.here.manager.call("ask", sid=p.sid(), timeout=5)
        assert p.nothing_waits()
        with pytest.raises(StateUnavailable):
            p.here_bus.failure = unavailable()
            await p.here.server.call("ask", sid=p.sid(), timeout=5)


async def test_a_question_for_a_socket_of_another_instance_is_kept_only_where_it_was_asked() -> None:
    async with pair() as p, Websocket.to(p.here):
        calling = asyncio.create_task(p.here.manager.call("ask", sid="elsewhere", timeout=60))
        await until(lambda: "emit" in p.here_bus.methods())
        await p.here.server.emit("flush")
        assert len(p.there.manager.waiting) == 0
        assert not any(m.asks for m in p.there.manager.book.members.values())
        assert len(p.here.manager.waiting) == 1
        calling.cancel()
        await asyncio.wait([calling])
        assert p.nothing_waits()


async def test_the_owner_tells_only_the_caller_that_a_socket_went() -> None:
    async with pair() as p:
        async with Websocket.to(p.there) as client:
            sid = p.sid()
            calling = asyncio.create_task(p.here.manager.call("ask", sid=sid, timeout=60))
            await client.receive()
        with pytest.raises(SessionGone):
            await asyncio.wait_for(calling, BOUND)
        (told,) = [message for message in p.there_bus.published if message["method"] == "gone"]
        assert (told["sid"], told["namespace"]) == (sid, "/")
        assert told["host_id"] == p.here.manager.host_id


async def test_open_questions_are_bounded_and_the_oldest_is_told() -> None:
    async with pair() as p:
        p.here.manager.waiting._limit = 3
        calls = [asyncio.create_task(p.here.manager.call("q", sid=f"s{n}", timeout=60)) for n in range(4)]
        with pytest.raises(SessionGone):
            await asyncio.wait_for(calls[0], BOUND)
        assert len(p.here.manager.waiting) == 3
        for each in calls:
            each.cancel()
        await asyncio.wait(calls)
        assert p.nothing_waits()


async def test_a_callback_on_a_room_of_another_instance_is_called_once_and_kept_no_longer() -> None:
    async with pair() as p, Client.to(p.there) as client:
        client.sio.on("ask", lambda: "yes")
        await p.there.server.enter_room(p.sid(), "r")
        answers: list[Any] = []
        await p.here.server.emit("ask", to="r", callback=answers.append)
        await until(lambda: answers == ["yes"])
        assert p.nothing_waits()


async def test_one_instance_alone_encodes_nothing_for_others_and_knows_who_is_not_there(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serving(None, manager_options={"max_message_bytes": 10}) as instance:
        async with Client.to(instance) as client:
            await instance.server.emit("x", "y" * 100)
            await client.got("x")
            client.sio.on("ask", lambda: 1)
            (sid,) = instance.manager.book.members
            assert await instance.server.call("ask", sid=sid, timeout=5) == 1
            with pytest.raises(SessionGone):
                await instance.server.call("ask", sid="nobody", timeout=60)
            await instance.server.disconnect("nobody")
            await instance.server.enter_room("nobody", "r")
            await instance.server.close("nobody", Close.KICKED)
        await until(instance.nothing_left)
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]
