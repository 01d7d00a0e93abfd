"""A lease is renewed whatever happens, and the shared state ends with exactly this instance's sessions under it.

Time is virtual here."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realtime.clock import FleetClock
from realtime.directory import User
from realtime.errors import RealtimeError, SchemaMismatch, StateUnavailable
from realtime.leasing import LeaseKeeper
from realtime.repairs import Repair, Repairs
from realtime.replica import Difference, Replica
from realtime.sessions import LocalSessions
from realtime.state import MemoryState, Registered, Session
from realtime.tasks import Supervisor
from tests.support.barriers import VERBS, Barriers
from tests.support.virtual_time import run

TTL = 5.0
TIMEOUT = 2.0


class Node:
    """The part of an instance that deals with the state, on a state that others may share."""

    def __init__(self, state: MemoryState, name: str = "node") -> None:
        self.tasks = Supervisor()
        self.state = _Own(state)
        self.verbs = Barriers(self.state)
        self.clock = FleetClock(local=asyncio.get_running_loop().time)
        self.closed: list[str] = []
        self.differences: list[Difference] = []
        self.leases = LeaseKeeper(self.state, self.clock, name=name, ttl=TTL)  # type: ignore[arg-type]
        self.sessions = LocalSessions(self.state, self.leases, cap=0)  # type: ignore[arg-type]
        self.repairs = Repairs(
            self.state,  # type: ignore[arg-type]
            self.sessions,
            self.leases,
            doubt_seconds=TTL,
            on_revoked=self._revoked,
        )
        self.replica = Replica(self.state, self.differences.append)  # type: ignore[arg-type]
        self.leases.sessions, self.leases.replica = self.sessions, self.replica
        self.leases.repairs = self.repairs

    async def start(self) -> None:
        await self.leases.acquire()
        self.replica.want_snapshot()
        for run_it in (self.leases.run, self.repairs.run, self.replica.run):
            self.tasks.spawn(run_it.__qualname__, run_it)

    async def _revoked(self, sid: str) -> None:
        self.closed.append(sid)
        await self.sessions.unregister([sid])


class _Own:
    """One instance's way to the state that it shares with others, with a time-out as the link has."""

    def __init__(self, state: MemoryState) -> None:
        self._state = state
        self.late: dict[str, list[float]] = {}
        self.landing: list[asyncio.Task[Any]] = []
        for verb in VERBS:
            setattr(self, verb, self._bounded(verb, getattr(state, verb)))

    def listen(self, *listeners: Any) -> None:
        self._state.listen(*listeners)

    def _bounded(self, verb: str, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def bounded(*args: Any, **options: Any) -> Any:
            await asyncio.sleep(0.001)
            if self.late.get(verb):
                # The caller gives up, and Redis does it all the same some time later.
                self.landing.append(
                    asyncio.create_task(self._land(self.late[verb].pop(), call, args, options))
                )
                raise StateUnavailable("no answer in time")
            result = await call(*args, **options)
            await asyncio.sleep(0.001)
            return result

        return bounded

    async def _land(self, after: float, call: Callable[..., Awaitable[Any]], args: Any, options: Any) -> None:
        await asyncio.sleep(after)
        with contextlib.suppress(RealtimeError):
            await call(*args, **options)


def a_state() -> MemoryState:
    return MemoryState(clock=asyncio.get_running_loop().time)


def a_session(sid: str, user: str = "ann", *rooms: str, **token: Any) -> Session:
    return Session(sid, User(user, user, "user", ""), frozenset(rooms), **token)


async def registered(state: MemoryState, node: Node) -> dict[str, tuple[str, frozenset[str]]]:
    """What stands under the node's lease: sid → user and rooms."""
    sids = await state.instance_sids(node.leases.lease())
    return {
        sid: (session.user.id, session.rooms)
        for sid, session in (await state.sessions()).items()
        if sid in sids and session.lease == node.leases.lease()
    }


def here(node: Node) -> dict[str, tuple[str, frozenset[str]]]:
    return {local.session.sid: (local.session.user.id, local.session.rooms) for local in node.sessions}


SIDS = st.sampled_from(["sid-1", "sid-2", "sid-3"])
FAULTY = st.sampled_from(["register", "unregister", "renew", "acquire", "instance_sids", "snapshot", "reap"])
ACTIONS = st.one_of(
    st.tuples(st.just("register"), SIDS, st.sampled_from(["ann", "bob"]), st.sampled_from(["r", "s"])),
    st.tuples(st.just("rooms"), SIDS, st.sampled_from(["t", "u"])),
    st.tuples(st.just("close"), SIDS),
    st.tuples(st.just("cancel"), SIDS),
    st.tuples(st.just("late"), FAULTY, st.sampled_from([0.01, 0.5, 3.0])),
    st.tuples(st.sampled_from(["lose request", "lose reply", "hold request", "hold reply"]), FAULTY),
    st.tuples(st.sampled_from(["heal", "reaped", "epoch", "emptied"])),
    st.tuples(st.just("wait"), st.sampled_from([0.0, 0.003, 0.5, 1.3, 6.0])),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(ACTIONS, max_size=30))
def test_once_quiet_the_state_holds_exactly_this_instances_sessions_whatever_was_lost_or_came_late(
    actions: list[tuple[Any, ...]],
) -> None:
    async def scenario() -> None:
        state = a_state()
        node = Node(state)
        await node.start()
        lanes: dict[str, asyncio.Task[None]] = {}
        everything: list[asyncio.Task[None]] = []

        def lane(sid: str, work: Callable[[], Awaitable[Any]]) -> None:
            before = lanes.get(sid)

            async def in_order() -> None:
                if before is not None:
                    await asyncio.wait([before])
                with contextlib.suppress(RealtimeError):
                    await work()

            lanes[sid] = asyncio.create_task(in_order())
            everything.append(lanes[sid])

        for name, *arguments in actions:
            if name == "register":
                sid, user, room = arguments
                session = a_session(sid, user, room)
                lane(sid, lambda session=session: node.sessions.register(session, None))
            elif name == "rooms":
                sid, room = arguments
                change = node.sessions.change_rooms(sid, lambda room=room: frozenset({room}))  # type: ignore[misc]
                everything.append(asyncio.create_task(_quietly(change)))  # not in the socket's lane
            elif name == "close":
                lane(arguments[0], lambda sid=arguments[0]: node.sessions.unregister([sid]))
            elif name == "cancel" and arguments[0] in lanes:
                lanes[arguments[0]].cancel()
            elif name == "late":
                node.state.late.setdefault(arguments[0], []).append(arguments[1])
            elif name.startswith("lose"):
                node.verbs.fail(arguments[0], when="before" if name == "lose request" else "after")
            elif name.startswith("hold"):
                node.verbs.hold(arguments[0], when="before" if name == "hold request" else "after")
            elif name == "heal":
                _heal(node)
            elif name == "reaped":
                state._leases.clear()
                for sid in await state.sessions():
                    await state.unregister([sid])
            elif name == "epoch":
                await state.new_epoch((await state.snapshot()).epoch)
            elif name == "emptied":
                state._leases.clear()
                for sid in await state.sessions():
                    await state.unregister([sid])
                await state.new_epoch((await state.snapshot()).epoch)
            elif name == "wait":
                await asyncio.sleep(arguments[0])
        _heal(node)
        await asyncio.gather(*everything, *node.state.landing, return_exceptions=True)
        await asyncio.sleep(4 * TTL)
        assert node.leases.held
        assert await registered(state, node) == here(node)
        assert set(await state.sessions()) == set(here(node))
        assert node.sessions.doubts() == {}
        assert node.replica.users == set(await state.users())
        assert not node.tasks.failures
        await node.tasks.close()

    run(scenario())


async def _quietly(work: Awaitable[None]) -> None:
    with contextlib.suppress(RealtimeError):
        await work


def _heal(node: Node) -> None:
    for gates in list(node.verbs._gates.values()):
        for gate in list(gates):
            node.verbs.remove(gate)
    node.state.late.clear()


def test_a_repair_that_hangs_keeps_nobody_from_renewing() -> None:
    async def scenario() -> None:
        state = a_state()
        node = Node(state)
        await node.start()
        await node.sessions.register(a_session("sid"), None)
        await state.unregister(["sid"])
        hanging = node.verbs.hold("instance_sids", "reap")
        await asyncio.sleep(20 * TTL)
        assert hanging.calls
        assert node.leases.held
        assert node.leases.counts["lost"] == 0
        node.verbs.remove(hanging)
        await asyncio.sleep(TTL)
        assert set(await registered(state, node)) == {"sid"}
        await node.tasks.close()

    run(scenario())


def test_one_repair_that_always_fails_does_not_hold_up_the_others() -> None:
    async def scenario() -> None:
        state = a_state()
        node = Node(state)
        await state.acquire("dead", 1)
        await state.register("dead", [a_session("ghost", "bob")])
        await node.start()
        await node.sessions.register(a_session("sid", jti="a token"), None)
        node.verbs.fail("instance_sids", error=ValueError("nobody foresaw this"))
        node.repairs.want(Repair.REGISTER_ALL)
        await state.revoke_token("a token", 2**53)
        node.leases.hurry(recheck_tokens=True)
        await asyncio.sleep(TTL)
        assert node.closed == ["sid"]
        assert await state.users() == {}
        assert node.repairs.counts["reaped"] == 1
        assert not node.tasks.failures
        await node.tasks.close()

    run(scenario())


@pytest.mark.parametrize(
    "error", [StateUnavailable("no"), ValueError("nobody foresaw this"), SchemaMismatch("2")]
)
def test_a_lost_lease_is_taken_again_however_often_that_fails_first(error: Exception) -> None:
    async def scenario() -> None:
        state = a_state()
        node = Node(state)
        await node.start()
        await node.sessions.register(a_session("sid"), None)
        lost = node.leases.lease()
        failing = node.verbs.fail("acquire", error=error)
        state.clock_offset_ms += 60_000
        await state.reap()
        with pytest.raises(StateUnavailable if not isinstance(error, ValueError) else ValueError):
            await node.sessions.register(a_session("other"), None)
        await asyncio.sleep(2 * TTL)
        assert not node.leases.held
        assert await state.users() == {}
        node.verbs.remove(failing)
        await asyncio.sleep(2)  # all back within 2 s
        assert node.leases.held
        assert node.leases.lease() != lost
        assert set(await registered(state, node)) == {"sid"}
        assert not node.tasks.failures
        await node.tasks.close()

    run(scenario())


def test_all_sessions_are_back_as_soon_as_there_is_a_new_lease() -> None:
    async def scenario() -> None:
        state = a_state()
        node = Node(state)
        await node.start()
        for number in range(450):
            await node.sessions.register(a_session(f"sid-{number}", f"user-{number}"), None)
        state._leases.clear()
        await state.unregister(list(await state.sessions()))
        await node.leases.renew()
        await asyncio.sleep(0.05)
        assert len(await registered(state, node)) == 450
        await node.tasks.close()

    run(scenario())


def test_sessions_in_very_many_rooms_are_registered_again_in_portions_that_keep_nobody_waiting() -> None:
    """200 sessions in 1,000 rooms each in one step kept a real Redis busy for 1.4 s."""

    async def scenario() -> None:
        state = a_state()
        node = Node(state)
        await node.start()
        rooms = [f"channel:{number}" for number in range(1000)]
        for number in range(25):
            await node.sessions.register(a_session(str(number), "ann", *rooms), None)
        await node.sessions.register(
            a_session("more rooms than a portion", "ann", *map(str, range(10_001))), None
        )
        steps: list[int] = []
        register = state.register

        async def counting(lease_id: str, sessions: list[Session], **options: Any) -> Registered:
            steps.append(sum(len(session.rooms) for session in sessions))
            return await register(lease_id, sessions, **options)

        node.state.register = counting  # type: ignore[attr-defined]
        await state.unregister(list(await state.sessions()))
        await node.leases.renew()
        await asyncio.sleep(0.05)
        assert await registered(state, node) == here(node)
        assert steps == [10_000, 10_000, 5_000, 10_001]
        await node.tasks.close()

    run(scenario())


def test_a_new_epoch_has_everything_registered_again_since_what_is_there_may_be_of_older_times() -> None:
    async def scenario() -> None:
        state = a_state()
        node = Node(state)
        await node.start()
        await node.sessions.register(a_session("sid", "ann", "new room"), None)
        await asyncio.sleep(2 * TTL)
        await state.register(node.leases.lease(), [a_session("sid", "ann", "old room")])
        await state.new_epoch((await state.snapshot()).epoch)
        await asyncio.sleep(TTL / 2)
        assert await registered(state, node) == here(node)
        await node.tasks.close()

    run(scenario())


@pytest.mark.parametrize("late", [False, True])
def test_content_of_which_a_call_left_doubts_is_put_right_even_if_that_call_still_lands_later(
    late: bool,
) -> None:
    async def scenario() -> None:
        state = a_state()
        node = Node(state)
        await node.start()
        await node.sessions.register(a_session("sid", "ann", "room"), None)
        await asyncio.sleep(2 * TTL)
        if late:
            node.state.late["register"] = [TTL / 2]
        else:
            lost = node.verbs.fail("register", when="after")
        with pytest.raises(StateUnavailable):
            await node.sessions.change_rooms("sid", lambda: frozenset({"other"}))
        if not late:
            node.verbs.remove(lost)
        await asyncio.sleep(TTL / 2 - 0.01)
        assert await registered(state, node) == here(node) == {"sid": ("ann", frozenset({"room"}))}
        await asyncio.sleep(TTL / 2)
        assert await registered(state, node) == here(node)
        await asyncio.sleep(2 * TTL)
        assert node.sessions.doubts() == {}
        await node.tasks.close()

    run(scenario())


def test_a_call_waits_for_a_repair_of_the_same_socket_so_that_the_later_content_wins() -> None:
    async def scenario() -> None:
        state = a_state()
        node = Node(state)
        await node.start()
        await node.sessions.register(a_session("sid", "ann", "room"), None)
        held = node.verbs.hold("register")
        node.repairs.want(Repair.REGISTER_ALL)
        await held.waiting()
        changing = asyncio.create_task(node.sessions.change_rooms("sid", lambda: frozenset({"new"})))
        await asyncio.sleep(1)
        assert held.calls == 1
        held.open()
        await changing
        assert await registered(state, node) == {"sid": ("ann", frozenset({"new"}))}
        await node.tasks.close()

    run(scenario())


def test_a_registration_waits_for_the_removal_of_what_was_left_of_the_same_socket() -> None:
    async def scenario() -> None:
        state = a_state()
        node = Node(state)
        await node.start()
        lost = node.verbs.fail("register", when="after")
        with pytest.raises(StateUnavailable):
            await node.sessions.register(a_session("sid"), None)
        node.verbs.remove(lost)
        held = node.verbs.hold("unregister")
        await held.waiting()
        again = asyncio.create_task(node.sessions.register(a_session("sid"), None))
        await asyncio.sleep(1)
        assert not again.done()
        held.open()
        await again
        assert await registered(state, node) == here(node) != {}
        await node.tasks.close()

    run(scenario())


@pytest.mark.parametrize("verb", ["renew", "acquire"])
def test_a_released_lease_is_not_taken_again_by_a_renewal_on_its_way(verb: str) -> None:
    async def scenario() -> None:
        state = a_state()
        node = Node(state)
        await node.start()
        await node.sessions.register(a_session("sid"), None)
        if verb == "acquire":
            state._leases.clear()
        held = node.verbs.hold(verb)
        node.leases.hurry()
        await held.waiting()
        releasing = asyncio.create_task(node.leases.release())
        await asyncio.sleep(0.01)
        held.open()
        await releasing
        await asyncio.sleep(3 * TTL)
        assert await state.leases() == {}
        if verb == "renew":
            assert await state.users() == {}
        with pytest.raises(StateUnavailable):
            node.leases.lease()
        assert not node.leases.held
        await node.tasks.close()

    run(scenario())


def test_the_lease_counts_as_held_from_when_it_was_asked_for_until_its_time_is_over() -> None:
    async def scenario() -> None:
        state = a_state()
        node = Node(state)
        assert not node.leases.held
        slow = node.verbs.hold("acquire", when="after")
        acquiring = asyncio.create_task(node.leases.acquire())
        await slow.waiting()
        await asyncio.sleep(1)
        slow.open()
        await acquiring
        assert node.leases.held
        await asyncio.sleep(TTL - 1.1)
        assert node.leases.held
        await asyncio.sleep(0.2)
        assert not node.leases.held
        await node.leases.renew()
        assert node.leases.held
        slow = node.verbs.hold("renew", when="after")
        renewing = asyncio.create_task(node.leases.renew())
        await slow.waiting()
        await asyncio.sleep(1)
        node.verbs.remove(slow)
        await renewing
        await asyncio.sleep(TTL - 0.9)
        assert not node.leases.held

    run(scenario())


def test_whoever_is_in_a_hurry_is_heard_during_a_renewal_and_cannot_make_a_busy_loop() -> None:
    async def scenario() -> None:
        node = Node(a_state())
        await node.start()
        await asyncio.sleep(1)
        held = node.verbs.hold("renew", when="after")
        node.leases.hurry()
        await held.waiting()
        node.leases.hurry()
        before = node.verbs.counts["renew"]
        node.verbs.remove(held)
        await asyncio.sleep(0.2)
        assert node.verbs.counts["renew"] == before + 1
        for _ in range(1000):
            node.leases.hurry()
            await asyncio.sleep(0.001)
        assert node.verbs.counts["renew"] < before + 30
        await node.tasks.close()

    run(scenario())


def test_after_an_outage_the_first_that_is_back_leaves_the_others_time_to_renew() -> None:
    async def scenario() -> None:
        state = a_state()
        one, other = Node(state, "one"), Node(state, "other")
        for node in (one, other):
            await node.start()
            await node.sessions.register(a_session(f"of-{node.leases.lease()}"), None)
        outages = [node.verbs.fail() for node in (one, other)]
        await asyncio.sleep(3 * TTL)
        one.verbs.remove(outages[0])
        await asyncio.sleep(TTL / 2)
        assert len(await state.sessions()) == 2
        other.verbs.remove(outages[1])
        await asyncio.sleep(2 * TTL)
        assert len(await state.sessions()) == 2
        assert one.leases.counts["lost"] == other.leases.counts["lost"] == 0
        other.verbs.fail()  # and who does not come back is reaped
        await asyncio.sleep(2 * TTL)
        assert len(await state.sessions()) == 1
        for node in (one, other):
            await node.tasks.close()

    run(scenario())


def test_a_revoked_session_that_is_registered_again_is_closed() -> None:
    async def scenario() -> None:
        state = a_state()
        node = Node(state)
        await node.start()
        await node.sessions.register(a_session("sid", jti="a token"), None)
        await node.sessions.register(a_session("other"), None)
        await state.revoke_token("a token", 2**53)
        state._leases.clear()
        await state.unregister(["sid", "other"])
        node.leases.hurry()
        await asyncio.sleep(1)
        assert node.closed == ["sid"]
        assert set(await registered(state, node)) == {"other"}
        await node.tasks.close()

    run(scenario())


def test_asking_again_for_revoked_tokens_is_not_forgotten_when_the_state_fails() -> None:
    async def scenario() -> None:
        state = a_state()
        node = Node(state)
        await node.start()
        await node.sessions.register(a_session("sid", jti="a token"), None)
        await state.revoke_token("a token", 2**53)
        failing = node.verbs.fail("revoked")
        node.leases.hurry(recheck_tokens=True)
        await asyncio.sleep(1)
        assert node.closed == []
        node.verbs.remove(failing)
        await asyncio.sleep(1)
        assert node.closed == ["sid"]
        await node.tasks.close()

    run(scenario())


def test_one_session_too_many_does_not_hide_one_too_few_for_long() -> None:
    async def scenario() -> None:
        state = a_state()
        node = Node(state)
        await node.start()
        await node.sessions.register(a_session("sid"), None)
        await asyncio.sleep(TTL)
        await state.unregister(["sid"])
        await state.register(node.leases.lease(), [a_session("nobody's")])
        await asyncio.sleep(2 * 8 * TTL / 4)
        assert set(await registered(state, node)) == {"sid"}
        await node.tasks.close()

    run(scenario())


# How often, and how long


def test_the_lease_is_renewed_four_times_in_its_life_and_twice_as_often_while_that_fails() -> None:
    async def scenario() -> None:
        node = Node(a_state())
        await node.start()
        await asyncio.sleep(10 * TTL)
        assert 38 <= node.verbs.counts["renew"] <= 42
        failing = node.verbs.fail("renew")
        await asyncio.sleep(10 * TTL)
        assert 75 <= failing.calls <= 82
        await node.tasks.close()

    run(scenario())


def test_sids_are_compared_at_every_eighth_renewal_only_while_their_number_agrees() -> None:
    async def scenario() -> None:
        node = Node(a_state())
        await node.start()
        await node.sessions.register(a_session("sid"), None)
        await asyncio.sleep(8 * TTL)
        assert node.verbs.counts["renew"] // 8 == node.verbs.counts["instance_sids"]
        await node.tasks.close()

    run(scenario())


@pytest.mark.parametrize("how", ["acquire", "renew"])
def test_who_has_its_lease_may_judge_for_half_of_its_life_unless_a_renewal_was_lost(how: str) -> None:
    async def scenario() -> None:
        state = a_state()
        node = Node(state)
        await node.leases.acquire()
        if how == "renew":
            await asyncio.sleep(1)
            await node.leases.renew()
        expiry = (await state.leases())[node.leases.lease()]
        assert abs(expiry / 1000 - asyncio.get_running_loop().time() - TTL) < 0.01
        await asyncio.sleep(0.49 * TTL)
        assert node.leases.may_judge
        await asyncio.sleep(0.02 * TTL)
        assert not node.leases.may_judge
        node.leases._renewed_at = asyncio.get_running_loop().time()
        await node.leases.renew()
        assert node.leases.may_judge
        state._leases[node.leases.lease()] -= 100  # a replica of Redis took over, without the last renewal
        await node.leases.renew()
        assert not node.leases.may_judge
        for _ in range(4):
            await asyncio.sleep(0.24 * TTL)
            await node.leases.renew()
            assert not node.leases.may_judge
        await asyncio.sleep(0.05 * TTL)
        assert node.leases.may_judge

    run(scenario())


def test_a_renewal_that_was_lost_just_after_the_lease_was_taken_is_noticed() -> None:
    async def scenario() -> None:
        state = a_state()
        node = Node(state)
        await node.leases.acquire()
        state._leases[node.leases.lease()] -= 100
        await node.leases.renew()
        assert not node.leases.may_judge

    run(scenario())


def test_a_repair_that_fails_is_tried_again_soon_and_then_more_and_more_rarely() -> None:
    async def scenario() -> None:
        node = Node(a_state())
        await node.start()
        await node.sessions.register(a_session("sid"), None)
        tried: list[float] = []

        async def revoked(_tokens: Any) -> list[bool]:
            tried.append(asyncio.get_running_loop().time())
            raise StateUnavailable("no")

        node.state.revoked = revoked  # type: ignore[attr-defined]
        node.leases.hurry(recheck_tokens=True)
        await asyncio.sleep(10)
        pauses = [later - earlier for earlier, later in itertools.pairwise(tried)]
        assert pauses[:6] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0, 1.0], abs=0.03)
        await node.tasks.close()

    run(scenario())


