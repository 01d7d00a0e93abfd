"""The functions for other backend modules: they speak of all instances, and say what they cannot do."""

from __future__ import annotations

from typing import Any

import pytest

from realtime.errors import InvalidPayload, MessageTooLarge, StateUnavailable
from tests.events.conftest import MakeFleet
from tests.events.lab import (
    TRANSPORTS,
    Failing,
    ask,
    client,
    eventually,
    fleet_of,
    heard,
    make_settings,
    people,
    until,
)

pytestmark = pytest.mark.usefixtures("no_tracebacks")


async def test_pools_status_and_models_speak_of_all_instances(make_fleet: MakeFleet) -> None:
    async with (
        make_fleet(realtime_usage_seconds=60) as fleet,
        client(fleet.one.url, "ann") as ann,
        client(fleet.two.url, "bob") as bob,
        client(fleet.two.url, "bob") as again,
        client(fleet.two.url) as stranger,
    ):
        await ask(bob, "usage", {"model": "m"})
        for server in fleet.servers:
            assert await server.get_user_id_from_session_pool(ann.sid) == "ann"
            assert await server.get_user_id_from_session_pool(bob.sid) == "bob"
            assert await server.get_user_id_from_session_pool(stranger.sid) is None
            assert await server.get_user_id_from_session_pool("nobody") is None
            assert await server.get_active_status_by_user_id("ann") is True
            assert await server.get_active_status_by_user_id("eve") is False
            assert await server.get_user_ids_from_room("channel:red") == ["ann", "bob"]
            assert await server.get_user_ids_from_room("channel:blue") == ["bob"]
            assert await server.get_user_ids_from_room("user:bob") == ["bob"]
            assert await server.get_user_ids_from_room("no such room") == []
            assert await server.get_models_in_use() == ["m"]
            assert await server.USER_POOL.items() == {"ann": [ann.sid], "bob": [bob.sid, again.sid]}
            assert set(await server.SESSION_POOL.keys()) == {ann.sid, bob.sid, again.sid}


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_every_session_of_the_named_users_hears_once_in_one_publish(
    make_fleet: MakeFleet, transport: str
) -> None:
    async with (
        make_fleet() as fleet,
        client(fleet.one.url, "ann", transports=(transport,)) as ann,
        client(fleet.two.url, "bob", transports=(transport,)) as bob,
        client(fleet.two.url, "eve") as eve,
    ):
        server = fleet.one.server
        before = server.wire.counters.bus_published
        await server.emit_to_users("news", {"n": 1}, ["ann", "bob", "ann", "nobody"])
        for it in (ann, bob):
            await it.wait_for("news")
            await heard(it)
            assert it.of("news") == [{"n": 1}]
        assert server.wire.counters.bus_published - before == (1 if server.manager.bus else 0)
        await server.emit_to_users("nobody", 1, [])
        for it in (ann, bob, eve):
            assert "nobody" not in dict(await heard(it))
        assert eve.of("news") == []


async def test_fleets_with_a_prefix_and_a_bus_channel_of_their_own_hear_nothing_of_each_other(
    redis_url: str, redis_prefix: str
) -> None:
    """What docs/several-instances.md says of two fleets on one Redis."""
    fleets = [
        make_settings(redis_url, redis_key_prefix=f"{redis_prefix}-{name}", realtime_bus_channel=name)
        for name in ("one", "two")
    ]
    async with (
        fleet_of(fleets) as fleet,
        client(fleet.one.url, "ann") as ann,
        client(fleet.two.url, "ann") as other,
        client(fleet.two.url, "bob") as bob,
    ):
        await fleet.one.server.emit_to_users("news", 1, ["ann", "bob"])
        await fleet.one.server.wire.emit("news", 2, room="channel:red")
        await fleet.one.server.wire.emit("news", 3)
        await fleet.two.server.disconnect_user("bob")
        await bob.wait_for("disconnect")
        await ann.wait_for("news", lambda data: data == 3)
        assert "news" not in dict(await heard(other))
        assert bob.of("news") == []
        assert ann.last("user-list") == {"user_ids": ["ann"]}


