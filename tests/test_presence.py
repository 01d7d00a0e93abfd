"""What clients make of what they are told is the truth, whenever they came and whatever happened meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, cast
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realtime.directory import User
from realtime.errors import StateUnavailable
from realtime.presence import Everyone, user_list
from realtime.replica import Difference, Replica
from realtime.sessions import LocalSessions
from realtime.shared_channels import TURN_SECONDS, SharedChannels
from realtime.state import MemoryState, Session
from realtime.usage import MOST_MODELS, UsageAudience
from tests.support import virtual_time
from tests.support.audience import FakeClient, FakeRooms
from tests.support.barriers import Barriers, Gate

NAMES = ["ann", "bob", "cid", "dan"]


def a_session(sid: str, user: str, channels: frozenset[str] = frozenset()) -> Session:
    rooms = frozenset({f"user:{user}", *(f"channel:{channel}" for channel in channels)})
    return Session(sid, User(user, user.title(), "user", ""), rooms)


class Copy:
    """As much of a replica as an audience looks at."""

    def __init__(self) -> None:
        self.epoch = "epoch"
        self.version = 0
        self.users: set[str] = set()
        self.models: set[str] = set()

    @property
    def position(self) -> tuple[str, int]:
        return self.epoch, self.version


def everyone(copy: Copy, rooms: FakeRooms, *, longest: int = 100) -> Everyone:
    return Everyone(cast(Replica, copy), rooms, interval=1, rate=1e12, longest=longest)


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await scenario()

    asyncio.run(bounded())


async def steps(count: int = 12) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def broadcast(audience: Any) -> None:
    """What the pacer's task does at its turn."""
    if audience.pacer._nudged.is_set():
        audience.pacer._nudged.clear()
        try:
            await audience._broadcast()
        except RuntimeError:
            audience.pacer.nudge()


EVERYONE_ACTIONS = st.one_of(
    st.tuples(st.just("toggle"), st.sampled_from(NAMES)),
    st.tuples(st.just("toggle"), st.sampled_from(NAMES)),
    st.tuples(st.just("connect"), st.booleans()),
    st.tuples(st.just("answer"), st.integers(0, 5)),
    st.tuples(st.just("broadcast")),
    st.tuples(st.just("fail")),
    st.tuples(st.just("epoch"), st.sets(st.sampled_from(NAMES))),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(EVERYONE_ACTIONS, max_size=40))
def test_every_client_ends_with_the_truth_whenever_it_was_greeted(actions: list[tuple[Any, ...]]) -> None:
    async def scenario() -> None:
        copy, rooms = Copy(), FakeRooms()
        audience = everyone(copy, rooms)
        clients: list[FakeClient] = []

        def whole_lists_are_the_truth(_sid: str, event: str, data: Any) -> None:
            if event == "user-list":
                assert set(data["user_ids"]) == copy.users

        rooms.on_emit = whole_lists_are_the_truth
        for name, *arguments in actions:
            if name == "toggle":
                (user,) = arguments
                joins, leaves = (frozenset({user}) - copy.users), (frozenset({user}) & copy.users)
                copy.users = copy.users ^ {user}
                copy.version += 1
                audience.on_difference(Difference(joins=joins, leaves=leaves))
            elif name == "epoch":
                before, copy.users, copy.version = copy.users, set(arguments[0]), 1
                copy.epoch += "'"
                audience.on_difference(
                    Difference(
                        frozenset(copy.users - before),
                        frozenset(before - copy.users),
                        fresh=True,
                        missed=True,
                    )
                )
            elif name == "connect":
                clients.append(rooms.connect(f"sid-{len(clients)}", diffs=arguments[0]))
                await audience.greet(a_session(clients[-1].sid, "eve"), diffs=arguments[0])
                assert clients[-1].users == copy.users
            elif name == "answer" and arguments[0] < len(clients):
                client = clients[arguments[0]]
                await audience.answer(a_session(client.sid, "eve"), diffs=client.diffs)
                assert client.users == copy.users
            elif name == "broadcast":
                await broadcast(audience)
            elif name == "fail":
                rooms.failures = 1
                await broadcast(audience)
                rooms.failures = 0
        await broadcast(audience)
        for client in clients:
            assert client.users == copy.users
            if client.diffs:
                versions = [data["version"] for _, data in client.got]
                assert all(isinstance(version, int) for version in versions)

    run(scenario)