def test_every_incarnation_has_a_lease_of_its_own_even_under_the_same_name() -> None:
    async def scenario() -> None:
        state = a_state()
        for _ in range(2):
            await Node(state, "one name").leases.acquire()
        assert len(await state.leases()) == 2

    run(scenario())


def test_the_fleets_clock_is_learned_whenever_a_lease_is_taken_or_renewed() -> None:
    async def scenario() -> None:
        state, loop = a_state(), asyncio.get_running_loop()
        node = Node(state)
        for hours, learn in ((1, node.leases.acquire), (2, node.leases.renew)):
            state.clock_offset_ms = hours * 3_600_000
            await learn()
            assert abs(node.clock.time() - loop.time() - hours * 3600) < 0.01

    run(scenario())


def test_who_needs_a_lease_back_is_told_in_time_that_there_is_none() -> None:
    async def scenario() -> None:
        node = Node(a_state())
        await node.leases.acquire()
        node.verbs.hold("renew")
        began = asyncio.get_running_loop().time()
        with pytest.raises(StateUnavailable):
            await node.leases.regain(node.leases.lease())
        assert asyncio.get_running_loop().time() - began == pytest.approx(TTL)

    run(scenario())


def test_many_who_find_a_lease_lost_at_once_take_one_new_lease() -> None:
    async def scenario() -> None:
        state = a_state()
        node = Node(state)
        await node.leases.acquire()
        lost = node.leases.lease()
        await state.release(lost)
        await asyncio.gather(*[node.leases.regain(lost) for _ in range(5)])
        assert (node.leases.counts["acquired"], node.leases.counts["lost"]) == (2, 1)
        assert set(await state.leases()) == {node.leases.lease()}

    run(scenario())