@pytest.mark.parametrize("room_channels", [True, False])
@pytest.mark.parametrize("act", ["enter", "leave", "close"])
async def test_what_an_instance_did_not_hear_is_an_error_and_may_be_done_again(
    make_pair: MakeFleet, act: str, room_channels: bool
) -> None:
    """It is lost while that instance connects to Redis again; ann stayed where she was, and nobody knew."""
    async with (
        make_pair(realtime_state_timeout_seconds=0.5, websocket_redis_room_channels=room_channels) as fleet,
        client(fleet.two.url, "ann") as ann,
        client(fleet.one.url, "ann") as here,
    ):

        async def do() -> None:
            if act == "enter":
                await fleet.one.server.enter_room_for_users("desk", ["ann"])
            elif act == "leave":
                await fleet.one.server.leave_room_for_users("channel:red", ["ann"])
            else:
                await fleet.one.server.disconnect_user("ann")

        there = fleet.two.server
        subscriber = there.link.subscriber if there.link else None
        assert subscriber is not None
        receivers = dict(subscriber._receivers)
        subscriber._receivers[b"socketio"] = []
        subscriber.receive_rooms = lambda _message: None
        with pytest.raises(StateUnavailable):
            await do()
        assert there.rooms.of(ann.sid) == {"user:ann", "channel:red"}
        if act == "enter":
            assert "desk" in fleet.one.server.rooms.of(here.sid)
        elif act == "leave":
            assert "channel:red" not in fleet.one.server.rooms.of(here.sid)
        else:
            await here.wait_for("disconnect")
        subscriber._receivers.update(receivers)
        await do()
        if act == "enter":
            assert "desk" in there.rooms.of(ann.sid)
        else:
            await until(lambda: "channel:red" not in there.rooms.of(ann.sid))
        await do()


NO_IDS: list[Any] = [None, 5, "", "a\nb", "\ud800", ["ann"]]


@pytest.mark.parametrize("wrong", ["an", None, 5, *([each] for each in NO_IDS), ["ann", None]])
async def test_users_who_are_no_list_of_ids_are_a_typed_error_and_reach_nobody(
    make_fleet: MakeFleet, wrong: Any
) -> None:
    """ "an" was taken for the users "a" and "n"."""
    async with make_fleet(people(a=[], ann=[])) as fleet, client(fleet.one.url, "a") as letter:
        server = fleet.one.server
        for call in (
            server.emit_to_users("news", 1, wrong),
            server.enter_room_for_users("desk", wrong),
            server.leave_room_for_users("desk", wrong),
        ):
            with pytest.raises(InvalidPayload, match="user_ids"):
                await call
        assert "news" not in dict(await heard(letter))
        assert server.rooms.of(letter.sid) == {"user:a"}


@pytest.mark.parametrize("wrong", NO_IDS)
async def test_what_is_no_id_is_a_typed_error_and_not_taken_for_an_outage(
    make_fleet: MakeFleet, wrong: Any
) -> None:
    async with make_fleet() as fleet:
        server = fleet.one.server
        for ask_for in (
            server.get_user_ids_from_room,
            server.get_user_id_from_session_pool,
            server.get_active_status_by_user_id,
            server.disconnect_user,
            server.revoke_user,
            server.revoke_token,
        ):
            with pytest.raises(InvalidPayload):
                await ask_for(wrong)


async def test_data_that_is_not_json_is_a_typed_error(make_fleet: MakeFleet) -> None:
    async with make_fleet() as fleet, client(fleet.one.url, "ann") as ann:
        for data in (object(), float("nan"), {1}, {"a": {2: object()}}):
            with pytest.raises(InvalidPayload):
                await fleet.one.server.emit_to_users("news", data, ["ann"])
        assert ann.of("news") == []


async def test_data_too_large_for_other_instances_reaches_nobody(make_pair: MakeFleet) -> None:
    async with (
        make_pair(realtime_max_bus_message_bytes=2000) as fleet,
        client(fleet.one.url, "ann") as ann,
    ):
        with pytest.raises(MessageTooLarge):
            await fleet.one.server.emit_to_users("news", "x" * 3000, ["ann"])
        assert "news" not in dict(await heard(ann))


async def test_users_are_put_into_a_room_and_taken_out_on_all_instances(make_fleet: MakeFleet) -> None:
    async with (
        make_fleet() as fleet,
        client(fleet.one.url, "ann") as ann,
        client(fleet.two.url, "bob", transports=("polling",)) as bob,
        client(fleet.one.url, "bob") as again,
    ):
        one = fleet.one.server

        async def members(*expected: str) -> bool:
            return await one.get_user_ids_from_room("note:1") == list(expected)

        await one.enter_room_for_users("note:1", ["ann", "bob", "nobody"])
        await eventually(lambda: members("ann", "bob"))
        await fleet.two.server.wire.emit("said", 1, room="note:1")
        for it in (ann, bob, again):
            await it.wait_for("said")
        await fleet.two.server.leave_room_for_users("note:1", ["bob"])
        await eventually(lambda: members("ann"))
        await fleet.two.server.wire.emit("said", 2, room="note:1")
        await ann.wait_for("said", lambda data: data == 2)
        for it in (bob, again):
            await heard(it)
            assert it.of("said") == [1]
        await ann.sio.disconnect()
        await eventually(lambda: members())