async def test_nothing_is_sent_to_all_unless_presence_changed() -> None:
    audience = everyone(Copy(), FakeRooms())
    audience.on_difference(Difference(models_changed=True, rooms_changed=True, reaped=("a lease",)))
    assert not audience.pacer._nudged.is_set()
    audience.on_difference(Difference(joins=frozenset({"ann"})))
    assert audience.pacer._nudged.is_set()


async def test_a_list_beyond_the_limit_is_cut_and_says_so_but_not_for_those_who_apply_differences() -> None:
    copy, rooms = Copy(), FakeRooms()
    copy.users = {f"user-{number}" for number in range(6)}
    audience = everyone(copy, rooms, longest=5)
    audience.on_difference(Difference(joins=frozenset(copy.users), fresh=True))
    for sid, diffs in (("list", False), ("diff", True)):
        rooms.connect(sid, diffs=diffs)
        await audience.greet(a_session(sid, "ann"), diffs=diffs)
        await audience.answer(a_session(sid, "ann"), diffs=diffs)
    assert [data for _, data in rooms.clients["list"].got] == [
        {"user_ids": [f"user-{number}" for number in range(5)], "truncated": True}
    ] * 2
    assert all(set(data["user_ids"]) == copy.users for _, data in rooms.clients["diff"].got)
    assert user_list(["a", "b"], 2) == {"user_ids": ["a", "b"]}


async def test_who_already_holds_the_list_is_not_sent_it_again() -> None:
    copy, rooms = Copy(), FakeRooms()
    audience = everyone(copy, rooms)
    for number, sid in enumerate(("first", "second"), 1):
        copy.users = copy.users | {sid}
        copy.version = number
        audience.on_difference(Difference(joins=frozenset({sid})))
        rooms.connect(sid, diffs=sid == "second")
        await audience.greet(a_session(sid, sid), diffs=sid == "second")
    await broadcast(audience)
    assert [data["user_ids"] for _, data in rooms.clients["first"].got] == [["first"], ["first", "second"]]
    assert len(rooms.clients["second"].got) == 1


async def test_lists_that_are_given_while_nothing_changes_leave_nothing_behind() -> None:
    copy, rooms = Copy(), FakeRooms()
    audience = everyone(copy, rooms)
    for number in range(30):
        rooms.connect(f"tab-{number}", diffs=False)
        await audience.greet(a_session(f"tab-{number}", "ann"), diffs=False)
        rooms.disconnect(f"tab-{number}")
    assert not audience._given


async def test_who_asks_again_and_again_does_not_keep_changes_from_the_others() -> None:
    copy, rooms = Copy(), FakeRooms()
    copy.users = {f"user-{number:04}" for number in range(1000)}
    audience = Everyone(cast(Replica, copy), rooms, interval=0.01, rate=100_000, longest=5000)
    audience.on_difference(Difference(joins=frozenset(copy.users), fresh=True))
    for sid in ("curious", "other"):
        rooms.connect(sid, diffs=False)
        await audience.greet(a_session(sid, sid), diffs=False)
    task = asyncio.create_task(audience.pacer.run())

    async def ask() -> None:
        while True:
            audience._send_list(
                a_session("curious", "curious"), diffs=False
            )  # ten times what the rate allows
            await asyncio.sleep(0.01)

    asking = asyncio.create_task(ask())
    await asyncio.sleep(0)
    copy.version += 1
    audience.on_difference(Difference(joins=frozenset({"user-0000"})))
    before = len(rooms.clients["other"].got)
    async with asyncio.timeout(10):
        while len(rooms.clients["other"].got) == before:
            await asyncio.sleep(0.01)
    for each in (task, asking):
        each.cancel()
    await asyncio.gather(task, asking, return_exceptions=True)


