"""A channel for each room: who hears it, when a join counts, and what stays on the common channel."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from engineio.base_server import BaseServer
from hypothesis import given
from hypothesis import strategies as st

from realtime.errors import MessageTooLarge, StateUnavailable
from realtime.wire import LocalHub
from realtime.wire.channels import RoomChannels, looks_like_sid, room_channel
from realtime.wire.counters import Counters

from .lab import Client, FaultyBus, Instance, Websocket, parsed, serving, unavailable, until

HASH_SLOT_TAG = "{"


class SlowBus(FaultyBus):
    """A bus whose subscriptions count only when they are confirmed; before, nothing is heard."""

    def __init__(self, hub: LocalHub | None = None) -> None:
        super().__init__(hub)
        self.commands: list[tuple[str, ...]] = []
        self.subscriptions: list[str] = []
        self.confirm = asyncio.Event()
        self.refuse = False

    def subscribe(self, channels: Iterable[str]) -> None:
        self.commands.append(("subscribe", *channels))
        self.subscriptions += channels

    async def heard(self, channels: Collection[str]) -> None:
        if self.refuse:
            raise unavailable()
        await self.confirm.wait()
        super().subscribe(channels)

    def unsubscribe(self, channels: Iterable[str]) -> None:
        self.commands.append(("unsubscribe", *channels))
        super().unsubscribe(channels)


@asynccontextmanager
async def instances(*buses: FaultyBus, **options: Any) -> AsyncIterator[list[Instance]]:
    async with serving(buses[0], manager_options=options) as first:
        if len(buses) == 1:
            yield [first]
            return
        async with instances(*buses[1:], **options) as others:
            yield [first, *others]


def sid_on(instance: Instance) -> str:
    (sid,) = instance.manager.book.members
    return str(sid)


# --- names


@given(st.lists(st.tuples(st.sampled_from(["/", "/a", "/a#b"]), st.text(min_size=1)), max_size=5))
def test_names_are_valid_have_no_hash_tag_and_differ_unless_a_brace_was_written(
    rooms: list[tuple[str, str]],
) -> None:
    names = {room: room_channel("socketio", *room) for room in rooms}
    for (namespace, room), name in names.items():
        assert name.encode()
        assert HASH_SLOT_TAG not in name
        assert name.startswith(f"socketio#{namespace},")
        if not any(mark in room for mark in ("{", "%7B", "\\")) and room.isascii():
            assert name == f"socketio#{namespace},{room}"


def test_every_sid_looks_like_one_and_the_layers_rooms_do_not() -> None:
    server = BaseServer()
    assert all(looks_like_sid(server.generate_id()) for _ in range(200))
    for room in ("user:ann", "channel:general", "lobby", "", "x" * 19, "x" * 21, "user:abcdefghijklmno"):
        assert not looks_like_sid(room)


# --- who hears what


async def test_an_instance_without_members_is_not_sent_what_goes_to_a_room() -> None:
    hub = LocalHub()
    async with instances(*(FaultyBus(hub) for _ in range(3))) as (here, there, idle):
        async with Websocket.to(there) as client, Websocket.to(idle):
            await there.server.enter_room(sid_on(there), "r")
            for number in range(10):
                await here.server.emit("n", number, to="r")
            assert [parsed(await client.receive())[1] for _ in range(10)] == list(range(10))
            assert there.server.counters.rooms_received == there.server.counters.bus_received == 10
            assert here.server.counters.rooms_published == 10
            assert idle.server.counters.bus_received == 0


async def test_what_is_not_for_one_room_stays_on_the_common_channel() -> None:
    hub = LocalHub()
    async with instances(FaultyBus(hub), FaultyBus(hub)) as (here, there):
        async with Client.to(there) as client:
            sid = sid_on(there)
            client.sio.on("ask", lambda: 7)
            await there.server.enter_room(sid, "r")
            answers: list[Any] = []
            await here.server.emit("ask", to="r", callback=answers.append)
            await until(lambda: answers == [7])
            await here.server.emit("list", to=["r", "s"])
            await here.server.emit("all")
            await here.server.emit("one", to=sid)
            for name in ("list", "all", "one"):
                await client.got(name)
            assert here.server.counters.rooms_published == there.server.counters.rooms_received == 0


async def test_room_channels_switched_off_send_all_to_the_common_channel_and_still_hear() -> None:
    hub = LocalHub()
    async with (
        serving(FaultyBus(hub), manager_options={"room_channels": False}) as old,
        serving(FaultyBus(hub)) as new,
        Websocket.to(old) as of_old,
        Websocket.to(new) as of_new,
    ):
        for each in (old, new):
            await each.server.enter_room(sid_on(each), "r")
        await old.server.emit("from", "old", to="r")
        await new.server.emit("from", "new", to="r")
        for client in (of_old, of_new):
            assert {parsed(await client.receive())[1] for _ in range(2)} == {"old", "new"}
        assert old.server.counters.rooms_published == new.server.counters.rooms_received == 0
        assert new.server.counters.rooms_published == old.server.counters.rooms_received == 1


async def test_a_message_that_is_too_large_for_a_rooms_channel_fails_at_the_sender() -> None:
    hub = LocalHub()
    async with instances(FaultyBus(hub), FaultyBus(hub), max_message_bytes=500) as (here, there):
        async with Websocket.to(there) as client:
            await there.server.enter_room(sid_on(there), "r")
            with pytest.raises(MessageTooLarge):
                await here.server.emit("big", "x" * 600, to="r")
            await here.server.emit("small", to="r")
            assert await client.receive() == '42["small"]'


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
async def test_emits_to_a_room_and_to_everyone_keep_their_order(order: tuple[int, ...]) -> None:
    hub = LocalHub()
    async with instances(FaultyBus(hub), FaultyBus(hub)) as (here, there), Websocket.to(there) as client:
        sid = sid_on(there)
        await there.server.enter_room(sid, "r")
        for kind in order:
            await here.server.emit("n", kind, to=[None, "r", sid][kind])
        assert [parsed(await client.receive())[1] for _ in range(3)] == list(order)


# --- joining


@pytest.mark.parametrize("from_elsewhere", [False, True])
async def test_a_join_returns_only_when_the_room_is_heard(from_elsewhere: bool) -> None:
    hub = LocalHub()
    slow = SlowBus(hub)
    async with instances(FaultyBus(hub), slow) as (here, there), Websocket.to(there) as client:
        asked = here if from_elsewhere else there
        joining = asyncio.create_task(asked.server.enter_room(sid_on(there), "r"))
        await until(lambda: slow.subscriptions)
        await asyncio.sleep(0)
        assert not joining.done()
        slow.confirm.set()
        await joining
        await here.server.emit("heard", to="r")
        assert await client.receive() == '42["heard"]'


async def test_a_join_that_is_not_confirmed_raises_and_is_taken_back() -> None:
    slow = SlowBus()
    async with instances(slow) as (here,), Websocket.to(here):
        sid, slow.refuse = sid_on(here), True
        with pytest.raises(StateUnavailable):
            await here.server.enter_room(sid, "r")
        assert here.manager.local_rooms(sid) == frozenset()
        assert here.server.counters.joins_unconfirmed == 1
        slow.refuse = False
        slow.confirm.set()
        await here.server.enter_room(sid, "r")
        slow.refuse = True  # in it already: that it cannot be confirmed again takes nothing away
        with pytest.raises(StateUnavailable):
            await here.server.enter_room(sid, "r")
        assert here.manager.local_rooms(sid) == {"r"}


async def test_of_two_joins_the_one_that_fails_does_not_undo_the_other() -> None:
    slow = SlowBus()
    async with instances(slow) as (here,), Websocket.to(here):
        sid = sid_on(here)
        first, second = (asyncio.create_task(here.server.enter_room(sid, "r")) for _ in range(2))
        await until(lambda: here.manager._joining == {(sid, "r"): 2})
        first.cancel()
        await asyncio.wait([first])
        assert here.manager.local_rooms(sid) == {"r"}
        slow.confirm.set()
        await second
        assert here.manager.local_rooms(sid) == {"r"}
        assert not here.manager._joining


async def test_a_join_elsewhere_that_nobody_confirms_raises_in_bounded_time() -> None:
    hub = LocalHub()
    slow = SlowBus(hub)
    slow.refuse = True
    async with instances(FaultyBus(hub), slow, join_seconds=0.1) as (here, there), Websocket.to(there):
        for sid in ("of nobody", sid_on(there)):
            with pytest.raises(StateUnavailable):
                await here.server.enter_room(sid, "r")
        assert len(here.manager.waiting) == 0


async def test_the_synchronous_way_into_a_room_keeps_it_this_instances_own() -> None:
    slow = SlowBus()
    async with instances(slow) as (here,), Websocket.to(here) as client:
        here.manager.basic_enter_room(sid_on(here), "/", "~own")
        here.manager.deliver("x", None, "/", "~own")
        assert await client.receive() == '42["x"]'
    assert slow.commands == []


# --- leaving


class Rooms:
    """A `RoomChannels` alone, and who is in its rooms."""

    def __init__(self, linger: float) -> None:
        self.members: set[tuple[str, str]] = set()
        self.bus = SlowBus()
        self.bus.confirm.set()
        self.it = RoomChannels(
            self.bus, "b", lambda *key: key in self.members, self.counters(), linger=linger
        )

    def counters(self) -> Counters:
        return Counters()

    def enter(self, room: str) -> None:
        self.members.add(("/", room))
        self.it.want("/", [room])

    def leave(self, room: str) -> None:
        self.members.discard(("/", room))
        self.it.emptied("/", room)


async def test_a_room_that_flaps_is_subscribed_to_once_and_given_up_when_it_stays_empty() -> None:
    rooms = Rooms(linger=0.02)
    for _ in range(50):
        rooms.enter("r")
        rooms.leave("r")
    assert rooms.bus.commands == [("subscribe", "b#/,r")]
    await until(lambda: len(rooms.it) == 0)
    assert rooms.bus.commands == [("subscribe", "b#/,r"), ("unsubscribe", "b#/,r")]
    assert rooms.it._timer is None
    assert not rooms.it._idle


async def test_rooms_that_linger_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("realtime.wire.channels.MAX_LINGERING", 3)
    rooms = Rooms(linger=60)
    for number in range(10):
        rooms.enter(f"r{number}")
        rooms.leave(f"r{number}")
    assert len(rooms.it) == 3
    rooms.it.close()


async def test_a_room_that_was_prepared_and_not_entered_is_given_up() -> None:
    rooms = Rooms(linger=0.02)
    rooms.it.want("/", ["r"])
    await until(lambda: ("unsubscribe", "b#/,r") in rooms.bus.commands)


async def test_a_room_entered_while_it_lingers_stays() -> None:
    rooms = Rooms(linger=0.02)
    rooms.enter("r")
    rooms.leave("r")
    rooms.members.add(("/", "r"))
    await until(lambda: not rooms.it._idle)
    assert len(rooms.it) == 1


class TwoWays(FaultyBus):
    """As a cluster, where nothing keeps the order between channels: the common one is late while `late` is a list."""

    late: list[bytes] | None = None

    async def publish(self, channel: str, message: bytes) -> None:
        if channel == "socketio" and self.late is not None:
            self.late.append(message)
        else:
            await super().publish(channel, message)


@pytest.mark.parametrize("how", ["leave_room", "move"])
async def test_no_emit_overtakes_a_leave_that_was_asked_for_elsewhere(how: str) -> None:
    hub = LocalHub()
    bus = TwoWays(hub)
    async with instances(bus, FaultyBus(hub)) as (here, there), Websocket.to(there) as client:
        sid = sid_on(there)
        for room in ("r", "stays"):
            await there.server.enter_room(sid, room)
        bus.late = []
        if how == "move":  # which is not confirmed before it is told where it is heard in any case
            leaving = asyncio.create_task(here.manager.move(sid, "r", into=False))
        else:
            leaving = asyncio.create_task(here.server.leave_room(sid, "r"))
        await until(lambda: bus.late)
        await here.server.emit("n", "r", to="r")
        await here.server.emit("n", "stays", to="stays")
        assert parsed(await client.receive()) == ["n", "stays"]
        (told,), bus.late = bus.late, None  # where it is heard whatever became of the room's channel
        await bus.publish("socketio", told)
        await leaving
