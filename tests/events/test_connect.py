"""`connect` and `disconnect`: who is told what, and who is in which room."""

from __future__ import annotations

import asyncio
from unittest import mock

import pytest
from socketio import exceptions

from realtime.state import Session, State
from tests.events.conftest import MakeFleet
from tests.events.lab import (
    TRANSPORTS,
    ask,
    client,
    code,
    eventually,
    heard,
    people,
    person,
    refusal,
    token_for,
    until,
)

pytestmark = pytest.mark.usefixtures("no_tracebacks")


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_new_client_gets_the_list_and_the_models_and_others_hear_only_of_the_change(
    make_fleet: MakeFleet, transport: str
) -> None:
    async with (
        make_fleet() as fleet,
        client(fleet.one.url, "ann", transports=(transport,)) as ann,
        client(fleet.two.url, "eve", auth={"presence": "diff"}) as eve,
    ):
        await ann.wait_for("user-list", lambda data: data == {"user_ids": ["ann", "eve"]})
        assert await ask(eve, "usage", {"model": "m"}) is None
        await ann.wait_for("usage", lambda data: data == {"models": ["m"]})
        before = len(await heard(ann)), len(await heard(eve))

        async with client(fleet.one.url, "bob", transports=(transport,)) as bob:
            assert await bob.wait_for("user-list") == {"user_ids": ["ann", "bob", "eve"]}
            assert await bob.wait_for("usage") == {"models": ["m"]}
            await ann.wait_for("user-list", lambda data: data == {"user_ids": ["ann", "bob", "eve"]})
            told = await eve.wait_for("presence-diff", lambda data: "bob" in data["joins"])
            assert set(told) == {"version", "joins", "leaves"}
            assert told["leaves"] == []
            # The seed sent both lists to everyone.
            assert {name for name, _ in ann.seen[before[0] :]} == {"user-list"}
            assert {name for name, _ in eve.seen[before[1] :]} == {"presence-diff"}


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_list_longer_than_what_may_wait_for_a_client_lets_it_in_all_the_same(
    make_fleet: MakeFleet, transport: str
) -> None:
    """With 27,000 users and more nobody who asked for differences could connect."""
    async with make_fleet(realtime_max_outgoing_bytes=4096) as fleet:
        server = fleet.one.server
        crowd = [f"user-{number:031}" for number in range(500)]
        here = [Session(f"sid-{user_id}", person(user_id)) for user_id in crowd]
        await server.state.register(server.leases.lease(), here)
        differences = {"presence": "diff"}
        async with client(fleet.one.url, "ann", transports=(transport,), auth=differences) as ann:
            assert (await ann.wait_for("user-list"))["user_ids"] == ["ann", *crowd]
            await ann.wait_for("usage")
            assert ann.of("closing") == []


async def test_a_session_is_in_its_users_room_and_in_those_of_its_channels_and_in_no_other(
    make_fleet: MakeFleet,
) -> None:
    async with make_fleet() as fleet, client(fleet.one.url, "bob") as bob:
        rooms = {"user:bob", "channel:red", "channel:blue"}
        session = await fleet.two.server.state.session(bob.sid)
        assert session is not None
        assert session.rooms == rooms
        assert fleet.one.server.rooms.of(bob.sid) == rooms
        assert await fleet.two.server.SESSION_POOL.get(bob.sid) == {
            "id": "bob",
            "name": "Bob",
            "role": "user",
            "profile_image_url": "/bob.png",
        }


async def test_what_is_emitted_while_a_client_connects_comes_after_its_connect_packet(
    make_fleet: MakeFleet,
) -> None:
    async with make_fleet() as fleet, client(fleet.one.url, "ann") as ann:
        await ann.wait_for("usage")
        # The client drops what comes earlier, and it would have said so.
        assert [name for name, _ in ann.seen[:2]] == ["user-list", "usage"]


async def test_a_disconnect_removes_session_user_and_usage_in_one_step_and_tells_others(
    make_fleet: MakeFleet,
) -> None:
    async with make_fleet(realtime_usage_seconds=60) as fleet, client(fleet.two.url, "ann") as ann:
        async with client(fleet.one.url, "bob", auth={"presence": "diff"}) as bob:
            await ask(bob, "usage", {"model": "m"})
            await ann.wait_for("usage", lambda data: data == {"models": ["m"]})
            await ann.wait_for("user-list", lambda data: data == {"user_ids": ["ann", "bob"]})
            version = (await fleet.one.server.state.snapshot()).version
            sid = bob.sid
        await ann.wait_for("user-list", lambda data: data == {"user_ids": ["ann"]})
        await until(lambda: ann.last("usage") == {"models": []}, what="the end of m")
        snapshot = await fleet.one.server.state.snapshot()
        assert snapshot.version == version + 1
        assert await fleet.one.server.state.session(sid) is None
        assert await fleet.one.server.USER_POOL.keys() == ["ann"]
        assert await fleet.one.server.USAGE_POOL.items() == {}


