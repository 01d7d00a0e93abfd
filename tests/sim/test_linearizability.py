"""The verbs of the shared state, called by several instances at once over a network that delays and fails, are as if
each had happened at one moment; and the search that says so finds what is not."""

from __future__ import annotations

import asyncio
import copy
import itertools
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import redis.asyncio
from hypothesis import given
from hypothesis import strategies as st

from realtime.directory import User
from realtime.errors import LeaseLost, StateUnavailable
from realtime.link import RedisLink, SingleConnector
from realtime.state import Outcome, RedisState, Session
from sim.linearizability import Call, linearization
from sim.node import Node
from sim.schedule import JitterSchedule
from sim.simulated import SimulatedLab
from tests.state.model import Model

pytestmark = pytest.mark.explores

LONG_MS = 3_600_000
USERS = ("ann", "bob")
SIDS = ("s1", "s2", "s3")
MODELS = ("m1", "m2")
LEASES = ("lease-1", "lease-2")
OWNERS = ("one", "two")
CAP = 2

# The plain model as a pure function


def follows(model: Model, call: Call) -> Model | None:
    """The model after a call; None where its result does not follow. Every duration is too long to matter."""
    after = copy.deepcopy(model)
    expected: Any = None
    match call.verb, call.args:
        case "register", (lease, sid, user):
            if lease in after.leases:
                session = Session(sid, User(user, user, "user", ""), frozenset(), None, None, lease)
                expected = after.register(lease, [session], CAP)[0][0]
            else:
                expected = "lost"
        case "unregister", (sid,):
            after.unregister([sid])
        case "touch", (sid, name):
            expected = after.touch(sid, [name], LONG_MS, 0)[0]
        case "release", (lease,):
            after.release(lease)
        case "reap", ():
            expected = len(after.reapable())
            after.reap(set(after.sessions) - after.reapable())
        case "users", ():
            expected = {user: tuple(sids) for user, sids in after.order.items()}
        case "models_in_use", ():
            expected = sorted(after.in_use())
        case "lock_acquire", (owner,):
            expected = after.lock_acquire("l", owner, LONG_MS)
        case "lock_release", (owner,):
            expected = after.holds_lock("l", owner)
            if expected:
                after.locks["l"].owner = None
        case _:
            raise AssertionError(call)
    return after if call.returned is None or call.result == expected else None


def verbs(state: RedisState) -> dict[str, Callable[..., Awaitable[Any]]]:
    async def register(lease: str, sid: str, user: str) -> Outcome | str:
        try:
            session = Session(sid, User(user, user, "user", ""))
            return (await state.register(lease, [session], cap=CAP)).outcomes[0]
        except LeaseLost:
            return "lost"

    async def reap() -> int:
        return (await state.reap()).sessions

    async def models_in_use() -> list[str]:
        return sorted(await state.models_in_use())

    return {
        "register": register,
        "unregister": lambda sid: state.unregister([sid]),
        "touch": lambda sid, model: state.touch(sid, [model], ttl_ms=LONG_MS),
        "release": state.release,
        "reap": reap,
        "users": state.users,
        "models_in_use": models_in_use,
        "lock_acquire": lambda owner: state.lock_acquire("l", owner, LONG_MS),
        "lock_release": lambda owner: state.lock_release("l", owner),
    }


def drawn(dice: random.Random) -> tuple[str, tuple[str, ...]]:
    verb = dice.choice(
        ["register"] * 4 + ["users"] * 3 + ["unregister", "unregister", "touch", "touch", "models_in_use"]
        + ["lock_acquire", "lock_release", "release", "reap"]
    )  # fmt: skip
    choices: dict[str, tuple[tuple[str, ...], ...]] = {
        "register": (LEASES, SIDS, USERS),
        "unregister": (SIDS,),
        "touch": (SIDS, MODELS),
        "release": (LEASES,),
        "lock_acquire": (OWNERS,),
        "lock_release": (OWNERS,),
    }
    return verb, tuple(dice.choice(values) for values in choices.get(verb, ()))