async def test_models_in_use_are_told_on_change_only_and_to_who_was_greeted_in_between() -> None:
    copy, rooms = Copy(), FakeRooms()
    audience = UsageAudience(cast(Replica, copy), rooms, rate=1e12)

    async def greet(sid: str) -> None:
        rooms.connect(sid, diffs=False)
        rooms.enter_local(sid, "~signed-in")
        await audience.greet(sid)

    def last(sid: str) -> Any:
        return rooms.clients[sid].got[-1][1]

    await greet("early")
    assert last("early") == {"models": []}
    copy.models = {"m"}
    audience.on_difference(Difference(models_changed=True))
    await broadcast(audience)
    copy.models = set()
    audience.on_difference(Difference(models_changed=True))
    await greet("between")
    copy.models = {"m"}
    audience.on_difference(Difference(models_changed=True))
    await broadcast(audience)
    assert last("early") == last("between") == {"models": ["m"]}
    count = len(rooms.clients["early"].got)
    audience.on_difference(Difference(models_changed=True))
    await broadcast(audience)
    assert len(rooms.clients["early"].got) == count


async def test_models_beyond_the_limit_are_not_told_for_clients_make_them_up() -> None:
    """One user with 50 tabs could have 1.3 MB sent to everybody."""
    copy, rooms = Copy(), FakeRooms()
    audience = UsageAudience(cast(Replica, copy), rooms, rate=1e12)
    rooms.connect("sid", diffs=False)
    rooms.enter_local("sid", "~signed-in")
    names = [f"model-{number:04}" for number in range(MOST_MODELS + 1)]
    copy.models = set(names[:-1])
    await audience.greet("sid")
    copy.models = set(names)
    audience.on_difference(Difference(models_changed=True))
    await broadcast(audience)
    told = [payload for _event, payload in rooms.clients["sid"].got]
    assert told == [{"models": names[:-1]}, {"models": names[:-1], "truncated": True}]


@pytest.mark.parametrize("by_channels", [False, True])
def test_who_asks_for_a_list_waits_until_what_was_sent_is_paid_for(by_channels: bool) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        if by_channels:
            lab = Channels()
            await lab.start()
            rooms, audience = lab.rooms, lab.audience
        else:
            rooms = FakeRooms()
            audience = everyone(Copy(), rooms)
        rooms.connect("sid", diffs=False)
        audience.pacer.charge(10**12)  # what the rate allows in a second
        began = loop.time()
        await audience.answer(a_session("sid", "ann"))
        assert 0.9 <= loop.time() - began <= 1.1
        assert len(rooms.clients["sid"].got) == 1
        if by_channels:
            await lab.close()

    virtual_time.run(scenario())


def test_models_in_use_are_told_soon_and_not_too_often() -> None:
    async def scenario() -> None:
        copy, rooms = Copy(), FakeRooms()
        audience = UsageAudience(cast(Replica, copy), rooms, rate=1e12)
        rooms.connect("sid", diffs=False)
        rooms.enter_local("sid", "~signed-in")
        task = asyncio.create_task(audience.pacer.run())
        for number in range(100):
            copy.models = {f"model-{number}"}
            audience.on_difference(Difference(models_changed=True))
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        got = rooms.clients["sid"].got
        assert got[-1][1] == {"models": ["model-99"]}
        assert 15 <= len(got) <= 25
        task.cancel()

    virtual_time.run(scenario())


# Visibility "channels"


class Holder:
    """A lease that is simply there."""

    def __init__(self, lease: str) -> None:
        self._lease = lease

    def lease(self) -> str:
        return self._lease

    async def regain(self, lost: str) -> None:
        raise AssertionError(f"the lease {lost} is never lost here")

    def hurry(self) -> None: ...