def test_a_new_lease_comes_with_a_snapshot_since_news_may_have_been_missed_without_one() -> None:
    async def scenario() -> None:
        state = a_state()
        node = Node(state)
        await node.start()
        await asyncio.sleep(2 * TTL)
        before = node.verbs.counts["snapshot"]
        state._leases.clear()
        await node.leases.renew()
        await asyncio.sleep(0.1)
        assert node.verbs.counts["snapshot"] == before + 1
        await node.tasks.close()

    run(scenario())


def test_a_renewal_shows_what_was_never_heard() -> None:
    async def scenario() -> None:
        state = a_state()
        node = Node(state)
        await node.start()
        await asyncio.sleep(TTL)
        state._listeners.clear()
        await state.acquire("other", 10**9)
        await state.register("other", [a_session("far", "bob")])
        await asyncio.sleep(TTL / 2)
        assert node.replica.users == {"bob"}
        await node.tasks.close()

    run(scenario())


def test_a_repair_that_finds_the_lease_lost_has_another_taken_at_once() -> None:
    async def scenario() -> None:
        state = a_state()
        node = Node(state)
        await node.start()
        await node.sessions.register(a_session("sid"), None)
        await asyncio.sleep(0.1)
        state._leases.clear()
        await state.unregister(["sid"])
        node.repairs.want(Repair.REGISTER_ALL)
        await asyncio.sleep(0.3)
        assert set(await registered(state, node)) == {"sid"}
        await node.tasks.close()

    run(scenario())


