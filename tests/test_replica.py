"""An instance's copy converges whatever becomes of the news, and never goes back."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import realtime.replica
from realtime.errors import StateUnavailable
from realtime.replica import Difference, Replica
from realtime.state import Change, Snapshot, State
from tests.support import virtual_time

SETTLE_SECONDS = realtime.replica.SETTLE_SECONDS


@dataclass
class Truth:
    """What stands in Redis, as far as a copy can see it: snapshots may be held, and versions may go back."""

    epoch: str = "epoch-0"
    version: int = 0
    users: frozenset[str] = frozenset()
    models: frozenset[str] = frozenset()
    channel: list[Change] = field(default_factory=list)
    past: list[tuple[str, int, frozenset[str], frozenset[str]]] = field(default_factory=list)
    answers: list[asyncio.Future[None]] = field(default_factory=list)
    holding: bool = False
    epochs: int = 0
    failures: list[Exception] = field(default_factory=list)
    snapshots: int = 0
    apply: Callable[[Change], None] = lambda _change: None
    ready: Callable[[], None] = lambda: None

    def listen(self, apply: Callable[[Change], None], ready: Callable[[], None]) -> None:
        self.apply, self.ready = apply, ready

    async def snapshot(self) -> Snapshot:
        self.snapshots += 1
        if self.failures:
            raise self.failures.pop(0)
        snapshot = Snapshot(self.epoch, self.version, self.users, self.models)
        if self.holding:
            self.answers.append(asyncio.get_running_loop().create_future())
            await self.answers[-1]
        return snapshot

    async def new_epoch(self, seen: str) -> str:
        if self.epoch == seen:
            self.begin_epoch()
        return self.epoch

    def begin_epoch(self) -> None:
        self.epochs += 1
        self.epoch = f"epoch-{self.epochs}"
        self.publish(rooms_changed=True)

    def publish(self, **difference: Any) -> None:
        self.past.append((self.epoch, self.version, self.users, self.models))
        self.version += 1
        self.channel.append(Change(self.epoch, self.version, **difference))

    def toggle(self, user: str) -> None:
        joins, leaves = ((), (user,)) if user in self.users else ((user,), ())
        self.publish(joins=joins, leaves=leaves)
        self.users = self.users ^ {user}

    def toggle_model(self, model: str) -> None:
        started, ended = ((), (model,)) if model in self.models else ((model,), ())
        self.publish(started=started, ended=ended)
        self.models = self.models ^ {model}

    def restart(self) -> None:
        self.epoch, self.version, self.users, self.models = "", 0, frozenset(), frozenset()
        self.reconnect()

    def roll_back(self, by: int) -> None:
        """A replica takes over that missed the last writes; connections break."""
        if by <= len(self.past):
            self.epoch, self.version, self.users, self.models = self.past[-by]
            del self.past[-by:]
        self.reconnect()

    def reconnect(self) -> None:
        self.channel.clear()
        self.ready()

    def answer(self) -> None:
        if self.answers and not (oldest := self.answers.pop(0)).done():
            oldest.set_result(None)


async def steps() -> None:
    """Lets everything that can go on do so."""
    for _ in range(8):
        await asyncio.sleep(0)


def a_copy(truth: Truth, on_difference: Callable[[Difference], None] = lambda _difference: None) -> Replica:
    return Replica(cast(State, truth), on_difference)


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await scenario()

    asyncio.run(bounded())


USERS = st.sampled_from(["ann", "bob", "cid"])
ACTIONS = st.one_of(
    st.tuples(st.just("toggle"), USERS),
    st.tuples(st.just("toggle"), USERS),
    st.tuples(st.just("toggle_model"), st.sampled_from(["m", "n"])),
    st.tuples(st.sampled_from(["deliver", "deliver", "drop", "duplicate", "swap"])),
    st.tuples(st.sampled_from(["want", "hold", "answer", "steps", "renew", "fail"])),
    st.tuples(st.sampled_from(["reconnect", "restart", "begin_epoch"])),
    st.tuples(st.just("roll_back"), st.integers(1, 4)),
)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(realtime.replica, "SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(realtime.replica.random, "uniform", lambda _low, _high: 0.0)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(ACTIONS, max_size=40))
def test_whatever_is_lost_repeated_or_reordered_the_copy_ends_as_the_truth_and_never_goes_back(
    actions: list[tuple[Any, ...]],
) -> None:
    async def scenario() -> None:
        truth = Truth()
        positions: list[tuple[str, int]] = []
        states: defaultdict[tuple[str, int], set[Any]] = defaultdict(set)
        told: list[frozenset[str]] = [frozenset()]

        def on_difference(difference: Difference) -> None:
            positions.append(copy.position)
            told.append((told[-1] | difference.joins) - difference.leaves)

        copy = a_copy(truth, on_difference)
        task = asyncio.create_task(copy.run())
        truth.ready()
        mixed = False  # after a rollback, newer changes may meet a copy of older times until the snapshot
        for name, *arguments in actions:
            if name in ("toggle", "toggle_model"):
                if not truth.epoch:
                    truth.begin_epoch()  # who writes has a lease, and with it there is an epoch
                getattr(truth, name)(*arguments)
            elif name == "roll_back":
                mixed = True
                truth.roll_back(*arguments)
            elif name in ("reconnect", "restart", "begin_epoch", "answer"):
                getattr(truth, name)()
            elif name == "want":
                copy.want_snapshot()
            elif name == "hold":
                truth.holding = not truth.holding
            elif name == "fail":
                truth.failures.append(StateUnavailable("not now"))
            elif name == "steps":
                await steps()
            elif name == "renew":
                copy.check(truth.epoch, truth.version, asked_at=copy.position)
            elif truth.channel:
                which = 1 if name == "swap" and len(truth.channel) > 1 else 0
                change = truth.channel[which] if name == "duplicate" else truth.channel.pop(which)
                if name != "drop":
                    truth.apply(change)
            states[truth.epoch, truth.version].add((truth.users, truth.models))
            assert told[-1] == copy.users  # differences add up
            if not mixed and copy.epoch and copy.position in states:
                assert (frozenset(copy.users), frozenset(copy.models)) in states[copy.position]
        # Healed: news come through, answers come, and the lease is renewed now and then.
        truth.holding, truth.failures = False, []
        if not truth.epoch:
            truth.begin_epoch()
        for _ in range(2):
            while truth.answers:
                truth.answer()
            await steps()
            while truth.channel:
                truth.apply(truth.channel.pop(0))
            await steps()
            copy.check(truth.epoch, truth.version, asked_at=copy.position)
            await asyncio.sleep(0.001)
            await steps()
        assert copy.position == (truth.epoch, truth.version)
        assert (copy.users, copy.models) == (truth.users, truth.models)
        assert told[-1] == truth.users
        for (epoch, version), (next_epoch, next_version) in itertools.pairwise(positions):
            assert epoch != next_epoch or version <= next_version
        assert not copy._pending
        task.cancel()

    run(scenario)


def test_a_gap_asks_for_a_snapshot_and_what_came_early_is_applied_after_it() -> None:
    async def scenario() -> None:
        truth = Truth()
        copy = a_copy(truth)
        task = asyncio.create_task(copy.run())
        truth.ready()
        await steps()
        for user in ("ann", "bob", "cid"):
            truth.toggle(user)
        truth.holding = True
        truth.apply(truth.channel[1])  # the first is lost: a snapshot is on its way
        await steps()
        truth.toggle("dan")
        truth.toggle("eve")
        for change in truth.channel[2:]:
            truth.apply(change)
        assert copy.users == set()
        truth.answer()
        await steps()
        assert copy.users == {"ann", "bob", "cid", "dan", "eve"}
        assert copy.counts["gap"] == 4
        task.cancel()

    run(scenario)


def test_changes_that_came_in_the_wrong_order_are_applied_in_the_right_one_before_any_snapshot() -> None:
    async def scenario() -> None:
        truth = Truth()
        copy = a_copy(truth)
        task = asyncio.create_task(copy.run())
        truth.ready()
        await steps()
        truth.holding = True
        truth.toggle("ann")
        truth.toggle("bob")
        truth.toggle("cid")
        truth.apply(truth.channel[2])
        truth.apply(truth.channel[0])
        assert copy.users == {"ann"}
        truth.apply(truth.channel[1])
        assert copy.users == {"ann", "bob", "cid"}
        assert not copy._pending
        task.cancel()

    run(scenario)


def test_what_came_early_is_kept_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(realtime.replica, "MOST_PENDING", 3)

    async def scenario() -> None:
        truth = Truth()
        copy = a_copy(truth)
        for number in range(10):
            truth.toggle(f"user-{number}")
            truth.apply(truth.channel[-1])
            assert len(copy._pending) == number % 3 + 1

    run(scenario)


def test_versions_that_went_back_begin_a_new_epoch_once_for_all_who_noticed() -> None:
    async def scenario() -> None:
        truth = Truth()
        copies = [a_copy(truth), a_copy(truth)]
        tasks = [asyncio.create_task(copy.run()) for copy in copies]
        for user in ("ann", "bob", "cid"):
            truth.toggle(user)
        for copy in copies:
            copy.want_snapshot()
        await steps()
        truth.roll_back(2)
        for copy in copies:
            copy.want_snapshot()
        await steps()
        assert truth.epochs == 1
        for copy in copies:
            assert copy.users == {"ann"}
            assert copy.epoch == truth.epoch
        for task in tasks:
            task.cancel()

    run(scenario)


def test_an_empty_redis_is_not_taken_for_everybodys_leave() -> None:
    async def scenario() -> None:
        truth = Truth()
        copy = a_copy(truth)
        task = asyncio.create_task(copy.run())
        truth.toggle("ann")
        truth.ready()
        await steps()
        assert copy.users == {"ann"}
        truth.restart()
        await steps()
        assert copy.users == {"ann"}
        truth.begin_epoch()
        truth.toggle("bob")
        copy.want_snapshot()
        await steps()
        assert copy.users == {"bob"}
        task.cancel()

    run(scenario)


@pytest.mark.parametrize("failure", [StateUnavailable("no"), ValueError("nobody foresaw this")])
def test_a_snapshot_that_failed_is_still_wanted(failure: Exception) -> None:
    async def scenario() -> None:
        truth = Truth(failures=[failure])
        copy = a_copy(truth)
        truth.toggle("ann")
        copy.want_snapshot()
        for _ in range(2):  # a supervisor starts it again
            task = asyncio.create_task(copy.run())
            await steps()
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert copy.users == {"ann"}

    run(scenario)


def test_waiting_for_a_version_ends_when_it_is_reached_or_jumped_over_and_leaves_nothing() -> None:
    async def scenario() -> None:
        truth = Truth()
        copy = a_copy(truth)
        task = asyncio.create_task(copy.run())
        truth.ready()
        await steps()
        one = asyncio.create_task(copy.wait_for(truth.epoch, 1, 10))
        three = asyncio.create_task(copy.wait_for(truth.epoch, 3, 10))
        other_epoch = asyncio.create_task(copy.wait_for("epoch-1", 4, 10))
        await steps()
        for user in ("ann", "bob", "cid"):
            truth.toggle(user)
        truth.apply(truth.channel[0])
        await steps()
        assert one.done()
        assert await one
        assert not three.done()
        copy.want_snapshot()
        await steps()
        assert await three
        assert not await copy.wait_for(truth.epoch, 99, 0.001)
        assert not other_epoch.done()
        truth.begin_epoch()
        copy.want_snapshot()
        assert await other_epoch
        assert not copy._waiting
        task.cancel()

    run(scenario)


def test_a_snapshot_older_than_the_changes_that_overtook_it_is_left_aside() -> None:
    async def scenario() -> None:
        truth = Truth()
        versions: list[int] = []
        copy = a_copy(truth, lambda _difference: versions.append(copy.version))
        task = asyncio.create_task(copy.run())
        truth.ready()
        await steps()
        truth.holding = True
        copy.want_snapshot()
        await steps()
        truth.toggle("ann")
        truth.apply(truth.channel.pop())
        truth.answer()
        await steps()
        assert copy.users == {"ann"}
        assert versions == sorted(versions)
        task.cancel()

    run(scenario)


def test_a_change_of_times_that_were_taken_back_is_never_applied_and_asks_for_no_snapshots_for_ever() -> None:
    async def scenario() -> None:
        truth = Truth()
        copy = a_copy(truth)
        task = asyncio.create_task(copy.run())
        truth.ready()
        await steps()
        for user in ("ann", "bob", "cid"):
            truth.toggle(user)
        early = truth.channel[2]
        truth.roll_back(3)
        truth.apply(early)  # it was on its way, and what it follows on is lost
        await steps()
        truth.toggle("dan")
        truth.toggle("eve")
        while truth.channel:
            truth.apply(truth.channel.pop(0))
        await steps()
        count = truth.snapshots
        await steps()
        assert truth.snapshots == count
        assert (copy.users, copy.epoch) == ({"dan", "eve"}, truth.epoch)
        task.cancel()

    run(scenario)


def test_news_that_a_renewal_shows_to_be_missing_have_a_moment_to_arrive_before_a_snapshot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(realtime.replica, "SETTLE_SECONDS", SETTLE_SECONDS)

    async def scenario() -> None:
        truth = Truth()
        copy = a_copy(truth)
        task = asyncio.create_task(copy.run())
        truth.ready()
        await steps()
        for lost in (False, True):
            count = truth.snapshots
            truth.toggle("ann")
            copy.check(truth.epoch, truth.version, asked_at=copy.position)
            await asyncio.sleep(0.1)
            assert truth.snapshots == count
            if not lost:
                truth.apply(truth.channel.pop())
            await asyncio.sleep(0.2)
            assert truth.snapshots == count + lost
            assert copy.users == truth.users
        assert copy.counts["lost"] == 1
        task.cancel()

    virtual_time.run(scenario())


@pytest.mark.parametrize("end", [0, 1])
def test_a_snapshot_that_failed_is_asked_for_again_soon_but_not_at_once_and_is_warned_of_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, end: int
) -> None:
    monkeypatch.setattr(realtime.replica.random, "uniform", lambda *ends: ends[end])

    async def scenario() -> None:
        truth = Truth(failures=[StateUnavailable("no")] * 3)
        copy = a_copy(truth)
        task = asyncio.create_task(copy.run())
        truth.ready()
        began = asyncio.get_running_loop().time()
        assert await copy.synchronised(10)
        assert 3 * 0.08 <= asyncio.get_running_loop().time() - began <= 3 * 0.35
        task.cancel()

    with caplog.at_level(logging.WARNING):
        virtual_time.run(scenario())
    assert [record.message for record in caplog.records] == ["no snapshot of the shared state: no"]


def test_versions_that_went_back_and_caught_up_before_anybody_looked_are_noticed() -> None:
    async def scenario() -> None:
        truth = Truth()
        copy = a_copy(truth)
        task = asyncio.create_task(copy.run())
        truth.ready()
        await steps()
        for user in ("ann", "bob", "cid"):
            truth.toggle(user)
            truth.apply(truth.channel.pop())
        truth.epoch, truth.version, truth.users, truth.models = truth.past[1]  # and no connection broke
        for user in ("dan", "eve", "fay"):
            truth.toggle(user)
        truth.apply(truth.channel[0])
        await steps()
        assert copy.users == {"ann", "dan", "eve", "fay"}
        task.cancel()

    run(scenario)


def test_a_renewal_that_shows_another_epoch_or_an_older_version_leads_to_a_snapshot_at_once() -> None:
    async def scenario() -> None:
        truth = Truth()
        copy = a_copy(truth)
        task = asyncio.create_task(copy.run())
        truth.toggle("ann")
        truth.ready()
        await steps()
        assert truth.snapshots == 1
        for epoch, version in ((truth.epoch, 1), ("another", 1), (truth.epoch, 0)):
            before = truth.snapshots
            copy.check(epoch, version, asked_at=copy.position)
            await steps()
            assert truth.snapshots == before + ((epoch, version) != (truth.epoch, 1))
        task.cancel()

    run(scenario)


def test_waiting_ends_in_vain_after_its_time() -> None:
    async def scenario() -> None:
        truth, loop = Truth(), asyncio.get_running_loop()
        copy = a_copy(truth)
        began = loop.time()
        assert not await copy.synchronised(5)
        assert not await copy.wait_for("epoch-0", 1, 5)
        assert loop.time() - began == pytest.approx(10)

    virtual_time.run(scenario())


def test_a_snapshot_says_what_it_changed_and_what_may_have_been_missed() -> None:
    async def scenario() -> None:
        truth = Truth()
        told: list[Difference] = []
        copy = a_copy(truth, told.append)
        task = asyncio.create_task(copy.run())

        async def seen() -> Difference:
            truth.channel.clear()
            copy.want_snapshot()
            await steps()
            return told[-1]

        ann, nobody = frozenset({"ann"}), frozenset[str]()
        truth.toggle("ann")
        assert await seen() == Difference(ann, nobody, rooms_changed=True, fresh=True, missed=True)
        assert await seen() == Difference()
        truth.toggle_model("m")
        assert await seen() == Difference(models_changed=True, rooms_changed=True, missed=True)
        truth.begin_epoch()
        assert await seen() == Difference(rooms_changed=True, fresh=True, missed=True)
        assert len(told) == copy.counts["snapshot"] == 4
        task.cancel()

    run(scenario)


def test_how_late_joins_and_leaves_are_applied_is_measured_from_when_they_were_made() -> None:
    async def scenario() -> None:
        truth = Truth()
        copy = Replica(cast(State, truth), lambda _difference: None, now=lambda: 1000.0)
        task = asyncio.create_task(copy.run())
        truth.ready()
        await steps()
        truth.toggle("ann")
        copy.apply(replace(truth.channel.pop(), at_ms=999_980))
        truth.toggle_model("m")  # says nothing of presence
        copy.apply(replace(truth.channel.pop(), at_ms=0))
        truth.toggle("ann")
        late = truth.channel.pop()
        truth.toggle("bob")
        copy.apply(replace(truth.channel.pop(), at_ms=1_000_001))  # a clock that is a little behind
        assert sum(copy.lag.counts) == 1, "it waits for the one before it"
        copy.apply(replace(late, at_ms=998_000))
        assert sum(copy.lag.counts) == 3
        assert copy.lag.sum == pytest.approx(0.02 + 2.0 + 0.0)
        task.cancel()

    run(scenario)


def test_a_change_says_whether_models_are_others_than_before() -> None:
    async def scenario() -> None:
        truth = Truth()
        told: list[Difference] = []
        copy = a_copy(truth, told.append)
        task = asyncio.create_task(copy.run())
        truth.ready()
        await steps()
        for happens in ("toggle_model", "toggle", "toggle_model"):
            getattr(truth, happens)("x")
            truth.apply(truth.channel.pop())
            assert told[-1].models_changed == (happens == "toggle_model")
            assert copy.models == truth.models
        task.cancel()

    run(scenario)