class Channels:
    """One instance that shows only those who share a channel, and another from which users come too."""

    def __init__(self) -> None:
        self.state = MemoryState()
        self.far = {verb: getattr(self.state, verb) for verb in ("register", "unregister", "acquire")}
        self.verbs = Barriers(self.state)
        self.rooms = FakeRooms()
        self.replica = Replica(self.state, lambda difference: self.audience.on_difference(difference))
        self.sessions = LocalSessions(self.state, Holder("here"), cap=0)
        self.audience = SharedChannels(
            self.replica, self.rooms, self.state, self.sessions, interval=1, rate=1e12, longest=100
        )
        self.lanes: dict[str, asyncio.Task[None]] = {}
        self.gates: list[Gate] = []
        self.broadcasting: asyncio.Task[None] | None = None
        self.tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        await self.far["acquire"]("here", 10**9)
        await self.far["acquire"]("there", 10**9)
        self.tasks.append(asyncio.create_task(self.replica.run()))
        self.replica.want_snapshot()
        await steps()

    def lane(self, sid: str, work: Callable[[], Awaitable[None]]) -> None:
        """The work of one socket is done in order."""
        before = self.lanes.get(sid)

        async def in_order() -> None:
            if before is not None:
                await before
            await work()

        self.lanes[sid] = asyncio.create_task(in_order())

    async def connect(self, sid: str, user: str, channels: frozenset[str], *, diffs: bool) -> None:
        self.rooms.connect(sid, diffs=diffs)
        session = a_session(sid, user, channels)
        await self.sessions.register(session, None)
        await self.audience.greet(session, diffs=diffs)

    async def disconnect(self, sid: str) -> None:
        if sid in self.rooms.clients:
            self.rooms.disconnect(sid)
        await self.sessions.unregister([sid])

    async def join_channels(self, sid: str, channels: frozenset[str]) -> None:
        if (local := self.sessions.get(sid)) is not None:
            await self.sessions.register(a_session(sid, local.session.user.id, channels), None)

    async def ask(self, sid: str) -> None:
        if (local := self.sessions.get(sid)) is not None:
            with contextlib.suppress(StateUnavailable):
                await self.audience.answer(local.session, diffs=self.rooms.clients[sid].diffs)

    def broadcast(self) -> None:
        if self.broadcasting is None or self.broadcasting.done():
            self.broadcasting = asyncio.create_task(broadcast(self.audience))

    def let_go(self) -> None:
        for gate in self.gates:
            self.verbs.remove(gate)
        self.gates = []

    async def settle(self) -> None:
        self.let_go()
        await asyncio.gather(*self.lanes.values())
        for _ in range(3):
            await steps()
            self.broadcast()
            assert self.broadcasting is not None
            await self.broadcasting

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


CHANNELS = st.frozensets(st.sampled_from(["red", "blue", "tea"]), max_size=2)
SIDS = st.integers(0, 3).map(lambda number: f"sid-{number}")
SHARED_ACTIONS = st.one_of(
    st.tuples(st.just("connect"), SIDS, st.sampled_from(NAMES[:2]), CHANNELS, st.booleans()),
    st.tuples(st.just("disconnect"), SIDS),
    st.tuples(st.just("join"), SIDS, CHANNELS),
    st.tuples(st.just("ask"), SIDS),
    st.tuples(st.just("far"), st.sampled_from(NAMES[1:]), CHANNELS),
    st.tuples(st.just("far"), st.sampled_from(NAMES[1:]), st.none()),
    st.tuples(
        st.sampled_from(
            [
                "broadcast",
                "broadcast",
                "hold before",
                "hold after",
                "let go",
                "cut off",
                "steps",
                "steps",
                "epoch",
            ]
        )
    ),
)


