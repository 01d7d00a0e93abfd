"""Sockets that must be gone by a time: tokens that end, strangers who never sign in."""

from __future__ import annotations

import asyncio

import pytest

from realtime.deadlines import Deadlines
from tests.events.conftest import MakeFleet
from tests.events.lab import TRANSPORTS, ask, breaks, client, code, heard, join_as, refusal, token_for, until


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.usefixtures("no_tracebacks")
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_session_is_closed_with_a_reason_when_its_token_ends(
    make_fleet: MakeFleet, transport: str
) -> None:
    async with (
        make_fleet() as fleet,
        client(fleet.two.url, "bob") as bob,
        client(fleet.one.url, token=token_for("ann", expires_in=1.0), transports=(transport,)) as ann,
    ):
        began = fleet.one.server.clock.time()
        assert await ann.wait_for("closing", within=10) == {"code": 4001, "reason": "token expired"}
        assert fleet.one.server.clock.time() - began < 9
        await ann.wait_for("disconnect")
        await bob.wait_for("user-list", lambda data: data == {"user_ids": ["bob"]})
        await until(lambda: len(fleet.one.server.expiries) == (1 if fleet.one is fleet.two else 0))


@pytest.mark.usefixtures("no_tracebacks")
async def test_a_session_stays_beyond_its_first_token_when_user_join_brought_a_fresh_one(
    make_fleet: MakeFleet,
) -> None:
    async with (
        make_fleet() as fleet,
        client(fleet.one.url, token=token_for("ann", expires_in=1.5)) as ann,
        client(fleet.one.url, token=token_for("ann", expires_in=1.5)) as control,
        client(fleet.one.url, token=token_for("ann", expires_in=1.5)) as forever,
    ):
        await join_as(ann, "ann", expires_in=3600)
        await join_as(forever, "ann", expires_in=None)
        await control.wait_for("closing", within=10)
        for it in (ann, forever):
            await ask(it, "user-list")
            assert it.of("closing") == []
        assert forever.sid not in fleet.one.server.expiries


@pytest.mark.usefixtures("no_tracebacks")
async def test_expiry_is_judged_by_the_fleets_clock(make_pair: MakeFleet) -> None:
    async with make_pair() as fleet:
        server = fleet.one.server
        # This machine's clock is an hour behind the state's.
        server.state.clock_offset_ms = 3_600_000  # type: ignore[attr-defined]
        await server.leases.renew()
        assert server.clock.time() > fleet.two.server.clock.time() + 3000
        async with client(fleet.one.url, token=token_for("ann", expires_in=1800)) as late:
            assert code(await ask(late, "user-list")) == "not-authenticated"
        async with client(fleet.one.url, token=token_for("ann", expires_in=3601)) as ann:
            await ann.wait_for("closing", within=10)
        async with client(fleet.two.url, token=token_for("ann", expires_in=1800)) as ann:
            assert await ask(ann, "user-list") is None


@pytest.mark.usefixtures("no_tracebacks")
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_stranger_hears_nothing_and_is_closed_after_the_grace_time(
    make_fleet: MakeFleet, transport: str
) -> None:
    async with (
        make_fleet(realtime_auth_grace_seconds=1.0, realtime_usage_seconds=60) as fleet,
        client(fleet.one.url, transports=(transport,)) as stranger,
        client(fleet.one.url, token=token_for("ann", expires_in=-5), transports=(transport,)) as expired,
        client(fleet.two.url, "bob") as bob,
    ):
        await ask(bob, "usage", {"model": "m"})
        await bob.wait_for("usage", lambda data: data == {"models": ["m"]})
        await fleet.two.server.wire.emit("everyone", 1)
        await bob.wait_for("everyone")
        for it in (stranger, expired):
            assert await it.wait_for("closing", within=10) == {
                "code": 4003,
                "reason": "not authenticated in time",
            }
            await it.wait_for("disconnect")
            assert [name for name, _ in it.seen] == ["closing", "disconnect"]
        assert bob.sio.connected
        await until(lambda: len(fleet.one.server.strangers) == 0)


