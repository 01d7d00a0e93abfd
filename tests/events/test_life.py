"""Starting, draining, stopping: a start that fails leaves nothing running, and an end is an end."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from realtime.directory.sql import SqlDirectory
from realtime.errors import DirectoryUnavailable, SchemaMismatch, StateUnavailable
from realtime.server import RealtimeServer
from sim.processes.process import free_port
from sim.processes.redis import RedisServer
from tests.events.conftest import MakeFleet
from tests.events.lab import (
    TRANSPORTS,
    Gate,
    ask,
    breaks,
    client,
    code,
    eventually,
    heard,
    make_settings,
    people,
    polling,
    refusal,
    running,
    token_for,
    until,
)
from tests.support.sqlite_threads import until_sqlite_threads_ended


def tasks_of_others(before: set[asyncio.Task[Any]]) -> set[asyncio.Task[Any]]:
    return {task for task in asyncio.all_tasks() - before if not task.done()}


class Counting:
    """A directory that knows how often it was started and closed."""

    def __init__(self) -> None:
        self.inner = people(ann=["red"])
        self.started = self.closed = 0

    async def start(self) -> None:
        self.started += 1

    async def close(self) -> None:
        self.closed += 1

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


async def fails_to_start(server: RealtimeServer, error: type[Exception], match: str) -> None:
    before = asyncio.all_tasks()
    with pytest.raises(error, match=match):
        async with asyncio.timeout(20):
            await server.start()
    await until(lambda: not tasks_of_others(before), what="all tasks to end")
    assert len(server.wire.eio.heartbeat) == 0
    with pytest.raises(StateUnavailable):
        server.check_accepting()
    assert not all((await server.ready()).values())
    await server.stop()


async def test_a_start_without_redis_says_so_and_leaves_nothing_running() -> None:
    directory = Counting()
    url = f"redis://127.0.0.1:{free_port()}/0"
    settings = make_settings(url, realtime_state_timeout_seconds=0.5)
    server = RealtimeServer(settings, directory)  # type: ignore[arg-type]
    await fails_to_start(server, StateUnavailable, "WEBSOCKET_REDIS_URL")
    assert directory.started == 1
    assert directory.closed >= 1


async def test_a_start_with_a_redis_that_hangs_is_bounded(redis_server: RedisServer) -> None:
    redis_server.pause()
    try:
        settings = make_settings(redis_server.url, realtime_state_timeout_seconds=0.5)
        await fails_to_start(RealtimeServer(settings, people()), StateUnavailable, "Redis")
    finally:
        redis_server.resume()


async def test_a_start_among_a_fleet_of_another_schema_is_refused(redis_url: str, redis_prefix: str) -> None:
    async with running(make_settings(redis_url, redis_key_prefix=redis_prefix), people(ann=[])) as old:
        server = RealtimeServer(make_settings(redis_url, redis_key_prefix=redis_prefix), people())
        server.state._schema = "another"  # type: ignore[attr-defined]
        await fails_to_start(server, SchemaMismatch, "REDIS_KEY_PREFIX")
        assert len(await old.server.state.leases()) == 1


async def test_a_start_with_a_directory_that_is_down_says_so(tmp_path: Path) -> None:
    directory = SqlDirectory(f"sqlite:///{tmp_path}/no/such/folder/x.db", timeout=0.5)
    await fails_to_start(RealtimeServer(make_settings(), directory), DirectoryUnavailable, "database")
    await until_sqlite_threads_ended()


async def test_a_start_that_gets_no_snapshot_gives_its_lease_back(redis_url: str, redis_prefix: str) -> None:
    settings = make_settings(redis_url, redis_key_prefix=redis_prefix)
    async with running(settings.model_copy(update={"realtime_instance_name": "other"})) as other:
        server = RealtimeServer(settings, people())
        breaks(server.state, "snapshot", StateUnavailable())
        await fails_to_start(server, StateUnavailable, "snapshot")
        assert len(await other.server.state.leases()) == 1


async def test_a_part_that_cannot_be_closed_keeps_no_other_open() -> None:
    directory = Counting()
    before = asyncio.all_tasks()
    server = RealtimeServer(make_settings(), directory)  # type: ignore[arg-type]
    await server.start()
    mend = breaks(server.wire, "aclose", RuntimeError("a bug"))
    with pytest.raises(RuntimeError, match="a bug"):
        await server.stop()
    assert directory.closed == 1
    assert not tasks_of_others(before)
    mend()
    await server.stop()


@pytest.mark.usefixtures("no_tracebacks")
async def test_stopping_twice_and_without_a_start_does_no_harm(make_fleet: MakeFleet) -> None:
    async with make_fleet() as fleet, client(fleet.one.url, "ann") as ann:
        server = fleet.one.server
        await server.stop()
        await ann.wait_for("disconnect")
        assert await server.state.sessions() == {} if server._link is None else True
        await server.stop()
    never = RealtimeServer(make_settings(), people())
    await never.stop()
    await never.stop()


@pytest.mark.usefixtures("no_tracebacks")
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_draining_lets_every_client_go_with_a_reason_and_gives_up_the_lease_for_good(
    make_pair: MakeFleet, transport: str
) -> None:
    async with (
        make_pair(realtime_lease_seconds=2.5) as fleet,
        client(fleet.one.url, "ann", transports=(transport,)) as ann,
        client(fleet.one.url, transports=(transport,)) as stranger,
        client(fleet.two.url, "bob") as bob,
    ):
        one, two = fleet.one.server, fleet.two.server
        await bob.wait_for("user-list", lambda data: data == {"user_ids": ["ann", "bob"]})
        await one.drain()
        assert (await one.ready())["accepting"] is False
        for it in (ann, stranger):
            closing = await it.wait_for("closing")
            assert closing == {"code": 4010, "reason": "server is shutting down"}
        await ann.wait_for("disconnect")
        await bob.wait_for("user-list", lambda data: data == {"user_ids": ["bob"]})
        assert len(await two.state.leases()) == 1
        refused = await refusal(fleet.one.url, "eve", transport=transport)
        assert refused["data"] == {"code": "unavailable"}
        # Nothing of it takes a lease again while the process lingers.
        await one.leases.renew()
        one.leases.hurry()
        await two.leases.renew()
        assert len(await two.state.leases()) == 1
        assert one.leases.held is False
        await one.drain()
        await one.stop()
        await one.stop()
        await heard(bob)
        assert await two.USER_POOL.keys() == ["bob"]


@pytest.mark.usefixtures("no_tracebacks")
async def test_a_client_that_is_let_in_while_draining_begins_is_let_go_too(make_fleet: MakeFleet) -> None:
    async with make_fleet() as fleet, polling(fleet.one.url) as ann, client(fleet.one.url) as tab:
        server = fleet.one.server
        gate = Gate(fleet.directory, "login")
        await ann.post("40" + json.dumps({"token": token_for("ann")}))
        await gate.wait()
        await server.drain()
        gate.open()
        await tab.wait_for("closing")
        await until(lambda: not server.wire.connections)
        assert len(server.sessions) == 0
        assert len(server.strangers) == 0


@pytest.mark.usefixtures("no_tracebacks")
async def test_nobody_new_is_let_in_while_clients_are_being_let_go(make_fleet: MakeFleet) -> None:
    async with make_fleet() as fleet, client(fleet.one.url, "ann") as ann:
        server = fleet.one.server
        gate = Gate(server.sessions, "unregister", when=lambda sids: sids == [ann.sid])
        draining = asyncio.create_task(server.drain())
        await gate.wait()
        assert server.leases.held
        assert (await refusal(fleet.one.url, "eve"))["data"] == {"code": "unavailable"}
        assert len(server.strangers) == 0
        gate.open()
        await draining
        await ann.wait_for("closing")


async def test_a_drain_that_redis_holds_up_ends_within_the_grace_time(redis_server: RedisServer) -> None:
    settings = make_settings(
        redis_server.url, realtime_shutdown_grace_seconds=1.0, realtime_state_timeout_seconds=0.5
    )
    async with running(settings, people(ann=[])) as instance, client(instance.url, "ann") as ann:
        redis_server.pause()
        try:
            async with asyncio.timeout(10):
                await instance.server.drain()
                await instance.server.stop()
            await ann.wait_for("disconnect")
        finally:
            redis_server.resume()


async def test_clients_of_an_instance_whose_redis_hangs_are_served_or_told_within_bounds(
    redis_server: RedisServer,
) -> None:
    settings = make_settings(redis_server.url, realtime_state_timeout_seconds=0.5, realtime_lease_seconds=2.0)
    directory = people(ann=["red"], bob=["red"], eve=[])
    async with (
        running(settings, directory) as instance,
        client(instance.url, "ann") as ann,
        client(instance.url, "bob", transports=("polling",), on_call=lambda _: "yes") as bob,
    ):
        server = instance.server
        await ann.wait_for("user-list", lambda data: data == {"user_ids": ["ann", "bob"]})
        redis_server.pause()
        try:
            async with asyncio.timeout(30):
                # Who is here goes on talking to who is here.
                await ann.sio.emit("channel-events", {"channel_id": "red", "data": {"type": "typing"}})
                await bob.wait_for("channel-events")
                assert code(await ask(ann, "usage", {"model": "m"})) == "unavailable"
                assert (
                    code(await ask(ann, "user-list", "x") or {"error": {"code": "-", "message": "-"}}) == "-"
                )
                for transport in TRANSPORTS:
                    refused = await refusal(instance.url, "eve", transport=transport)
                    assert refused["data"] == {"code": "unavailable"}
                    assert refused["message"]
                with pytest.raises(StateUnavailable):
                    await server.get_models_in_use()
                with pytest.raises(StateUnavailable):
                    await server.get_event_call({"user_id": "bob", "session_id": bob.sid})({})
                emit = server.get_event_emitter({"user_id": "bob"})
                await emit({"type": "x"})
                await bob.wait_for("chat-events")
                await until(lambda: not server.leases.held, within=10)
                assert (await server.ready())["lease_held"] is False
        finally:
            redis_server.resume()
        await until(lambda: server.leases.held, within=10)

        async def served() -> bool:
            return await ask(ann, "usage", {"model": "m"}) is None

        await eventually(served, within=15)
        async with client(instance.url, "eve") as eve:
            await eve.wait_for("user-list", lambda data: data == {"user_ids": ["ann", "bob", "eve"]})
        assert ann.of("closing") == bob.of("closing") == []