async def test_a_disconnect_that_changes_neither_presence_nor_usage_is_told_to_nobody(
    make_fleet: MakeFleet,
) -> None:
    async with make_fleet() as fleet, client(fleet.two.url, "ann") as ann:
        async with client(fleet.one.url, "bob") as first, client(fleet.one.url, "bob") as second:
            await ann.wait_for("user-list", lambda data: data == {"user_ids": ["ann", "bob"]})
            version = (await fleet.one.server.state.snapshot()).version
            lists = len(ann.of("user-list"))
            sid = first.sid
            await first.sio.disconnect()
            await until(lambda: fleet.one.server.sessions.get(sid) is None)
            state = fleet.one.server.state
            await eventually(lambda: is_gone(state, sid))
            assert (await state.snapshot()).version == version
            assert await fleet.one.server.USER_POOL.get("bob") == [second.sid]
            await heard(ann)
            assert len(ann.of("user-list")) == lists


async def test_a_user_in_too_many_channels_or_with_too_many_sessions_is_refused_with_a_message(
    make_fleet: MakeFleet,
) -> None:
    directory = people(ann=["red"], bob=["red", "blue"])
    limits = {"realtime_max_channels_per_user": 1, "realtime_max_sessions_per_user": 1}
    async with make_fleet(directory, **limits) as fleet, client(fleet.one.url, "ann"):
        for user_id, wrong in [("bob", "limit-exceeded"), ("ann", "too-many-sessions")]:
            refused = await refusal(fleet.two.url, user_id)
            assert refused["data"] == {"code": wrong}
            assert refused["message"]
        assert await fleet.one.server.USER_POOL.keys() == ["ann"]
        assert len(fleet.two.server.strangers) == 0


async def test_what_connect_did_is_undone_when_a_handler_around_it_refuses_after_all(
    make_fleet: MakeFleet,
) -> None:
    async with make_fleet() as fleet, client(fleet.two.url, "eve") as eve:
        server = fleet.one.server

        @server.wire.on("connect")
        async def connect(sid: str, environ: dict[str, object], auth: object = None) -> None:
            await server.handlers.connect(sid, environ, auth)
            raise exceptions.ConnectionRefusedError("reload the page")

        async def only_eve() -> bool:
            return list(await server.USER_POOL.keys()) == ["eve"]

        assert (await refusal(fleet.one.url, "ann"))["message"] == "reload the page"
        await eventually(only_eve)
        await ask(eve, "user-list")
        await eve.wait_for("user-list", lambda data: data == {"user_ids": ["eve"]})


BAD_AUTH: list[dict[str, object]] = [
    {},
    {"token": ""},
    {"token": "x.y.z"},
    {"token": "é\ud800"},
    {"token": "a" * 9000},
    {"token": 5},
    {"token": ["x"]},
    {"token": None},
    {"presence": {"a": 1}},
]


async def test_no_token_or_a_bad_one_leaves_a_stranger(make_fleet: MakeFleet) -> None:
    async with make_fleet() as fleet:
        for auth in BAD_AUTH:
            async with client(fleet.one.url, auth=auth) as stranger:
                assert code(await ask(stranger, "usage", {"model": "m"})) == "not-authenticated"
                assert code(await ask(stranger, "user-list")) == "not-authenticated"
                typing = {"channel_id": "red", "data": {"type": "typing"}}
                assert code(await ask(stranger, "channel-events", typing)) == "not-authenticated"
                assert stranger.seen == []


async def test_a_token_of_an_unknown_user_leaves_a_stranger(make_fleet: MakeFleet) -> None:
    async with make_fleet() as fleet, client(fleet.one.url, token=token_for("nobody")) as stranger:
        assert code(await ask(stranger, "usage", {"model": "m"})) == "not-authenticated"
        assert await fleet.one.server.USER_POOL.items() == {}


async def is_gone(state: State, sid: str) -> bool:
    return await state.session(sid) is None


@pytest.mark.parametrize("method", ["login", "channels"])
async def test_a_directory_that_never_answers_keeps_nobody_waiting_for_ever(
    make_fleet: MakeFleet, method: str
) -> None:
    """The SQL directory gives up by itself; an application's own may not."""
    directory = people(ann=["red"])
    async with make_fleet(directory, realtime_state_timeout_seconds=0.2) as fleet:

        async def silence(_user_id: str) -> None:
            await asyncio.Event().wait()

        with mock.patch.object(directory, method, silence):
            refused = await refusal(fleet.one.url, "ann")
        assert refused["data"]["code"] == "directory-unavailable"
        async with client(fleet.one.url, "ann") as ann:
            await ann.wait_for("user-list", lambda data: data == {"user_ids": ["ann"]})