@pytest.mark.parametrize("turn", [TURN_SECONDS, -1.0], ids=["at once", "one by one"])
@settings(max_examples=300, deadline=None)
@given(actions=st.lists(SHARED_ACTIONS, max_size=40))
def test_by_channels_everyone_ends_with_whom_it_shares_one_and_never_saw_anybody_else(
    turn: float, actions: list[tuple[Any, ...]]
) -> None:
    async def scenario() -> None:
        lab = Channels()
        await lab.start()
        ever: dict[str, set[str]] = {}  # channel -> who was ever in it

        def note(user: str, channels: frozenset[str]) -> None:
            for channel in channels:
                ever.setdefault(f"channel:{channel}", set()).add(user)

        def only_those_of_its_channels(sid: str, event: str, data: Any) -> None:
            local = lab.sessions.get(sid)
            assert local is not None
            allowed = {local.session.user.id}
            for room in lab.sessions.rooms_of(local.session.user.id):
                allowed |= ever.get(room, set())
            shown = set(data["user_ids"] if event == "user-list" else data["joins"])
            assert shown <= allowed

        lab.rooms.on_emit = only_those_of_its_channels
        for name, *arguments in actions:
            if name == "connect":
                sid, user, channels, diffs = arguments
                if sid not in lab.lanes:
                    note(user, channels)

                    async def connect(
                        sid: str = sid, user: str = user, to: frozenset[str] = channels, diffs: bool = diffs
                    ) -> None:
                        await lab.connect(sid, user, to, diffs=diffs)

                    lab.lane(sid, connect)
            elif name == "disconnect":
                lab.lane(arguments[0], lambda sid=arguments[0]: lab.disconnect(sid))
            elif name == "ask":
                lab.lane(arguments[0], lambda sid=arguments[0]: lab.ask(sid))
            elif name == "join":
                sid, channels = arguments
                for user in NAMES[:2]:
                    note(user, channels)
                lab.lane(sid, lambda sid=sid, to=channels: lab.join_channels(sid, to))
            elif name == "far":
                user, channels = arguments
                if channels is None:
                    await lab.far["unregister"]([f"far-{user}"])
                else:
                    note(user, channels)
                    await lab.far["register"]("there", [a_session(f"far-{user}", user, channels)])
            elif name == "broadcast":
                lab.broadcast()
            elif name.startswith("hold") and not lab.gates:
                when: Any = name.split()[1]
                lab.gates = [lab.verbs.hold(verb, when=when) for verb in ("room_users", "register")]
            elif name in ("let go", "cut off"):
                if name == "cut off" and lab.gates:
                    lab.gates[0].fail()
                    await steps()
                lab.let_go()
            elif name == "epoch":
                await lab.state.new_epoch((await lab.state.snapshot()).epoch)
                lab.replica.want_snapshot()
            elif name == "steps":
                await steps()
        await lab.settle()
        present = await lab.state.room_users(sorted(ever))
        for sid, client in lab.rooms.clients.items():
            local = lab.sessions.get(sid)
            assert local is not None
            user = local.session.user.id
            rooms = lab.sessions.rooms_of(user)
            assert client.users == {user}.union(*(present.get(room, frozenset()) for room in rooms))
        await lab.close()

    with mock.patch("realtime.shared_channels.TURN_SECONDS", turn):
        run(scenario)


async def test_by_channels_a_greeting_does_not_fail_and_is_made_good_when_the_state_answers_again() -> None:
    lab = Channels()
    await lab.start()
    await lab.far["register"]("there", [a_session("far", "bob", frozenset({"red"}))])
    await lab.connect("early", "ann", frozenset({"red"}), diffs=False)
    cut = lab.verbs.fail("room_users")
    for sid, diffs in (("list", False), ("diff", True)):
        await steps()
        lab.audience.pacer._nudged.clear()
        await lab.connect(sid, "ann", frozenset({"red"}), diffs=diffs)
        assert lab.rooms.clients[sid].users == {"ann"}
        assert lab.audience.pacer._nudged.is_set()
    with pytest.raises(StateUnavailable):
        await lab.audience.answer(a_session("list", "ann"))
    lab.verbs.remove(cut)
    await lab.settle()
    assert lab.rooms.clients["list"].users == lab.rooms.clients["diff"].users == {"ann", "bob"}
    await lab.close()


async def test_by_channels_nobody_waits_long_behind_a_state_that_hangs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("realtime.shared_channels.PATIENCE_SECONDS", 0.05)
    lab = Channels()
    await lab.start()
    lab.gates = [lab.verbs.hold("room_users")]
    first = asyncio.create_task(lab.connect("first", "ann", frozenset({"red"}), diffs=False))
    await lab.gates[0].waiting()
    async with asyncio.timeout(5):
        await asyncio.gather(
            *(lab.connect(f"sid-{n}", f"user-{n}", frozenset({"red"}), diffs=False) for n in range(20))
        )
    await lab.settle()
    await first
    assert all(len(client.users) == 21 for client in lab.rooms.clients.values())
    await lab.close()


