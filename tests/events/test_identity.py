"""`user-join`: the same registration as `connect`, once, and never two users at a time."""

from __future__ import annotations

import asyncio

import pytest

from realtime.errors import DirectoryUnavailable, StateUnavailable
from tests.events.conftest import MakeFleet
from tests.events.lab import (
    TRANSPORTS,
    Gate,
    ask,
    breaks,
    client,
    code,
    dump,
    heard,
    join_as,
    people,
    person,
    token_for,
    until,
)

pytestmark = pytest.mark.usefixtures("no_tracebacks")


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_stranger_that_joins_is_a_session_like_any_other(
    make_fleet: MakeFleet, transport: str
) -> None:
    async with (
        make_fleet() as fleet,
        client(fleet.two.url, "bob") as bob,
        client(fleet.one.url, transports=(transport,)) as ann,
    ):
        assert ann.seen == []
        assert await join_as(ann, "ann") == {"id": "ann", "name": "Ann"}
        assert await ann.wait_for("user-list") == {"user_ids": ["ann", "bob"]}
        assert await ann.wait_for("usage") == {"models": []}
        await bob.wait_for("user-list", lambda data: data == {"user_ids": ["ann", "bob"]})
        assert fleet.one.server.rooms.of(ann.sid) == {"user:ann", "channel:red"}
        assert ann.sid not in fleet.one.server.strangers
        await fleet.two.server.wire.emit("news", 1)
        await ann.wait_for("news")


async def test_joining_twice_changes_nothing_and_greets_once(make_fleet: MakeFleet) -> None:
    token = token_for("ann")
    async with make_fleet() as fleet, client(fleet.one.url, token=token) as ann:
        await ann.wait_for("usage")
        before = await dump(fleet.one.server)
        for _ in range(3):
            assert await ask(ann, "user-join", {"auth": {"token": token}}) == {"id": "ann", "name": "Ann"}
        assert await dump(fleet.one.server) == before
        assert await fleet.one.server.USER_POOL.items() == {"ann": [ann.sid]}
        assert [name for name, _ in await heard(ann)] == ["user-list", "usage"]


async def test_the_old_identity_is_left_completely_before_anything_of_the_new_one_is_heard(
    make_fleet: MakeFleet,
) -> None:
    async with make_fleet(realtime_usage_seconds=60) as fleet:
        async with client(fleet.two.url, "bob") as bob, client(fleet.one.url, "ann") as tab:
            server = fleet.one.server
            gate = Gate(server.state, "register", when=lambda _, sessions, **__: sessions[0].user.id == "eve")
            await ask(tab, "usage", {"model": "m"})
            await bob.wait_for("user-list", lambda data: data == {"user_ids": ["ann", "bob"]})
            await server.enter_room_for_users("desk", ["ann"])
            await until(lambda: "desk" in server.rooms.of(tab.sid))

            switched = asyncio.create_task(join_as(tab, "eve"))
            await gate.wait()
            # Between the identities: of no user, in no room, told nothing.
            assert server.manager.local_rooms(tab.sid) == frozenset()
            assert tab.sid not in server.manager.book.admitted
            assert server.sessions.get(tab.sid) is None
            assert await server.state.session(tab.sid) is None
            assert await server.get_models_in_use() == []
            assert not await fleet.two.server.get_active_status_by_user_id("ann")
            seen = len(tab.seen)
            other = fleet.two.server
            for room in ("user:ann", "user:eve", "channel:red", "channel:blue", "desk", None):
                await other.wire.emit("leak", room, room=room)
            await bob.wait_for("leak", lambda data: data is None)
            gate.open()

            assert await switched == {"id": "eve", "name": "Eve"}
            assert server.rooms.of(tab.sid) == {"user:eve", "channel:blue"}
            assert await server.USER_POOL.items() == {"bob": [bob.sid], "eve": [tab.sid]}
            for room in ("user:ann", "channel:red", "desk"):
                await other.wire.emit("leak", room, room=room)
            await other.wire.emit("mine", 1, room="user:eve")
            await tab.wait_for("mine")
            assert tab.of("leak") == []
            assert tab.seen[seen][0] == "user-list"
            assert tab.seen[seen][1] == {"user_ids": ["bob", "eve"]}
            await bob.wait_for("user-list", lambda data: data == {"user_ids": ["bob", "eve"]})


