"""Clients that go while they come: what was begun for them is undone, and nothing of them is kept."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from realtime.server import RealtimeServer
from realtime.wire.session import WireSocket
from tests.events.conftest import MakeFleet
from tests.events.lab import (
    TRANSPORTS,
    Fleet,
    Gate,
    ask,
    breaks,
    client,
    code,
    eventually,
    join_as,
    places_of,
    polling,
    refusal,
    token_for,
    until,
)


async def all_gone(fleet: Fleet) -> None:
    """No session, no deadline, no connection of anybody's on any instance."""
    for server in fleet.servers:
        await until(lambda server=server: not server.wire.connections, what="the connections to end")
        await until(lambda server=server: not server.sessions.known(), what="calls to end")
        assert await server.state.sessions() == {}
        assert await server.state.users() == {}
        assert len(server.sessions) == len(server.strangers) == len(server.expiries) == 0


@pytest.mark.usefixtures("no_tracebacks")
async def test_a_polling_client_that_closes_while_it_is_looked_up_is_never_registered(
    make_fleet: MakeFleet,
) -> None:
    async with make_fleet() as fleet, polling(fleet.one.url) as ann:
        server = fleet.one.server
        gate, registering = Gate(fleet.directory, "login"), Gate(server.state, "register")
        registering.open()
        await ann.post("40" + json.dumps({"token": token_for("ann")}))
        await gate.wait()
        await ann.post("1")
        gate.open()
        await all_gone(fleet)
        assert not registering.reached.is_set()


@pytest.mark.usefixtures("no_tracebacks")
@pytest.mark.parametrize("after", [False, True])
async def test_a_polling_client_that_closes_while_it_is_registered_is_unregistered(
    make_fleet: MakeFleet, after: bool
) -> None:
    async with make_fleet() as fleet, polling(fleet.one.url) as ann:
        gate = Gate(fleet.one.server.state, "register", after=after)
        await ann.post("40" + json.dumps({"token": token_for("ann")}))
        await gate.wait()
        await ann.post("1")
        await until(lambda: all(each.gone for each in fleet.one.server.manager.book.members.values()))
        gate.open()
        await all_gone(fleet)


@pytest.mark.usefixtures("no_tracebacks")
@pytest.mark.parametrize("held", ["login", "register", "register-after"])
@pytest.mark.parametrize("was", [None, "ann", "bob"])
async def test_a_websocket_that_closes_during_user_join_leaves_nothing(
    make_fleet: MakeFleet, held: str, was: str | None
) -> None:
    async with make_fleet() as fleet, client(fleet.one.url, was) as tab:
        server = fleet.one.server
        gate = (
            Gate(fleet.directory, "login")
            if held == "login"
            else Gate(server.state, "register", after=held == "register-after")
        )
        sid = tab.sid
        joining = asyncio.create_task(join_as(tab, "ann"))
        await gate.wait()
        await tab.sio.disconnect()
        await until(lambda: server.wire.is_gone(sid))
        gate.open()
        await all_gone(fleet)
        joining.cancel()  # nobody answers it any more


@pytest.mark.usefixtures("no_tracebacks")
async def test_a_connection_that_leaves_and_comes_again_is_another_session(make_fleet: MakeFleet) -> None:
    async with make_fleet() as fleet, polling(fleet.one.url) as it:
        server = fleet.one.server
        await it.post("40" + json.dumps({"token": token_for("ann")}))
        await until(lambda: len(server.sessions) == 1)
        (first,) = [local.session.sid for local in server.sessions]
        await it.post("41")
        await until(lambda: len(server.sessions) == 0)
        await it.post("40")
        await until(lambda: len(server.strangers) == 1)
        await it.post("41\x1e40" + json.dumps({"token": token_for("eve")}))
        await until(lambda: len(server.sessions) == 1)
        assert len(server.strangers) == 0
        ((user_id, (second,)),) = (await server.USER_POOL.items()).items()
        assert user_id == "eve"
        assert second != first
        await it.post("1")
        await all_gone(fleet)


@pytest.mark.usefixtures("no_tracebacks")
async def test_a_change_of_rooms_that_crosses_a_disconnect_does_not_bring_the_session_back(
    make_fleet: MakeFleet,
) -> None:
    async with make_fleet() as fleet, client(fleet.one.url, "ann") as ann:
        server = fleet.one.server
        gate = Gate(server.state, "register", after=True)
        await server.enter_room_for_users("note:1", ["ann"])
        await gate.wait()
        sid = ann.sid
        await ann.sio.disconnect()
        await until(lambda: server.wire.is_gone(sid))
        gate.open()
        await all_gone(fleet)
        await server.leases.renew()
        await all_gone(fleet)