def test_by_channels_a_state_that_hangs_is_waited_for_some_seconds() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        lab = Channels()
        await lab.start()
        await lab.connect("sid", "ann", frozenset({"red"}), diffs=False)
        lab.gates = [lab.verbs.hold("room_users")]
        hanging = asyncio.create_task(lab.ask("sid"))
        await lab.gates[0].waiting()
        began = loop.time()
        with pytest.raises(StateUnavailable):
            await lab.audience.answer(a_session("sid", "ann"))
        assert 1.0 <= loop.time() - began <= 5.0
        lab.let_go()
        await hanging
        await lab.close()

    virtual_time.run(scenario())


async def a_lab_with_bob_in_red() -> Channels:
    lab = Channels()
    await lab.start()
    await lab.far["register"]("there", [a_session("far", "bob", frozenset({"red"}))])
    return lab


async def test_by_channels_a_channel_left_while_the_question_was_under_way_shows_nobody_any_more() -> None:
    lab = await a_lab_with_bob_in_red()
    for sid, channels in (("one", frozenset({"red"})), ("two", frozenset[str]())):
        await lab.connect(sid, "ann", channels, diffs=False)
    await lab.settle()
    for question in (lambda: lab.ask("two"), lambda: broadcast(lab.audience)):
        await lab.join_channels("one", frozenset({"red"}))
        await lab.settle()
        for client in lab.rooms.clients.values():
            assert client.users == {"ann", "bob"}
            client.got.clear()
        lab.gates = [lab.verbs.hold("room_users", when="after")]
        lab.audience.pacer.nudge()
        asking = asyncio.create_task(question())
        await lab.gates[0].waiting()
        await lab.join_channels("one", frozenset())
        lab.let_go()
        await asking
        assert all(data["user_ids"] == ["ann"] for c in lab.rooms.clients.values() for _, data in c.got)
        await lab.settle()
        assert all(client.users == {"ann"} for client in lab.rooms.clients.values())
    await lab.close()


async def test_by_channels_new_rooms_count_although_the_news_of_them_came_before_the_answer() -> None:
    lab = await a_lab_with_bob_in_red()
    await lab.connect("sid", "ann", frozenset(), diffs=False)
    await lab.settle()
    lab.gates = [lab.verbs.hold("register", when="after")]
    joining = asyncio.create_task(lab.join_channels("sid", frozenset({"red"})))
    await lab.gates[0].waiting()
    await broadcast(lab.audience)  # what the change asked for, with the rooms of before
    lab.let_go()
    await joining
    await lab.settle()
    assert lab.rooms.clients["sid"].users == {"ann", "bob"}
    await lab.close()


async def test_by_channels_a_difference_starts_from_the_answer_given_meanwhile() -> None:
    lab = await a_lab_with_bob_in_red()
    await lab.connect("sid", "ann", frozenset({"red"}), diffs=True)
    await lab.settle()
    await lab.far["register"]("there", [a_session("far-2", "cid", frozenset({"red"}))])
    await lab.ask("sid")
    assert lab.rooms.clients["sid"].users == {"ann", "bob", "cid"}
    await lab.far["unregister"](["far-2"])
    await lab.settle()
    assert lab.rooms.clients["sid"].users == {"ann", "bob"}
    await lab.close()


async def test_by_channels_a_new_epoch_begins_with_a_whole_list() -> None:
    lab = await a_lab_with_bob_in_red()
    await lab.connect("sid", "ann", frozenset({"red"}), diffs=True)
    await lab.settle()
    lab.rooms.clients["sid"].got.clear()
    await lab.state.new_epoch((await lab.state.snapshot()).epoch)
    await lab.settle()
    (event, data) = lab.rooms.clients["sid"].got[0]
    assert (event, data["user_ids"]) == ("user-list", ["ann", "bob"])
    await lab.close()