class Concurrent:
    """Three hosts that call verbs at random over the simulated network, and what came of it."""

    def __init__(self, seed: int, *, faults: bool, make: Callable[[RedisLink], Any] | None = None) -> None:
        self.calls: list[Call] = []
        self._dice = random.Random(f"verbs {seed}")
        self._seed = seed
        self._faults = faults
        self._make = make or (lambda link: verbs(RedisState(link, root="{t}")))

    def run(self) -> list[Call]:
        lab = SimulatedLab(_no_app, JitterSchedule(self._seed, spread=0.004, splits=0.1))
        lab.run(self._scenario, seed=self._seed)
        return self.calls

    async def _scenario(self, lab: SimulatedLab) -> None:
        first = Node(lab.world, lab.network, "first")
        await lab.on(first, self._prepare(lab))
        hosts = [Node(lab.world, lab.network, f"host-{number}") for number in range(3)]
        work: list[Awaitable[Any]] = [
            lab.on(
                host, self._call(lab, host.name, [drawn(self._dice) for _ in range(6)], self._dice.random())
            )
            for host in hosts
        ]
        if self._faults:
            work.append(self._harm(lab))
        await lab.together(*work)

    async def _prepare(self, lab: SimulatedLab) -> None:
        link = RedisLink(SingleConnector(lab.redis.url))
        state = RedisState(link, root="{t}")
        for lease in LEASES:
            await state.acquire(lease, LONG_MS)
        await link.close()

    async def _harm(self, lab: SimulatedLab) -> None:
        for _ in range(2):
            await asyncio.sleep(self._dice.uniform(0.0, 0.02))
            if self._dice.random() < 0.5:
                lab.drop_redis_connections()
            else:
                lab.pause("redis", 0.5)

    async def _call(
        self, lab: SimulatedLab, who: str, todo: list[tuple[str, tuple[str, ...]]], seed: float
    ) -> None:
        link = RedisLink(SingleConnector(lab.redis.url, timeout=0.2), timeout=0.2)
        verb, dice = self._make(link), random.Random(seed)
        for name, args in todo:
            await asyncio.sleep(dice.uniform(0.0, 0.004))
            invoked = lab.world.now
            try:
                result = await verb[name](*args)
            except StateUnavailable:
                self.calls.append(Call(who, name, args, invoked, None))
            else:
                self.calls.append(Call(who, name, args, invoked, lab.world.now, result))
        await link.close()


def _no_app(_context: Any) -> Any:
    raise AssertionError("no instance is started here")


def start() -> Model:
    return Model(now=0, leases=dict.fromkeys(LEASES, LONG_MS))


def told(calls: list[Call]) -> str:
    return "\n".join(map(str, sorted(calls, key=lambda call: call.invoked)))


@pytest.mark.parametrize("seed", range(25))
def test_verbs_called_at_once_are_as_if_called_one_after_the_other(seed: int) -> None:
    calls = Concurrent(seed, faults=False).run()
    assert len(calls) == 18
    assert all(call.returned is not None for call in calls)
    assert linearization(calls, start(), follows) is not None, told(calls)


def test_verbs_whose_answers_were_lost_took_effect_once_or_not_at_all() -> None:
    unknown = 0
    for seed in range(25):
        calls = Concurrent(seed, faults=True).run()
        unknown += sum(call.returned is None for call in calls)
        assert linearization(calls, start(), follows) is not None, told(calls)
    assert unknown > 15, "the faults lost no answers, so this has shown nothing"


def test_the_calls_really_overlap() -> None:
    calls = Concurrent(1, faults=False).run()
    overlaps = sum(
        one.who != other.who and one.invoked < (other.returned or 0) and other.invoked < (one.returned or 0)
        for one, other in itertools.combinations(calls, 2)
    )
    assert overlaps > 5