async def test_a_room_that_was_entered_while_the_state_was_away_is_registered_when_it_is_back(
    make_fleet: MakeFleet,
) -> None:
    async with make_fleet() as fleet, client(fleet.one.url, "ann") as ann:
        server = fleet.one.server
        failing = Failing(server.state, "register", StateUnavailable())
        await server.wire.enter_room(ann.sid, "note:1")
        await until(lambda: failing.failed)
        failing.mend()

        async def known() -> bool:
            return await fleet.two.server.get_user_ids_from_room("note:1") == ["ann"]

        await eventually(known, within=10)


async def test_rooms_that_are_not_the_applications_are_refused(make_fleet: MakeFleet) -> None:
    wrong: list[Any] = ["", "~lists", "~signed-in", "user:bob", "a\nb", "x" * 600, 5, None]
    async with make_fleet() as fleet, client(fleet.one.url, "ann") as ann:
        before = fleet.one.server.manager.local_rooms(ann.sid)
        for change in (fleet.one.server.enter_room_for_users, fleet.one.server.leave_room_for_users):
            for room in wrong:
                with pytest.raises(InvalidPayload):
                    await change(room, ["ann"])
        assert fleet.one.server.manager.local_rooms(ann.sid) == before


async def test_nobody_is_put_into_the_room_that_a_session_is(make_fleet: MakeFleet) -> None:
    async with (
        make_fleet() as fleet,
        client(fleet.one.url, "ann") as ann,
        client(fleet.two.url, "bob", on_call=lambda _: "bob's") as bob,
    ):
        with pytest.raises(InvalidPayload):
            await fleet.one.server.enter_room_for_users(bob.sid, ["ann"])
        await fleet.one.server.wire.emit("private", 1, room=bob.sid)
        await bob.wait_for("private")
        assert "private" not in dict(await heard(ann))


async def test_rooms_entered_by_other_names_than_texts_harm_nobody(make_fleet: MakeFleet) -> None:
    async with make_fleet() as fleet, client(fleet.one.url, "ann") as ann:
        server = fleet.one.server
        for room in (5, ("a", 1), "line\nuser:bob", "~mine", "fine"):
            await server.wire.enter_room(ann.sid, room)  # type: ignore[arg-type]

        async def registered() -> bool:
            session = await server.state.session(ann.sid)
            return session is not None and session.rooms == {"user:ann", "channel:red", "fine"}

        await eventually(registered)
        assert server.tasks.failures["rooms"] == 0
        assert await server.get_user_ids_from_room("user:bob") == []


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_every_session_of_a_user_is_disconnected_with_a_reason(
    make_fleet: MakeFleet, transport: str
) -> None:
    async with (
        make_fleet() as fleet,
        client(fleet.one.url, "bob", transports=(transport,), reconnection=True) as here,
        client(fleet.two.url, "bob", transports=(transport,), reconnection=True) as there,
        client(fleet.two.url, "ann") as ann,
    ):
        await fleet.one.server.disconnect_user("bob")
        for it in (here, there):
            assert (await it.wait_for("closing"))["code"] == 4004
            await it.wait_for("disconnect")
        await ann.wait_for("user-list", lambda data: data == {"user_ids": ["ann"]})
        await until(lambda: not here.sio.connected and not there.sio.connected)
        assert await fleet.one.server.get_active_status_by_user_id("bob") is False
        assert ann.sio.connected


async def test_who_takes_a_user_out_is_told_when_another_instance_could_not_be(make_pair: MakeFleet) -> None:
    """Silence would leave a removed user in the channel with the application believing otherwise."""
    async with (
        make_pair() as fleet,
        client(fleet.one.url, "bob") as here,
        client(fleet.two.url, "bob") as there,
    ):
        server = fleet.one.server
        await server.enter_room_for_users("red", ["bob"])
        await until(lambda: "red" in fleet.two.server.manager.local_rooms(there.sid))
        bus = server.manager.bus
        assert bus is not None
        broken = Failing(bus, "publish", StateUnavailable())
        with pytest.raises(StateUnavailable):
            await server.leave_room_for_users("red", ["bob"])
        assert "red" not in server.manager.local_rooms(here.sid)
        with pytest.raises(StateUnavailable):
            await server.disconnect_user("bob")
        await here.wait_for("closing")
        broken.mend()
        await server.disconnect_user("bob")
        assert (await there.wait_for("closing"))["code"] == 4004