@pytest.mark.parametrize("refused_by", ["cap", "state", "state-after", "revoked", "greeting"])
async def test_a_refused_switch_leaves_a_stranger_that_hears_nothing_and_may_try_again(
    make_fleet: MakeFleet, refused_by: str
) -> None:
    async with (
        make_fleet(realtime_max_sessions_per_user=1) as fleet,
        client(fleet.one.url, "ann") as tab,
        client(fleet.two.url, "bob") as bob,
    ):
        server, mend = fleet.one.server, None
        wanted, expected = "eve", "unavailable"
        if refused_by == "cap":
            wanted, expected = "bob", "too-many-sessions"
        elif refused_by == "revoked":
            await server.revoke_user("eve")
            expected = "token-revoked"
        elif refused_by == "greeting":
            mend = breaks(server.audience, "greet", StateUnavailable())
        else:
            mend = breaks(server.state, "register", StateUnavailable(), after=refused_by == "state-after")

        assert code(await join_as(tab, wanted, now=1.0, expires_in=None)) == expected
        assert server.sessions.get(tab.sid) is None
        assert server.manager.local_rooms(tab.sid) == frozenset()
        assert tab.sid in server.strangers
        assert tab.sid not in server.expiries
        seen = len(tab.seen)
        for room in ("user:ann", "user:eve", "user:bob", "channel:red", "channel:blue", "~signed-in", None):
            await fleet.two.server.wire.emit("leak", room, room=room)
            await server.wire.emit("leak", room, room=room)
        await bob.wait_for("leak", lambda data: data is None)
        assert code(await ask(tab, "user-list")) == "not-authenticated"
        assert tab.seen[seen:] == []
        if mend is not None:
            mend()
        assert await join_as(tab, "ann") == {"id": "ann", "name": "Ann"}
        assert tab.sid not in server.strangers
        assert (await server.USER_POOL.items())["ann"] == [tab.sid]


@pytest.mark.parametrize("payload", [{"auth": {"token": "no token"}}, {"auth": {}}])
async def test_a_switch_with_a_bad_token_changes_nothing(
    make_fleet: MakeFleet, payload: dict[str, object]
) -> None:
    async with make_fleet() as fleet, client(fleet.one.url, "ann") as ann:
        before = await dump(fleet.one.server)
        assert code(await ask(ann, "user-join", payload)) in ("invalid-token", "invalid-payload")
        assert await dump(fleet.one.server) == before


@pytest.mark.parametrize("event", ["user-join", "join-channels"])
async def test_a_user_whom_the_directory_knows_no_more_is_signed_out_when_it_is_asked(
    make_fleet: MakeFleet, event: str
) -> None:
    async with (
        make_fleet() as fleet,
        client(fleet.one.url, "ann") as tab,
        client(fleet.two.url, "bob") as bob,
    ):
        server = fleet.one.server
        del fleet.directory._users["ann"]
        assert code(await ask(tab, event, {"auth": {"token": token_for("ann")}})) == "unknown-user"
        assert server.manager.local_rooms(tab.sid) == frozenset()
        assert tab.sid in server.strangers
        await bob.wait_for("user-list", lambda data: data == {"user_ids": ["bob"]})
        assert code(await ask(tab, "user-list")) == "not-authenticated"
        assert code(await ask(bob, event, {"auth": {"token": token_for("nobody")}})) == "unknown-user"
        assert await ask(bob, "user-list") is None


@pytest.mark.parametrize("event", ["user-join", "join-channels"])
async def test_a_directory_that_fails_changes_nothing(make_fleet: MakeFleet, event: str) -> None:
    async with make_fleet() as fleet, client(fleet.one.url, "ann") as ann:
        before = await dump(fleet.one.server)
        mend = breaks(fleet.directory, "login", DirectoryUnavailable())
        ack = await ask(ann, event, {"auth": {"token": token_for("eve")}})
        mend()
        assert code(ack) == "directory-unavailable"
        assert await dump(fleet.one.server) == before


@pytest.mark.parametrize("failing", ["revocations", "greeting"])
async def test_a_stranger_whose_sign_in_fails_half_way_is_a_stranger(
    make_fleet: MakeFleet, failing: str
) -> None:
    async with make_fleet() as fleet, client(fleet.one.url) as tab:
        server = fleet.one.server
        part = {"revocations": (server.revocations, "hit"), "greeting": (server.audience, "greet")}[failing]
        mend = breaks(*part, StateUnavailable())
        assert code(await join_as(tab, "ann")) == "unavailable"
        mend()
        assert code(await ask(tab, "usage", {"model": "m"})) == "not-authenticated"
        assert server.manager.local_rooms(tab.sid) == frozenset()
        assert await server.USER_POOL.items() == {}
        assert tab.sid in server.strangers
        assert await join_as(tab, "ann") == {"id": "ann", "name": "Ann"}
        assert [name for name, _ in await heard(tab)] == ["user-list", "usage"]


