"""`join-channels` and `channel-events`: channels follow the directory, and only members speak in them."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

from realtime.errors import DirectoryUnavailable, RealtimeError, StateUnavailable
from realtime.state import State
from tests.events.conftest import MakeFleet
from tests.events.lab import (
    TRANSPORTS,
    Gate,
    ask,
    breaks,
    client,
    code,
    dump,
    eventually,
    heard,
    public,
    token_for,
    until,
)

pytestmark = pytest.mark.usefixtures("no_tracebacks")


def joining(user_id: str) -> dict[str, Any]:
    return {"auth": {"token": token_for(user_id)}}


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_join_channels_joins_new_rooms_and_leaves_lost_ones_on_all_instances(
    make_fleet: MakeFleet, transport: str
) -> None:
    async with (
        make_fleet() as fleet,
        client(fleet.one.url, "bob", transports=(transport,)) as bob,
        client(fleet.two.url, "eve") as eve,
    ):
        fleet.directory.remove_member("red", "bob")
        fleet.directory.add_member("green", "bob")
        assert await ask(bob, "join-channels", joining("bob")) == {"channels": ["blue", "green"]}
        for room in ("channel:red", "channel:green", "channel:blue"):
            await fleet.two.server.wire.emit("said", room, room=room)
        await bob.wait_for("said", lambda data: data == "channel:blue")
        assert bob.of("said") == ["channel:green", "channel:blue"]
        assert await fleet.two.server.get_user_ids_from_room("channel:red") == []
        assert await fleet.two.server.get_user_ids_from_room("channel:green") == ["bob"]
        lost = {"channel_id": "red", "data": {"type": "typing"}}
        assert code(await ask(bob, "channel-events", lost)) == "forbidden"
        assert [name for name, _ in await heard(bob)].count("user-list") <= 2
        assert eve.of("said") == ["channel:blue"]


async def test_join_channels_signs_a_stranger_in_and_switches_like_user_join(make_fleet: MakeFleet) -> None:
    async with make_fleet() as fleet, client(fleet.one.url) as tab:
        assert await ask(tab, "join-channels", joining("bob")) == {"channels": ["blue", "red"]}
        await tab.wait_for("user-list", lambda data: data == {"user_ids": ["bob"]})
        assert await ask(tab, "join-channels", joining("eve")) == {"channels": ["blue"]}
        assert await fleet.two.server.USER_POOL.items() == {"eve": [tab.sid]}


@pytest.mark.parametrize("kind", ["expired", "revoked", "state"])
async def test_join_channels_with_a_token_that_does_not_hold_changes_nothing(
    make_fleet: MakeFleet, kind: str
) -> None:
    async with make_fleet() as fleet, client(fleet.one.url, "bob") as bob:
        server = fleet.one.server
        fleet.directory.remove_member("red", "bob")
        token, expected = token_for("bob", jti="old"), "token-revoked"
        if kind == "expired":
            token, expected = token_for("bob", expires_in=-1), "token-expired"
        await server.revoke_token("old")
        before = await dump(server)
        mend = None
        if kind == "state":
            token, expected = token_for("bob"), "unavailable"
            mend = breaks(server.state, "register", StateUnavailable())
        assert code(await ask(bob, "join-channels", {"auth": {"token": token}})) == expected
        if mend is not None:
            mend()
        assert await dump(server) == before


@pytest.mark.parametrize("event", ["join-channels", "user-join"])
@pytest.mark.parametrize(
    ("part", "verb", "fault"),
    [
        ("revocations", "hit", StateUnavailable()),
        ("manager", "join", StateUnavailable()),
        ("handlers", "_join", DirectoryUnavailable()),
    ],
)
async def test_a_passing_fault_while_channels_are_read_again_signs_nobody_out(
    make_fleet: MakeFleet, event: str, part: str, verb: str, fault: RealtimeError
) -> None:
    async with make_fleet() as fleet, client(fleet.one.url, "ann") as ann:
        server = fleet.one.server
        await server.enter_room_for_users("desk", ["ann"])
        fleet.directory.remove_member("red", "ann")
        fleet.directory.add_member("green", "ann")
        mend = breaks(getattr(server, part), verb, fault)
        ack = await ask(ann, event, {"auth": {"token": token_for("ann", expires_in=7200)}})
        assert code(ack) == fault.code
        assert await ask(ann, "user-list") is None
        assert "channel:red" not in server.rooms.of(ann.sid)
        assert server.rooms.of(ann.sid) >= {"user:ann", "desk"}
        assert server.expiries._due[ann.sid] > server.clock.time() + 3600
        assert ann.sid not in server.strangers
        mend()
        await eventually(lambda: is_in(server.state, ann.sid, set(server.rooms.of(ann.sid))))
        assert await ask(ann, "join-channels", joining("ann")) == {"channels": ["green"]}


async def test_rooms_that_the_application_gave_survive_join_channels_even_when_they_cross(
    make_fleet: MakeFleet,
) -> None:
    async with make_fleet() as fleet, client(fleet.one.url, "bob") as bob:
        server = fleet.one.server
        await fleet.two.server.enter_room_for_users("note:1", ["bob"])
        await until(lambda: "note:1" in server.rooms.of(bob.sid))
        gate = Gate(fleet.directory, "login")
        answer = asyncio.create_task(ask(bob, "join-channels", joining("bob")))
        await gate.wait()
        await fleet.two.server.enter_room_for_users("note:2", ["bob"])
        await until(lambda: "note:2" in server.rooms.of(bob.sid))
        gate.open()
        assert await answer == {"channels": ["blue", "red"]}
        held = Gate(server.state, "register")
        answer = asyncio.create_task(ask(bob, "join-channels", joining("bob")))
        await held.wait()
        await fleet.two.server.enter_room_for_users("note:3", ["bob"])
        await until(lambda: "note:3" in server.rooms.of(bob.sid))
        held.open()
        assert await answer == {"channels": ["blue", "red"]}
        rooms = {"user:bob", "channel:red", "channel:blue", "note:1", "note:2", "note:3"}
        assert server.rooms.of(bob.sid) == rooms
        await eventually(lambda: is_in(fleet.two.server.state, bob.sid, rooms))
        # Nor do they vanish from the shared state for a moment.
        repairing = Gate(server.sessions, "change_rooms")
        assert await ask(bob, "join-channels", joining("bob")) == {"channels": ["blue", "red"]}
        assert await is_in(fleet.two.server.state, bob.sid, rooms)
        repairing.open()


@pytest.mark.parametrize("held", ["login", "register", "hit", "channels"])
@pytest.mark.parametrize("was", [None, "ann"])
async def test_who_is_removed_from_a_channel_or_added_while_it_signs_in_hears_what_it_may(
    make_fleet: MakeFleet, held: str, was: str | None
) -> None:
    async with make_fleet() as fleet, client(fleet.one.url, was) as tab:
        server, other = fleet.one.server, fleet.two.server
        owner: object = {"register": server.state, "hit": server.revocations}.get(held, fleet.directory)
        turns = itertools.count()
        # Only one: what is read after it comes from the directory as it then is. A login reads channels first.
        turn = 1 if held == "channels" else 0
        gate = Gate(owner, held, after=True, when=lambda *_, **__: next(turns) == turn)
        answer = asyncio.create_task(ask(tab, "join-channels", joining("ann")))
        await gate.wait()
        fleet.directory.add_member("green", "ann")
        await other.enter_room_for_users("channel:green", ["ann"])
        fleet.directory.remove_member("red", "ann")
        await other.leave_room_for_users("channel:red", ["ann"])
        await other.wire.emit("crossed", 1, room="user:ann")
        if was is not None or held == "channels":
            await tab.wait_for("crossed")  # and the moves of rooms came before it
        gate.open()
        assert await answer == {"channels": ["green"]}
        rooms = {"user:ann", "channel:green"}
        assert server.rooms.of(tab.sid) == rooms
        for room in ("channel:red", "channel:green"):
            await other.wire.emit("said", room, room=room)
        await tab.wait_for("said", lambda data: data == "channel:green")
        assert tab.of("said") == ["channel:green"]
        await eventually(lambda: is_in(other.state, tab.sid, rooms))


async def test_channels_that_never_read_the_same_twice_do_not_hold_a_sign_in_up(
    make_fleet: MakeFleet,
) -> None:
    async with make_fleet() as fleet, client(fleet.one.url) as tab:
        reads = itertools.count()

        async def restless(_user_id: str) -> frozenset[str]:
            return frozenset({f"{next(reads)}"})

        fleet.directory.channels = restless  # type: ignore[method-assign]
        answer = await ask(tab, "join-channels", joining("ann"))
        assert answer == {"channels": [f"{next(reads) - 1}"]}
        rooms = {"user:ann", f"channel:{answer['channels'][0]}"}
        assert fleet.one.server.rooms.of(tab.sid) == rooms
        assert await is_in(fleet.two.server.state, tab.sid, rooms)


async def is_in(state: State, sid: str, rooms: set[str]) -> bool:
    session = await state.session(sid)
    return session is not None and session.rooms == rooms


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_member_is_heard_by_the_whole_channel_on_all_instances_and_by_nobody_else(
    make_fleet: MakeFleet, transport: str
) -> None:
    async with (
        make_fleet() as fleet,
        client(fleet.one.url, "ann", transports=(transport,)) as ann,
        client(fleet.two.url, "bob", transports=(transport,)) as bob,
        client(fleet.two.url, "eve") as eve,
    ):
        typing = {"channel_id": "red", "data": {"type": "typing", "on": True, "more": [1, {"é": None}]}}
        for payload in (typing, {**typing, "message_id": "m1"}, {**typing, "message_id": None}):
            assert await ask(ann, "channel-events", {**payload, "user": "forged"}) is None
            said = await bob.wait_for(
                "channel-events", lambda data, it=payload: data.keys() - {"user"} == it.keys()
            )
            assert said == {**payload, "user": public("ann")}
            assert await ann.wait_for("channel-events", lambda data, it=said: data == it)
            bob.seen.clear()
            ann.seen.clear()
        assert "channel-events" not in dict(await heard(eve))
        assert code(await ask(eve, "channel-events", typing)) == "forbidden"


async def test_who_was_taken_out_of_a_channel_cannot_speak_in_it_though_the_shared_state_does_not_know_yet(
    make_fleet: MakeFleet,
) -> None:
    async with (
        make_fleet() as fleet,
        client(fleet.one.url, "ann") as ann,
        client(fleet.one.url, "bob") as bob,
    ):
        server = fleet.one.server
        mend = breaks(server.state, "register", StateUnavailable())
        await fleet.two.server.leave_room_for_users("channel:red", ["ann"])
        await until(lambda: "channel:red" not in server.rooms.of(ann.sid))
        typing = {"channel_id": "red", "data": {"type": "typing"}}
        assert code(await ask(ann, "channel-events", typing)) == "forbidden"
        assert "channel-events" not in dict(await heard(bob))
        mend()
        await eventually(lambda: is_in(server.state, ann.sid, {"user:ann"}))


@pytest.mark.parametrize(
    ("allowed", "sent", "passes"),
    [
        ("typing", "typing", True),
        ("typing", "message", False),
        ("typing,last_read_at", "last_read_at", True),
        ("*", "anything at all", True),
        ("typing", "*", False),
        ("typing", "TYPING", False),
    ],
)
async def test_only_types_that_the_settings_allow_are_passed_on(
    make_fleet: MakeFleet, allowed: str, sent: str, passes: bool
) -> None:
    async with (
        make_fleet(realtime_channel_event_types=allowed) as fleet,
        client(fleet.one.url, "ann") as ann,
        client(fleet.two.url, "bob") as bob,
    ):
        ack = await ask(ann, "channel-events", {"channel_id": "red", "data": {"type": sent}})
        if passes:
            assert ack is None
            assert (await bob.wait_for("channel-events"))["data"] == {"type": sent}
        else:
            assert code(ack) == "forbidden"
            await fleet.two.server.wire.emit("after", 1, room="channel:red")
            await bob.wait_for("after")
            assert bob.of("channel-events") == []


async def test_a_payload_that_no_other_instance_could_take_is_refused_and_reaches_nobody(
    make_pair: MakeFleet,
) -> None:
    async with (
        make_pair(realtime_max_bus_message_bytes=2000) as fleet,
        client(fleet.one.url, "ann") as ann,
        client(fleet.one.url, "bob") as bob,
    ):
        large = {"channel_id": "red", "data": {"type": "typing", "text": "x" * 3000}}
        assert code(await ask(ann, "channel-events", large)) == "too-large"
        await fleet.one.server.wire.emit("after", 1, room="channel:red")
        await bob.wait_for("after")
        assert bob.of("channel-events") == []
