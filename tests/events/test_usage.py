"""`usage` and `user-list`: models in use by the state's clock, and lists for those who ask."""

from __future__ import annotations

from typing import Any

import pytest

from tests.events.conftest import MakeFleet
from tests.events.lab import TRANSPORTS, Fleet, ask, client, code, dump, eventually, heard, until

pytestmark = pytest.mark.usefixtures("no_tracebacks")


def pass_time(fleet: Fleet, ms: int) -> None:
    for server in fleet.servers:
        state: Any = server.state
        state.clock_offset_ms += ms


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_models_are_told_to_all_only_when_the_set_in_use_changes(
    make_fleet: MakeFleet, transport: str
) -> None:
    async with (
        make_fleet(realtime_usage_seconds=60) as fleet,
        client(fleet.one.url, "ann", transports=(transport,)) as ann,
        client(fleet.two.url, "bob", transports=(transport,)) as bob,
        client(fleet.two.url) as stranger,
    ):
        for _ in range(5):
            assert await ask(ann, "usage", {"model": "m"}) is None
        assert await ask(bob, "usage", {"model": "m", "unknown": "key"}) is None
        await ann.wait_for("usage", lambda data: data == {"models": ["m"]})
        assert await ask(bob, "usage", {"model": "k"}) is None
        for it in (ann, bob):
            await it.wait_for("usage", lambda data: data == {"models": ["k", "m"]})
            told = [data["models"] for data in it.of("usage")]
            assert told in ([[], ["m"], ["k", "m"]], [["m"], ["k", "m"]], [[], ["k", "m"]])
        assert await fleet.one.server.get_models_in_use() == ["k", "m"]
        assert set((await fleet.two.server.USAGE_POOL.items())["m"]) == {ann.sid, bob.sid}
        assert await heard(stranger) == []


async def test_a_model_is_in_use_to_the_millisecond_and_its_end_is_told(make_fleet: MakeFleet) -> None:
    async with (
        make_fleet(realtime_usage_seconds=60) as fleet,
        client(fleet.one.url, "ann") as ann,
        client(fleet.two.url, "bob") as bob,
    ):
        await ask(ann, "usage", {"model": "m"})
        await bob.wait_for("usage", lambda data: data == {"models": ["m"]})
        until_ms = (await fleet.one.server.USAGE_POOL.get("m"))[ann.sid]["until_ms"]
        assert await fleet.two.server.get_models_in_use() == ["m"]
        version = (await fleet.one.server.state.snapshot()).version
        pass_time(fleet, 60_000)
        assert await fleet.two.server.get_models_in_use() == []
        await until(lambda: bob.last("usage") == {"models": []}, what="the end of m")
        assert (await fleet.one.server.state.snapshot()).version == version + 1
        assert until_ms > 0


async def test_a_session_may_use_so_many_models_at_once(make_fleet: MakeFleet) -> None:
    async with (
        make_fleet(realtime_usage_seconds=60, realtime_max_models_per_session=2) as fleet,
        client(fleet.one.url, "ann") as ann,
    ):
        for model in ("a", "b", "a"):
            assert await ask(ann, "usage", {"model": model}) is None
        assert code(await ask(ann, "usage", {"model": "c"})) == "limit-exceeded"
        assert await fleet.two.server.get_models_in_use() == ["a", "b"]


async def test_usage_of_a_session_that_the_state_lost_says_so_and_the_session_comes_back(
    make_fleet: MakeFleet,
) -> None:
    async with make_fleet() as fleet, client(fleet.one.url, "ann") as ann:
        server = fleet.one.server
        await server.state.unregister([ann.sid])
        assert code(await ask(ann, "usage", {"model": "m"})) == "unavailable"
        await eventually(lambda: server.state.session(ann.sid))
        assert await ask(ann, "usage", {"model": "m"}) is None


async def test_the_list_goes_to_the_asker_only(make_fleet: MakeFleet) -> None:
    async with (
        make_fleet() as fleet,
        client(fleet.one.url, "ann") as ann,
        client(fleet.two.url, "bob") as bob,
    ):
        for it in (ann, bob):
            await it.wait_for("user-list", lambda data: data == {"user_ids": ["ann", "bob"]})
        before = await dump(fleet.one.server)
        seen = len(await heard(ann)), len(await heard(bob))
        asked: list[tuple[object, ...]] = [(), (None,), ({"any": "thing"},), (1, 2, 3)] * 3
        for args in asked:
            assert await ask(ann, "user-list", *args) is None
        # Besides, a broadcast of the arrivals may still have been under way.
        lists = ann.seen[seen[0] :]
        assert lists in (12 * lists[:1], 13 * lists[:1])
        assert lists[0] == ("user-list", {"user_ids": ["ann", "bob"]})
        assert len((await heard(bob))[seen[1] :]) <= 1
        assert await dump(fleet.one.server) == before