async def test_a_user_whom_the_directory_names_differently_is_who_the_directory_says(
    make_fleet: MakeFleet,
) -> None:
    directory = people(ann=["red"])

    async def login(_user_id: str) -> object:
        return person("ann"), frozenset({"red"})

    directory.login = login  # type: ignore[assignment, method-assign]
    async with make_fleet(directory) as fleet, client(fleet.one.url, "ANN") as tab:
        await tab.wait_for("user-list", lambda data: data == {"user_ids": ["ann"]})
        assert await fleet.two.server.get_user_id_from_session_pool(tab.sid) == "ann"


WEIRD = ["user:bob", "~signed-in", "a b", "ж" * 256, "{x}", "*", "null", "../..", '"', "💥"]


async def test_a_user_id_is_only_a_name(make_fleet: MakeFleet) -> None:
    directory = people(**{user_id: ["red"] for user_id in (*WEIRD, "bob")})
    async with make_fleet(directory) as fleet, client(fleet.two.url, "bob") as bob:
        for user_id in WEIRD:
            async with client(fleet.one.url, user_id) as weird:
                everyone = {"user_ids": sorted([user_id, "bob"])}
                await weird.wait_for("user-list", lambda data, all_=everyone: data == all_)
                assert await fleet.two.server.get_user_ids_from_room("channel:red") == everyone["user_ids"]
                await ask(weird, "channel-events", {"channel_id": "red", "data": {"type": "typing"}})
                await bob.wait_for("channel-events", lambda data, it=user_id: data["user"]["id"] == it)
                await fleet.two.server.emit_to_users("direct", 1, [user_id])
                await weird.wait_for("direct")
            await until(lambda: len(fleet.one.server.sessions) == (1 if fleet.one is fleet.two else 0))
            assert await fleet.two.server.USER_POOL.keys() == ["bob"]
        assert bob.of("direct") == []


async def test_names_that_the_shared_state_cannot_keep_are_left_out_and_do_not_become_others(
    make_fleet: MakeFleet,
) -> None:
    directory = people(ann=["red", "x\nchannel:secret", ""])
    async with make_fleet(directory) as fleet, client(fleet.one.url, "ann") as ann:
        ack = await ask(ann, "join-channels", {"auth": {"token": token_for("ann")}})
        assert ack == {"channels": ["red"]}
        assert await fleet.two.server.get_user_ids_from_room("channel:secret") == []
        session = await fleet.two.server.state.session(ann.sid)
        assert session is not None
        assert session.rooms == {"user:ann", "channel:red"}


@pytest.mark.parametrize("presence", ["list", "diff"])
async def test_where_only_channels_show_who_is_there_a_switch_shows_the_new_users_and_no_more_of_the_old_ones(
    make_fleet: MakeFleet, presence: str
) -> None:
    directory = people(ann=["red"], rob=["red"], ray=["red"], eve=["blue"], bea=["blue"])
    async with (
        make_fleet(directory, realtime_user_list_visibility="channels") as fleet,
        client(fleet.two.url, "rob") as rob,
        client(fleet.one.url, "ann", auth={"presence": presence}) as tab,
    ):
        assert (await tab.wait_for("user-list"))["user_ids"] == ["ann", "rob"]
        async with client(fleet.one.url, "bea") as bea:
            assert await bea.wait_for("user-list") == {"user_ids": ["bea"]}
            before = len(await heard(tab))
            assert await join_as(tab, "eve") == {"id": "eve", "name": "Eve"}
            async with client(fleet.two.url, "ray") as ray:
                await ray.wait_for("user-list", lambda data: data == {"user_ids": ["ray", "rob"]})
                await rob.wait_for("user-list", lambda data: data == {"user_ids": ["ray", "rob"]})
            await rob.wait_for("user-list", lambda data: data == {"user_ids": ["rob"]})
            await bea.wait_for("user-list", lambda data: data == {"user_ids": ["bea", "eve"]})
            seen = (await heard(tab))[before:]
            assert seen[0][0] == "user-list"
            assert seen[0][1]["user_ids"] == ["bea", "eve"]
            named = [data for name, data in seen if name in ("user-list", "presence-diff")]
            assert not [data for data in named if "ray" in repr(data) or "rob" in repr(data)]