@pytest.mark.usefixtures("no_tracebacks")
async def test_a_change_of_rooms_that_crosses_a_switch_does_not_bring_the_old_user_back(
    make_fleet: MakeFleet,
) -> None:
    async with make_fleet() as fleet, client(fleet.one.url, "ann") as tab:
        server = fleet.one.server
        gate = Gate(
            server.state, "register", after=True, when=lambda _, sessions, **__: sessions[0].user.id == "ann"
        )
        await server.enter_room_for_users("note:1", ["ann"])
        await gate.wait()
        joining = asyncio.create_task(join_as(tab, "eve"))
        await until(lambda: tab.sid in server.strangers)
        gate.open()
        assert await joining == {"id": "eve", "name": "Eve"}
        await server.leases.renew()
        assert await server.USER_POOL.items() == {"eve": [tab.sid]}
        assert server.rooms.of(tab.sid) == {"user:eve", "channel:blue"}
        local = server.sessions.get(tab.sid)
        assert local is not None
        assert local.session.user.id == "eve"


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_handler_that_fails_refuses_the_socket_and_leaves_nothing(
    make_fleet: MakeFleet, transport: str
) -> None:
    async with make_fleet() as fleet:
        server = fleet.one.server
        for owner, name in [
            (fleet.directory, "login"),
            (server.state, "register"),
            (server.audience, "greet"),
            (server.usage_audience, "greet"),
        ]:
            mend = breaks(owner, name, RuntimeError("a bug"))
            refused = await refusal(fleet.one.url, "ann", transport=transport)
            mend()
            assert refused == {"message": "Internal error", "data": {"code": "internal"}}
            await all_gone(fleet)


async def test_a_handler_that_fails_in_user_join_says_so_and_leaves_a_stranger(make_fleet: MakeFleet) -> None:
    async with make_fleet() as fleet, client(fleet.one.url) as tab:
        mend = breaks(fleet.one.server.usage_audience, "greet", RuntimeError("a bug"))
        assert code(await join_as(tab, "ann")) == "internal"
        mend()
        assert code(await ask(tab, "user-list")) == "not-authenticated"
        assert await fleet.one.server.state.sessions() == {}


async def coming_and_going(server: RealtimeServer, url: str) -> set[str]:
    """Clients of every kind; returns the ids that were theirs."""
    ids: set[str] = set()
    for transport in TRANSPORTS:
        for user_id in ("ann", None):
            async with client(url, user_id, transports=(transport,), auth={"presence": "diff"}) as tab:
                ids |= {tab.sid, str(tab.sio.eio.sid)}
                await join_as(tab, "bob")
                await join_as(tab, "eve")
                await ask(tab, "join-channels", {"auth": {"token": token_for("eve")}})
                await ask(tab, "usage", {"model": "m"})
                await ask(tab, "channel-events", {"channel_id": "blue", "data": {"type": "typing"}})
                await server.enter_room_for_users("note", ["eve"])
                await server.get_event_emitter({"user_id": "eve", "session_id": tab.sid})({"type": "x"})
                assert await server.get_event_call({"user_id": "eve", "session_id": tab.sid})({}) is None
                await join_as(tab, "nobody")
                await ask(tab, "usage", {})
        raw: Any
        async with polling(url) as raw:
            ids.add(raw.sid)
            await raw.post("40")
            await raw.post("1")
    return ids


@pytest.mark.parametrize("visibility", ["everyone", "channels"])
async def test_nothing_is_kept_of_sockets_that_are_gone(
    make_fleet: MakeFleet, visibility: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WireSocket, "linger", 0.5)
    async with make_fleet(realtime_user_list_visibility=visibility) as fleet:
        for server in fleet.servers:
            server.manager.max_recently_gone = 0
        ids = await coming_and_going(fleet.one.server, fleet.one.url)
        await all_gone(fleet)

        async def forgotten() -> bool:
            return not [path for path in kept(fleet, ids) if not is_bounded(path)]

        try:
            await eventually(forgotten, within=10)
        except TimeoutError:
            raise AssertionError([path for path in kept(fleet, ids) if not is_bounded(path)]) from None


def kept(fleet: Fleet, ids: set[str]) -> list[str]:
    return [path for server in fleet.servers for each in ids for path in places_of(each, server)]


def is_bounded(path: str) -> bool:
    """Deadlines of sockets that are gone stay on the heap until it is tidied, which bounds it."""
    return "._heap" in path