@pytest.mark.usefixtures("no_tracebacks")
async def test_trying_in_vain_does_not_prolong_the_grace_time(make_fleet: MakeFleet) -> None:
    async with (
        make_fleet(realtime_auth_grace_seconds=1.0) as fleet,
        client(fleet.one.url) as stranger,
        client(fleet.one.url) as joined,
    ):
        assert await join_as(joined, "ann") == {"id": "ann", "name": "Ann"}
        due = dict(fleet.one.server.strangers._due)
        for token in ("nonsense", token_for("nobody"), token_for("ann", expires_in=-1)):
            await ask(stranger, "user-join", {"auth": {"token": token}})
        assert fleet.one.server.strangers._due == due
        await stranger.wait_for("closing", within=10)
        await heard(joined)
        assert joined.of("closing") == []


@pytest.mark.usefixtures("no_tracebacks")
async def test_only_so_many_strangers_are_let_in(make_fleet: MakeFleet) -> None:
    async with make_fleet(realtime_max_unauthenticated=1) as fleet, client(fleet.one.url) as first:
        refused = await refusal(fleet.one.url, "nobody")
        assert refused["data"] == {"code": "limit-exceeded"}
        assert refused["message"]
        async with client(fleet.one.url, "ann") as ann:  # who signs in is no stranger
            # Nor is there a way to stay uncounted: a refused switch makes a stranger, whatever the limit.
            mend = breaks(fleet.one.server.audience, "greet", RuntimeError("a bug"))
            fleet.one.server.wire.counters.events_failed = 0
            await join_as(ann, "bob")
            mend()
            assert ann.sid in fleet.one.server.strangers
        await first.sio.disconnect()
        await until(lambda: len(fleet.one.server.strangers) == 0)
        async with client(fleet.one.url) as next_one:
            assert code(await ask(next_one, "user-list")) == "not-authenticated"


async def test_deadlines_come_in_order_and_a_later_word_replaces_an_earlier_one() -> None:
    clock, acted = Clock(), list[str]()

    async def act(sid: str) -> None:
        acted.append(sid)

    deadlines = Deadlines(clock, act)
    running = asyncio.create_task(deadlines.run())
    try:
        for sid, at in [("c", 103.0), ("a", 101.0), ("b", 102.0), ("off", 101.0), ("later", 101.0)]:
            deadlines.set(sid, at)
        deadlines.set("off", None)
        deadlines.set("later", 200.0)
        clock.now = 110.0
        deadlines.set("now", 105.0)
        await until(lambda: len(acted) == 4)
        assert acted == ["a", "b", "c", "now"]
        assert len(deadlines) == 1
        assert "later" in deadlines
    finally:
        running.cancel()


async def test_a_deadline_that_comes_before_all_others_is_not_slept_through(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("realtime.deadlines.LONGEST_SLEEP", 3600.0)
    clock, acted = Clock(), list[str]()

    async def act(sid: str) -> None:
        acted.append(sid)

    deadlines = Deadlines(clock, act)
    running = asyncio.create_task(deadlines.run())
    try:
        deadlines.set("far", 1000.0)
        for _ in range(10):
            await asyncio.sleep(0)
        deadlines.set("near", 100.0)
        await until(lambda: acted == ["near"])
    finally:
        running.cancel()


async def test_one_socket_that_cannot_be_closed_does_not_keep_the_others_open() -> None:
    clock, acted = Clock(), list[str]()

    async def act(sid: str) -> None:
        if sid == "bad":
            raise RuntimeError("a bug")
        acted.append(sid)

    deadlines = Deadlines(clock, act)
    deadlines.set("bad", 1.0)
    deadlines.set("good", 2.0)
    running = asyncio.create_task(deadlines.run())
    try:
        await until(lambda: acted == ["good"])
    finally:
        running.cancel()


async def test_the_heap_of_deadlines_stays_in_proportion_to_the_sockets() -> None:
    async def act(_sid: str) -> None: ...

    deadlines = Deadlines(Clock(), act)
    for number in range(10_000):
        deadlines.set(f"sid-{number}", 1000.0 + number)
        deadlines.set(f"sid-{number}", None)
        deadlines.set("one that refreshes its token", 5000.0 + number)
    assert len(deadlines) == 1
    assert len(deadlines._heap) <= 70
