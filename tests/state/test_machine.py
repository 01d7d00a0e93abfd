"""Whatever a fleet does, in whatever order, the shared state holds what a plain model of it holds.

Time goes in large units while every duration is some units and a half, and each verb comes a tick after the one before:
how fast the machine is does not matter, and nothing happens just at an expiry (`test_verbs.py` looks at that).
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any, TypeVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine

from realtime.directory import User
from realtime.errors import LeaseLost
from realtime.state import Change, Session, Token
from tests.state.backends import KINDS, Backend, opened
from tests.state.budget import SECONDS, examples
from tests.state.model import Expected, Model

T = TypeVar("T")
UNIT = 1_000_000_000
TICK = UNIT // 1000
START = 2_000_000_000_000
TTL = 2 * UNIT + UNIT // 2
NEAR = UNIT // 4
"""Times that differ by less than this are the same: the clock went on between them."""

SIDS = [f"s{number}" for number in range(5)]
USERS = ["ann", "bob", "cléo %{}"]
ROOMS = ["channel:a", "channel:b", 'channel:"c"']
MODELS = ["gpt", "llama 3", "m\\3"]
JTIS = ["t1", "t2"]

ISSUED = [None, -UNIT // 2, *[UNIT // 2] * 3]
"""When a token was issued, counted from now: mostly after whatever its user was revoked for."""

durations = st.integers(0, 2).map(lambda units: units * UNIT + UNIT // 2)


@st.composite
def sessions(draw: st.DrawFn) -> Session:
    user = draw(st.sampled_from(USERS))
    return Session(
        sid=draw(st.sampled_from(SIDS)),
        user=User(user, user.title(), "user", ""),
        rooms=frozenset(draw(st.sets(st.sampled_from(ROOMS)))),
        jti=draw(st.sampled_from([None, None, None, *JTIS])),
        issued_at_ms=draw(st.sampled_from(ISSUED)),
    )


class Fleet(RuleBasedStateMachine):
    """Instances, sockets and time, against one shared state. Subclasses say which."""

    kind = ""
    url = ""
    prefix = ""
    numbers = itertools.count()

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.resources = AsyncExitStack()
        root = f"{{{self.prefix}-{next(self.numbers)}:realtime}}"
        self.backend: Backend = self.run(
            self.resources.enter_async_context(opened(self.kind, url=self.url, root=root))
        )
        self.state = self.backend.state
        self.model = Model(START)
        self.leases_taken = 0
        self.every_lease: list[str] = []
        self.epoch = ""
        self.version = 0
        self.applied = 0
        self.steps = 0
        self.copy: tuple[set[str], set[str]] = set(), set()

    @initialize()
    def starts_with_an_instance(self) -> None:
        self.start_instance()

    def teardown(self) -> None:
        try:
            self.everyone_leaves()
        finally:
            self.run(self.resources.aclose())
            self.runner.close()

    # Means

    def run(self, verb: Awaitable[T]) -> T:
        async def do() -> T:
            return await verb

        return self.runner.run(do())

    def ask(self, verb: Callable[[], Awaitable[T]]) -> T:
        self.model.now += TICK
        self.backend.set_time(self.model.now)
        return self.run(verb())

    def lease(self, data: st.DataObject) -> str:
        """Any of the last ones, but mostly one that can be used."""
        return data.draw(st.sampled_from(self.every_lease[-3:] + 3 * list(self.model.leases)), label="lease")

    def issued(self, some: list[Session]) -> list[Session]:
        """The sessions with tokens issued about now."""
        now = self.model.now
        return [
            replace(it, issued_at_ms=None if it.issued_at_ms is None else now + it.issued_at_ms)
            for it in some
        ]

    def announced(self, expected: Expected) -> None:
        """What was heard since the last time is what was to be announced: at most one change, of the next version."""
        self.run(self.backend.settle())
        heard = self.backend.heard.changes[self.applied :]
        self.applied += len(heard)
        assert len(heard) <= 1
        assert heard or not expected.certain
        ended: set[str] = set()
        for change in heard:
            assert (change.epoch, change.version) == (self.epoch, self.version + 1)
            assert change != Change(self.epoch, self.version + 1), "an empty change"
            self.version += 1
            assert set(change.joins) == expected.joins
            assert set(change.leaves) == expected.leaves
            assert set(change.started) == expected.started
            assert set(change.reaped) == expected.reaped
            assert set(change.revoked_tokens) == expected.revoked_tokens
            assert set(change.revoked_users) == expected.revoked_users
            assert change.rooms_changed == expected.rooms_changed
            ended = set(change.ended)
            self.replay(change)
        assert expected.must_end <= ended <= expected.must_end | expected.may_end
        self.model.ended(ended)

    def replay(self, change: Change) -> None:
        users, models = self.copy
        assert not users & set(change.joins)
        assert set(change.leaves) <= users
        assert not models & set(change.started)
        assert set(change.ended) <= models
        self.copy = (
            (users | set(change.joins)) - set(change.leaves),
            (models | set(change.started)) - set(change.ended),
        )

    # Instances

    @precondition(lambda self: len(self.model.leases) < 3)
    @rule()
    def start_instance(self) -> None:
        self.leases_taken += 1
        lease_id = f"instance {self.leases_taken}"
        self.every_lease.append(lease_id)
        lease = self.ask(lambda: self.state.acquire(lease_id, TTL))
        self.model.leases[lease_id] = self.model.now + TTL
        assert lease.id == lease_id
        assert not self.epoch or lease.epoch == self.epoch
        assert lease.version == self.version
        assert abs(lease.now_ms - self.model.now) < NEAR
        self.epoch = lease.epoch
        self.announced(Expected())

    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        self._renew(self.lease(data))

    @precondition(lambda self: self.model.leases)
    @rule()
    def all_renew(self) -> None:
        for lease in list(self.model.leases):
            self._renew(lease)

    def _renew(self, lease: str) -> None:
        renewal = self.ask(lambda: self.state.renew(lease, TTL))
        assert renewal.alive == (lease in self.model.leases)
        assert (renewal.epoch, renewal.version) == (self.epoch, self.version)
        assert renewal.sessions == len(self.model.of_lease(lease))
        if renewal.alive:
            self.model.leases[lease] = self.model.now + TTL
        self.announced(Expected())

    @precondition(lambda self: len(self.model.leases) > 1)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        lease = self.lease(data)
        self.ask(lambda: self.state.release(lease))
        self.announced(self.model.release(lease))

    @precondition(lambda self: self.model.sessions)
    @rule(limit=st.integers(0, 3))
    def reap(self, limit: int) -> None:
        reapable, before = self.model.reapable(), set(self.model.sessions)
        reaped = self.ask(lambda: self.state.reap(limit))
        left = set(self.ask(self.state.sessions))
        gone = before - left
        assert gone <= reapable
        assert reaped.sessions == len(gone) == min(limit, len(reapable))
        assert reaped.more == (len(reapable) > limit)
        self.announced(self.model.reap(left))

    @rule(units=st.integers(1, 3))
    def time_passes(self, units: int) -> None:
        self.model.now += units * UNIT

    @precondition(lambda self: self.model.sessions)
    @rule(data=st.data(), limit=st.integers(1, 2))
    def an_instance_crashes_and_is_reaped_in_parts(self, data: st.DataObject, limit: int) -> None:
        crashed = self.lease(data)
        for _ in range(3):
            self.model.now += UNIT
            for lease in self.model.leases.keys() - {crashed}:
                self._renew(lease)
        self.reap(limit)

    @precondition(lambda self: self.kind != "memory" and self.steps > 20)
    @rule()
    def redis_comes_back_empty(self) -> None:
        self.steps = 0
        self.run(self.backend.wipe())
        self.model = Model(self.model.now)
        self.epoch, self.version, self.copy = "", 0, (set(), set())
        self.backend.heard.changes.clear()
        self.applied = 0

    @precondition(lambda self: self.steps > 20 and self.epoch)
    @rule(right=st.booleans())
    def somebody_saw_versions_go_back(self, right: bool) -> None:
        seen, before = self.epoch if right else "another", self.epoch
        self.epoch = self.ask(lambda: self.state.new_epoch(seen))
        assert (self.epoch != before) == right
        self.announced(Expected(rooms_changed=right))

    # Sessions

    @rule(data=st.data(), some=st.lists(sessions(), min_size=1, max_size=4), cap=st.sampled_from([0, 2]))
    def register(self, data: st.DataObject, some: list[Session], cap: int) -> None:
        self._register(self.lease(data), self.issued(some), cap)

    def _register(self, lease: str, some: list[Session], cap: int) -> None:
        if lease not in self.model.leases:
            with pytest.raises(LeaseLost):
                self.ask(lambda: self.state.register(lease, some, cap=cap))
            self.announced(Expected())
            return
        registered = self.ask(lambda: self.state.register(lease, some, cap=cap))
        outcomes, expected = self.model.register(lease, some, cap)
        assert list(registered.outcomes) == outcomes
        self.announced(expected)
        assert (registered.epoch, registered.version) == (self.epoch, self.version)

    @rule(data=st.data(), one=sessions())
    def connect(self, data: st.DataObject, one: Session) -> None:
        """A registration as most are: one socket, a fresh token, a living instance."""
        if not self.model.leases:
            self.start_instance()
        lease = data.draw(st.sampled_from(list(self.model.leases)), label="lease")
        self._register(lease, [replace(one, jti=None, issued_at_ms=self.model.now + UNIT // 2)], 0)

    @rule(data=st.data(), more=st.data())
    def connect_two(self, data: st.DataObject, more: st.DataObject) -> None:
        for _ in range(2):
            self.connect(data, more.draw(sessions()))

    @precondition(lambda self: self.model.sessions)
    @rule(data=st.data())
    def all_register_again(self, data: st.DataObject) -> None:
        """What an instance does with its sessions under a new incarnation."""
        old, new = self.lease(data), self.lease(data)
        mine = [replace(self.model.sessions[sid], lease="") for sid in sorted(self.model.of_lease(old))]
        if not mine or new not in self.model.leases:
            return
        registered = self.ask(lambda: self.state.register(new, mine))
        outcomes, expected = self.model.register(new, mine, 0)
        assert list(registered.outcomes) == outcomes
        assert not expected.certain
        self.announced(expected)

    @precondition(lambda self: self.model.sessions)
    @rule(sids=st.lists(st.sampled_from(SIDS), max_size=2))
    def unregister(self, sids: list[str]) -> None:
        self.ask(lambda: self.state.unregister(sids))
        self.announced(self.model.unregister(sids))

    # Usage

    @precondition(lambda self: self.model.sessions)
    @rule(
        data=st.data(),
        models=st.lists(st.sampled_from(MODELS), max_size=3),
        ttl=durations,
        cap=st.just(2),
    )
    def touch(self, data: st.DataObject, models: list[str], ttl: int, cap: int) -> None:
        sid = data.draw(st.sampled_from(["gone", *5 * list(self.model.sessions)]), label="sid")
        outcome = self.ask(lambda: self.state.touch(sid, models, ttl_ms=ttl, cap=cap))
        expected_outcome, expected = self.model.touch(sid, models, ttl, cap)
        assert outcome == expected_outcome
        self.announced(expected)

    @precondition(lambda self: self.model.announced)
    @rule()
    def sweep(self) -> None:
        due = self.ask(self.state.sweep)
        expected_due, expected = self.model.sweep()
        assert (due is None) == (expected_due is None)
        assert abs((due or 0) - (expected_due or 0)) < NEAR
        self.announced(expected)
        assert self.copy[1] == self.model.in_use()

    # Tokens and locks

    @precondition(lambda self: self.steps > 10)
    @rule(jti=st.sampled_from(JTIS), lasts=durations)
    def revoke_token(self, jti: str, lasts: int) -> None:
        until = self.model.now + lasts
        self.ask(lambda: self.state.revoke_token(jti, until))
        self.model.tokens[jti] = until
        self.announced(Expected(revoked_tokens={jti}))

    @precondition(lambda self: self.steps > 10)
    @rule(user=st.sampled_from(USERS[:2]))
    def revoke_user(self, user: str) -> None:
        self.ask(lambda: self.state.revoke_user(user))
        self.model.users_revoked[user] = self.model.now
        self.announced(Expected(revoked_users={user}))

    @precondition(lambda self: self.steps > 10)
    @rule(some=st.lists(sessions(), max_size=3))
    def ask_for_revocations(self, some: list[Session]) -> None:
        tokens = [Token(session.user.id, session.jti, session.issued_at_ms) for session in self.issued(some)]
        assert self.ask(lambda: self.state.revoked(tokens)) == [self.model.is_revoked(t) for t in tokens]

    @rule(
        verb=st.sampled_from(["acquire", "acquire", "renew", "release"]),
        name=st.sampled_from(["cleanup", "cleanup", "other one"]),
        owner=st.sampled_from(["a", "a", "b"]),
        ttl=durations,
    )
    def lock(self, verb: str, name: str, owner: str, ttl: int) -> None:
        held = self.model.holds_lock(name, owner)
        if verb == "acquire":
            fence = self.ask(lambda: self.state.lock_acquire(name, owner, ttl))
            assert fence == self.model.lock_acquire(name, owner, ttl)
        elif verb == "renew":
            assert self.ask(lambda: self.state.lock_renew(name, owner, ttl)) == held
            if held:
                self.model.locks[name].expires = self.model.now + ttl
        else:
            assert self.ask(lambda: self.state.lock_release(name, owner)) == held
            if held:
                self.model.locks[name].owner = None

    # The end

    @precondition(lambda self: self.steps > 20)
    @rule()
    def everyone_leaves(self) -> None:
        """Nothing that belongs to nobody stays: neither in the answers, nor among the keys."""
        self.steps = 0
        everyone = sorted(self.model.sessions)
        self.ask(lambda: self.state.unregister(everyone))
        self.announced(self.model.unregister(everyone))
        for lease in list(self.model.leases):
            self.ask(lambda lease=lease: self.state.release(lease))  # type: ignore[misc]
            self.announced(self.model.release(lease))
        self.reap(1)
        self.sweep()
        assert self.copy == (set(), set())
        kept = {"schema", "meta", "revoked:tokens", "revoked:users", "lock:cleanup", "lock:other one"}
        assert set(self.run(self.backend.dump())) <= kept

    # What always holds

    @invariant()
    def all_answers_agree_with_the_model(self) -> None:
        self.steps += 1
        model, look = self.model, self.ask(self._look)
        assert look["leases"].keys() == model.leases.keys()
        assert all(abs(look["leases"][lease] - end) < NEAR for lease, end in model.leases.items())
        assert look["sessions"] == model.sessions
        assert look["users"] == {user: tuple(sids) for user, sids in model.order.items()}
        pooled = [sid for sids in look["users"].values() for sid in sids]
        assert sorted(pooled) == sorted(look["sessions"]), "a session is not in both pools exactly once"
        assert look["sessions_of"] == [[model.sessions[s] for s in model.order.get(u, [])] for u in USERS]
        assert look["room_users"] == {room: model.room_users(room) for room in ROOMS}
        assert all(look["instances"][lease] == model.of_lease(lease) for lease in self.every_lease[-4:])
        owners = {session.lease for session in look["sessions"].values()}
        assert owners <= model.leases.keys() | model.reaping, "a session nobody will ever reap"

        assert sorted(look["models"]) == sorted(model.in_use())
        usage = model.usage()
        assert {m: set(sids) for m, sids in look["usage"].items()} == {m: set(s) for m, s in usage.items()}
        for used, sids in usage.items():
            assert all(abs(look["usage"][used][sid] - end) < NEAR for sid, end in sids.items())

        snapshot = look["snapshot"]
        assert (snapshot.epoch, snapshot.version) == (self.epoch, self.version)
        assert (set(snapshot.users), set(snapshot.models)) == self.copy, (
            "replayed changes are not the snapshot"
        )
        assert snapshot.users == model.order.keys()
        assert model.in_use() <= snapshot.models

    async def _look(self) -> dict[str, Any]:
        state = self.state
        return {
            "leases": await state.leases(),
            "sessions": await state.sessions(),
            "users": await state.users(),
            "sessions_of": [await state.sessions_of(user) for user in USERS],
            "room_users": await state.room_users(ROOMS),
            "instances": {lease: await state.instance_sids(lease) for lease in self.every_lease[-4:]},
            "models": await state.models_in_use(),
            "usage": await state.usage(),
            "snapshot": await state.snapshot(),
        }


@pytest.mark.timeout(SECONDS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_shared_state_does_what_its_model_does(kind: str, request: pytest.FixtureRequest) -> None:
    class OneFleet(Fleet):
        pass

    OneFleet.kind = kind
    OneFleet.numbers = itertools.count()
    if kind == "redis":
        OneFleet.url = request.getfixturevalue("redis_url")
        OneFleet.prefix = request.getfixturevalue("redis_prefix")
    number = {"memory": 100, "fakeredis": 40, "redis": 25}[kind]
    run_machine(OneFleet, settings=examples(number, steps=40))
