"""What this instance has registered: one call at a time for a socket, and a failed call is never forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from realtime.directory import User
from realtime.errors import LeaseLost, StateUnavailable, TokenRevoked, TooManySessions
from realtime.sessions import LocalSessions
from realtime.state import MemoryState, Session
from tests.support.barriers import Barriers
from tests.support.virtual_time import run


def a_session(sid: str, user: str = "ann", *rooms: str, jti: str | None = None) -> Session:
    return Session(sid, User(user, user, "user", ""), frozenset(rooms), jti=jti)


class Lab:
    """A lease holder, the sessions and the state below them."""

    def __init__(self, *, cap: int = 0) -> None:
        self.state = MemoryState()
        self.plain = {verb: getattr(self.state, verb) for verb in ("acquire", "reap", "users", "session")}
        self.verbs = Barriers(self.state)
        self.sessions = LocalSessions(self.state, self, cap=cap)
        self._lease = "lease-1"
        self.regains: list[Callable[[], Awaitable[None]]] = []

    async def start(self) -> None:
        await self.plain["acquire"]("lease-1", 1000)

    def lease(self) -> str:
        return self._lease

    async def regain(self, lost: str) -> None:
        if self._lease == lost:
            self._lease = "lease-2"
            await self.plain["acquire"]("lease-2", 1000)

    def hurry(self) -> None: ...

    async def lose_lease(self) -> None:
        self.state.clock_offset_ms += 2000
        await self.plain["reap"]()


async def steps() -> None:
    for _ in range(8):
        await asyncio.sleep(0)


def test_sessions_are_found_by_the_token_that_let_them_in_last() -> None:
    async def scenario() -> None:
        lab = Lab()
        await lab.start()
        for sid, jti in (("one", "old"), ("two", "old"), ("three", None), ("one", "new")):
            await lab.sessions.register(a_session(sid, jti=jti), None)
        assert lab.sessions.of_token("old") == ["two"]
        assert lab.sessions.of_token("new") == ["one"]
        await lab.sessions.unregister(["one", "two", "three"])
        assert lab.sessions.of_token("new") == []
        assert lab.sessions._by_token == {}

    run(scenario())


def test_a_socket_that_closes_while_its_rooms_are_being_registered_leaves_nothing_behind() -> None:
    async def scenario() -> None:
        lab = Lab()
        await lab.start()
        await lab.sessions.register(a_session("sid"), None)
        for when in ("before", "after"):
            await lab.sessions.register(a_session("sid"), None)
            gate = lab.verbs.hold("register", when=when)  # type: ignore[arg-type]
            changing = asyncio.create_task(
                lab.sessions.change_rooms("sid", lambda when=when: frozenset({f"room-{when}"}))  # type: ignore[misc]
            )
            await gate.waiting()
            closing = asyncio.create_task(lab.sessions.unregister(["sid"]))
            await steps()
            assert lab.sessions.get("sid") is None
            assert lab.sessions.known() == {"sid"}
            lab.verbs.remove(gate)
            await asyncio.gather(changing, closing)
            assert lab.sessions.known() == set()
            assert await lab.plain["users"]() == {}

    run(scenario())


def test_rooms_are_read_when_their_turn_has_come_and_the_later_content_wins() -> None:
    async def scenario() -> None:
        lab = Lab()
        await lab.start()
        await lab.sessions.register(a_session("sid"), 5.0)
        changes = 0

        def changed() -> None:
            nonlocal changes
            changes += 1

        lab.sessions.on_rooms_changed = changed
        gate = lab.verbs.hold("register")
        first = asyncio.create_task(lab.sessions.register(a_session("sid", "ann", "one"), 6.0))
        await gate.waiting()
        rooms = frozenset({"stale"})
        second = asyncio.create_task(lab.sessions.change_rooms("sid", lambda: rooms))
        await steps()
        rooms = frozenset({"one", "two"})
        lab.verbs.remove(gate)
        await asyncio.gather(first, second)
        local = lab.sessions.get("sid")
        assert local is not None
        assert (local.session.rooms, local.expires_at) == (rooms, 6.0)
        assert (await lab.plain["session"]("sid")).rooms == rooms
        assert changes == 2
        await lab.sessions.change_rooms("sid", lambda: rooms)
        await lab.sessions.change_rooms("nobody", lambda: rooms)
        assert changes == 2

    run(scenario())


def test_two_that_take_sockets_out_in_different_order_do_not_wait_for_each_other() -> None:
    async def scenario() -> None:
        lab = Lab()
        await lab.start()
        sids = ["a", "b", "c"]
        for sid in sids:
            await lab.sessions.register(a_session(sid), None)
        gate = lab.verbs.hold("register")
        tasks = [asyncio.create_task(lab.sessions.change_rooms("b", lambda: frozenset({"r"})))]
        await gate.waiting()

        async def both(order: list[str]) -> None:
            async with lab.sessions._alone(*order):
                await asyncio.sleep(1)

        for order in (["b", "a"], ["a", "b"]):
            tasks.append(asyncio.create_task(both(order)))
            await steps()
        lab.verbs.remove(gate)
        await asyncio.gather(*tasks)
        await lab.sessions.unregister(sids)
        assert await lab.plain["users"]() == {}

    run(scenario())


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_call_that_failed_is_in_doubt_until_a_repair_says_otherwise(when: str) -> None:
    async def scenario() -> None:
        lab = Lab()
        await lab.start()
        gate = lab.verbs.fail("register", "unregister", when=when)  # type: ignore[arg-type]
        with pytest.raises(StateUnavailable):
            await lab.sessions.register(a_session("sid"), None)
        assert lab.sessions.get("sid") is None
        assert set(lab.sessions.doubts()) == {"sid"}
        lab.verbs.remove(gate)
        await lab.sessions.unregister(["sid"])  # the socket closes: what may be there goes
        assert await lab.plain["users"]() == {}
        await lab.sessions.register(a_session("other"), None)
        gate = lab.verbs.fail("unregister", when=when)  # type: ignore[arg-type]
        await lab.sessions.unregister(["other"])
        assert lab.sessions.get("other") is None
        assert {"other"} <= set(lab.sessions.doubts())
        doubts = lab.sessions.doubts()
        await asyncio.sleep(1)
        with pytest.raises(StateUnavailable):
            lab.verbs.fail("register")
            await lab.sessions.register(a_session("other"), None)
        lab.sessions.cleared(doubts)
        assert set(lab.sessions.doubts()) == {"other"}  # it failed again meanwhile
        lab.sessions.cleared(lab.sessions.doubts())
        assert lab.sessions.doubts() == {}

    run(scenario())


def test_a_call_that_was_cancelled_is_in_doubt_too_and_its_turn_is_handed_on() -> None:
    async def scenario() -> None:
        lab = Lab()
        await lab.start()
        gate = lab.verbs.hold("register", when="after")
        task = asyncio.create_task(lab.sessions.register(a_session("sid"), None))
        await gate.waiting()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        lab.verbs.remove(gate)
        assert set(lab.sessions.doubts()) == {"sid"}
        await lab.sessions.register(a_session("sid"), None)
        assert lab.sessions.get("sid") is not None

    run(scenario())


def test_a_lost_lease_is_regained_once_and_then_it_is_unavailable() -> None:
    async def scenario() -> None:
        lab = Lab()
        await lab.start()
        await lab.lose_lease()
        await lab.sessions.register(a_session("sid"), None)
        assert (await lab.plain["session"]("sid")).lease == "lease-2"
        lab.verbs.fail("register", error=LeaseLost("gone"))
        with pytest.raises(StateUnavailable):
            await lab.sessions.register(a_session("other"), None)

    run(scenario())


def test_what_is_refused_changes_nothing_here() -> None:
    async def scenario() -> None:
        lab = Lab(cap=1)
        await lab.start()
        await lab.sessions.register(a_session("one"), None)
        with pytest.raises(TooManySessions):
            await lab.sessions.register(a_session("two"), None)
        await lab.state.revoke_token("a token", 2**53)
        with pytest.raises(TokenRevoked):
            await lab.sessions.register(a_session("one", "ann", "new room", jti="a token"), None)
        local = lab.sessions.get("one")
        assert local is not None
        assert local.session.rooms == frozenset()
        assert (len(lab.sessions), lab.sessions.users(), lab.sessions.doubts()) == (1, ["ann"], {})

    run(scenario())


def test_a_session_that_changes_its_user_belongs_to_the_new_one_alone() -> None:
    async def scenario() -> None:
        lab = Lab()
        await lab.start()
        await lab.sessions.register(a_session("sid", "ann", "user:ann"), None)
        await lab.sessions.register(a_session("sid", "bob", "user:bob"), None)
        assert lab.sessions.of_user("ann") == []
        assert lab.sessions.users() == ["bob"]
        assert lab.sessions.of_user("bob") == ["sid"]
        assert lab.sessions.rooms_of("bob") == {"user:bob"}
        assert lab.sessions.rooms_of("ann") == frozenset()

    run(scenario())


def test_strangers_that_close_cost_no_call() -> None:
    async def scenario() -> None:
        lab = Lab()
        await lab.start()
        await lab.sessions.unregister(["never", "registered"])
        assert lab.verbs.counts["unregister"] == 0

    run(scenario())