class Racy:
    """The seed's way to keep a pool: read it, change it, write it."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link

    def verbs(self) -> dict[str, Callable[..., Awaitable[Any]]]:
        racy: dict[str, Callable[..., Awaitable[Any]]] = {"register": self.register, "users": self.users}
        return racy | dict.fromkeys(
            ["unregister", "touch", "release", "reap", "models_in_use", "lock_acquire", "lock_release"],
            self._nothing,
        )

    async def register(self, _lease: str, sid: str, user: str) -> Outcome:
        async def act(client: redis.asyncio.Redis) -> None:
            kept: Any = await client.get(user)
            sids = (kept.decode().split() if kept else []) if isinstance(kept, bytes) else []
            if sid not in sids:
                await client.set(user, " ".join([*sids, sid]))

        await self._link.run(act)
        return Outcome.OK

    async def users(self) -> dict[str, frozenset[str]]:
        async def act(client: redis.asyncio.Redis) -> dict[str, frozenset[str]]:
            kept: list[Any] = [await client.get(user) for user in USERS]
            return {
                user: frozenset(each.decode().split())
                for user, each in zip(USERS, kept, strict=True)
                if isinstance(each, bytes)
            }

        return await self._link.run(act)

    async def _nothing(self, *_args: str) -> None:
        return None


def follows_plainly(pool: frozenset[tuple[str, str]], call: Call) -> frozenset[tuple[str, str]] | None:
    if call.verb == "register":
        return pool | {call.args[1:]}
    if call.verb == "users":
        shown = {(sid, user) for user, sids in call.result.items() for sid in sids}
        return pool if shown == pool else None
    return pool


def test_a_pool_kept_by_reading_and_writing_is_found_out() -> None:
    found, empty = 0, frozenset[tuple[str, str]]()
    for seed in range(30):
        calls = Concurrent(seed, faults=False, make=lambda link: Racy(link).verbs()).run()
        found += linearization(calls, empty, follows_plainly, key=lambda pool: pool) is None
    assert found > 3


# The search itself


def register_follows(value: int, call: Call) -> int | None:
    if call.verb == "write":
        return int(call.args[0])
    return value if call.returned is None or call.result == value else None


def test_a_read_of_what_was_overwritten_before_it_began_cannot_be_explained() -> None:
    calls = [
        Call("a", "write", (1,), 0.0, 1.0),
        Call("a", "write", (2,), 2.0, 3.0),
        Call("b", "read", (), 4.0, 5.0, 1),
    ]
    assert linearization(calls, 0, register_follows) is None
    overlapping = [calls[0], calls[1], Call("b", "read", (), 2.5, 5.0, 1)]
    assert linearization(overlapping, 0, register_follows) == [overlapping[0], overlapping[2], overlapping[1]]


def test_a_write_of_unknown_outcome_may_come_late_or_never_but_not_before_it_began() -> None:
    write = Call("a", "write", (1,), 1.0, None)
    assert linearization([write, Call("b", "read", (), 5.0, 6.0, 1)], 0, register_follows) is not None
    assert linearization([write, Call("b", "read", (), 5.0, 6.0, 0)], 0, register_follows) is not None
    assert linearization([write, Call("b", "read", (), 0.0, 0.5, 1)], 0, register_follows) is None


@given(st.lists(st.tuples(st.sampled_from([None, 1, 2, 3]), st.floats(0, 5), st.floats(0, 2)), max_size=7))
def test_the_search_agrees_with_trying_every_order(given: list[tuple[int | None, float, float]]) -> None:
    dice = random.Random(repr(given))
    calls = []
    for value, at, lasts in given:
        verb, args = ("read", ()) if value is None else ("write", (value,))
        calls.append(Call("x", verb, args, at, at + lasts, dice.choice([0, 1, 2, 3])))
    assert (linearization(calls, 0, register_follows) is not None) == _by_trying(calls)


def _by_trying(calls: list[Call]) -> bool:
    return any(_explains(order) for order in itertools.permutations(calls))


def _explains(order: tuple[Call, ...]) -> bool:
    value: int | None = 0
    for number, call in enumerate(order):
        if any(later.returned is not None and later.returned < call.invoked for later in order[number + 1 :]):
            return False
        assert value is not None
        value = register_follows(value, call)
        if value is None:
            return False
    return True