async def test_by_channels_only_those_who_apply_differences_are_given_versions() -> None:
    lab = await a_lab_with_bob_in_red()
    for sid, diffs in (("list", False), ("diff", True)):
        await lab.connect(sid, "ann", frozenset({"red"}), diffs=diffs)
        assert ("version" in lab.rooms.clients[sid].got[0][1]) == diffs
    await lab.close()


async def test_by_channels_an_answer_waits_for_the_broadcast_that_asked_before_it() -> None:
    lab = await a_lab_with_bob_in_red()
    await lab.connect("sid", "ann", frozenset({"red"}), diffs=False)
    await lab.settle()
    lab.gates = [lab.verbs.hold("room_users", when="after")]
    lab.audience.pacer.nudge()
    lab.broadcast()
    await lab.gates[0].waiting()
    await lab.far["register"]("there", [a_session("far-2", "cid", frozenset({"red"}))])
    asking = asyncio.create_task(lab.ask("sid"))
    await steps()
    assert lab.gates[0].calls == 1
    lab.let_go()
    await asking
    assert lab.broadcasting is not None
    await lab.broadcasting
    assert lab.rooms.clients["sid"].users == {"ann", "bob", "cid"}
    await lab.close()


async def test_by_channels_who_is_gone_leaves_nothing_behind() -> None:
    lab = await a_lab_with_bob_in_red()
    await lab.connect("sid", "ann", frozenset({"red"}), diffs=False)
    await lab.settle()
    assert set(lab.audience._sent) == {"ann"}
    await lab.disconnect("sid")
    await lab.settle()
    assert not lab.audience._sent
    await lab.close()


async def turns_of(work: Coroutine[Any, Any, None]) -> int:
    """How often others have their turn of the loop before it is done."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = asyncio.create_task(count())
    await work
    counting.cancel()
    return turns


async def test_by_channels_a_broadcast_gives_way_when_it_has_taken_its_time_and_not_before() -> None:
    lab = Channels()
    await lab.start()
    for number in range(20):
        await lab.sessions.register(a_session(f"{number}", f"user-{number}", frozenset({"red"})), None)
    await steps()
    for turn, fewest, most in ((-1.0, 15, 40), (3600.0, 0, 10)):
        lab.audience.pacer.nudge()
        with mock.patch("realtime.shared_channels.TURN_SECONDS", turn):
            assert fewest <= await turns_of(broadcast(lab.audience)) <= most
    await lab.close()


async def test_by_channels_many_who_see_many_keep_nobody_from_the_loop_and_are_one_set() -> None:
    """1,000 users of 5,000 in one channel took a quarter of a gigabyte, and the loop for three seconds."""
    lab = Channels()
    await lab.start()
    crowd = [a_session(f"far-{number}", f"far-{number:030}", frozenset({"red"})) for number in range(3000)]
    await lab.far["register"]("there", crowd)
    for number in range(200):
        await lab.sessions.register(a_session(f"{number}", f"user-{number}", frozenset({"red"})), None)
    await steps()
    assert await turns_of(broadcast(lab.audience)) >= 5
    assert len(lab.audience._sent) == 200
    assert len({id(seen) for seen in lab.audience._sent.values()}) == 1
    await lab.close()


async def test_by_channels_a_broadcast_that_failed_is_still_due() -> None:
    lab = await a_lab_with_bob_in_red()
    await lab.connect("sid", "ann", frozenset({"red"}), diffs=False)
    await lab.settle()
    cut = lab.verbs.fail("room_users")
    lab.audience.pacer.nudge()
    await broadcast(lab.audience)
    lab.verbs.remove(cut)
    assert lab.audience.pacer._nudged.is_set()
    await lab.close()


async def test_by_channels_all_channels_count_however_many_questions_that_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("realtime.shared_channels.ROOMS_AT_ONCE", 1)
    lab = await a_lab_with_bob_in_red()
    await lab.far["register"]("there", [a_session("far-2", "cid", frozenset({"tea"}))])
    await lab.connect("sid", "ann", frozenset({"red", "tea"}), diffs=False)
    assert lab.rooms.clients["sid"].users == {"ann", "bob", "cid"}
    await lab.close()