def test_a_repair_that_was_cancelled_is_still_wanted() -> None:
    async def scenario() -> None:
        node = Node(a_state())
        await node.leases.acquire()
        held = node.verbs.hold("instance_sids")
        node.repairs.want(Repair.COMPARE)
        mending = asyncio.create_task(node.repairs.mend())
        await held.waiting()
        mending.cancel()
        await asyncio.gather(mending, return_exceptions=True)
        node.verbs.remove(held)
        before = node.verbs.counts["instance_sids"]
        assert await node.repairs.mend()
        assert node.verbs.counts["instance_sids"] == before + 1

    run(scenario())


def test_a_repair_that_succeeded_is_not_repeated_with_the_next() -> None:
    async def scenario() -> None:
        node = Node(a_state())
        await node.leases.acquire()
        for repair in (Repair.COMPARE, Repair.REAP):
            node.repairs.want(repair)
            assert await node.repairs.mend()
        assert (node.verbs.counts["instance_sids"], node.verbs.counts["reap"]) == (1, 1)

    run(scenario())


@pytest.mark.parametrize("error", [StateUnavailable("no"), ValueError("nobody foresaw this")])
def test_a_repair_that_fails_is_logged_with_a_traceback_only_if_nobody_foresaw_it(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        node = Node(a_state())
        await node.leases.acquire()
        node.verbs.fail("instance_sids", error=error)
        node.repairs.want(Repair.COMPARE)
        assert not await node.repairs.mend()

    run(scenario())
    (record,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert record.message == f"trying again to compare: {error}"
    assert bool(record.exc_info) == isinstance(error, ValueError)


def test_dead_leases_are_judged_in_the_name_of_the_own_lease() -> None:
    async def scenario() -> None:
        node = Node(a_state())
        await node.leases.acquire()
        lease = node.leases.lease()
        named = node.verbs.hold("reap", matches=lambda *_args, judge="": judge == lease)
        reaping = asyncio.create_task(node.repairs.reap())
        await named.waiting()
        named.open()
        await reaping

    run(scenario())


# The fleet's clock


def test_a_slow_answer_does_not_move_a_clock_that_may_be_right() -> None:
    now = 1000.0
    clock = FleetClock(local=lambda: now)
    clock.learn(999_000, took=2.0)  # read somewhere in the last two seconds
    assert clock.time() == now
    clock.learn(999_900, took=0.2)
    assert clock.time() == now


@pytest.mark.parametrize("skew", [-3600.0, 0.4, 3600.0])
def test_a_skewed_clock_is_put_right_as_exactly_as_answers_allow(skew: float) -> None:
    now = 5000.0
    clock = FleetClock(local=lambda: now + skew)
    for took, error in ((2.0, 2.0), (0.1, 0.1), (0.01, 0.01), (1.0, 0.01)):
        clock.learn(round((now - took / 2) * 1000), took=took)
        assert abs(clock.time() - now) <= error + 0.002


def test_a_session_that_brought_a_fresh_token_while_the_old_one_was_asked_about_stays() -> None:
    async def scenario() -> None:
        state = a_state()
        node = Node(state)
        await node.start()
        await node.sessions.register(a_session("sid", jti="old"), None)
        await state.revoke_token("old", 2**53)
        held = node.verbs.hold("revoked", when="after")
        node.leases.hurry(recheck_tokens=True)
        await held.waiting()
        await node.sessions.register(a_session("sid", jti="new"), None)
        held.open()
        await asyncio.sleep(TTL)
        assert node.closed == []
        await node.tasks.close()

    run(scenario())
