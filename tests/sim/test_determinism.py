"""A run is a function of its seed: what the simulator owns is owned, and what it does not own is found."""

from __future__ import annotations

import asyncio
import datetime
import os
import random
import secrets
import threading
import time
import uuid
from typing import Any

import aiohttp
import jwt
import pytest

from sim.clocks import MONOTONIC_START
from sim.determinism_check import LEAK, Job, _lines, check_all, hash_of_x_elsewhere
from sim.leaks import LEAKS
from sim.world import START
from tests.sim.hosts import Hosts

kept_urandom = os.urandom
"""Taken before any world is made, as libraries take it when they are imported."""

kept_generator = random.Random()


async def draw_everything() -> list[Any]:
    own = random.Random()
    return [
        os.urandom(8),
        kept_urandom(8),
        secrets.token_hex(8),
        uuid.uuid4(),
        uuid.uuid1(),
        random.random(),
        random.randint(0, 10**9),
        random.sample(range(1000), 5),
        random.SystemRandom().random(),
        own.random(),
        kept_generator.random(),
        time.time(),
        time.monotonic(),
        time.perf_counter_ns(),
        time.localtime(),
        time.clock_gettime(time.CLOCK_REALTIME),
    ]


def drawn(seed: int, **skew: float) -> list[Any]:
    hosts = Hosts()
    for name, seconds in skew.items():
        hosts.world.nodes[name].clock_skew = seconds
    return hosts.run((hosts.a, draw_everything()), (hosts.b, draw_everything()), seed=seed)


def test_time_and_randomness_are_the_worlds() -> None:
    first, second, other = drawn(1), drawn(1), drawn(2)
    assert first == second
    randoms = slice(0, 10)
    assert not set(map(str, first[0][randoms])) & set(map(str, other[0][randoms]))
    assert not set(map(str, first[0][randoms])) & set(map(str, first[1][randoms]))


def test_the_wall_clock_is_the_hosts_and_the_others_are_the_worlds() -> None:
    a, b = drawn(1, b=5.0)
    assert (a[11], b[11]) == (START, START + 5)
    assert a[12] == b[12] == MONOTONIC_START


def test_what_one_host_draws_leaves_the_others_as_they_were() -> None:
    async def nothing() -> None:
        return None

    alone = Hosts()
    beside = Hosts()
    first = alone.run((alone.a, nothing()), (alone.b, draw_everything()), seed=3)[1]
    second = beside.run((beside.a, draw_everything()), (beside.b, draw_everything()), seed=3)[1]
    assert first[:10] == second[:10]


def test_a_token_expires_in_virtual_time() -> None:
    hosts = Hosts()

    async def use() -> str:
        token = jwt.encode(
            {"id": "ann", "exp": time.time() + 10}, "a secret of sufficient length, thirty-two"
        )
        jwt.decode(token, "a secret of sufficient length, thirty-two", algorithms=["HS256"])
        await asyncio.sleep(11)
        with pytest.raises(jwt.ExpiredSignatureError):
            jwt.decode(token, "a secret of sufficient length, thirty-two", algorithms=["HS256"])
        return "expired"

    assert hosts.run((hosts.a, use())) == ["expired"]


def test_sets_of_tasks_and_transports_are_ordered_by_number() -> None:
    hosts = Hosts()

    async def idle() -> None:
        await asyncio.sleep(1000)

    async def main() -> list[str]:
        tasks = {asyncio.ensure_future(idle()) for _ in range(100)}
        names = [task.get_name() for task in asyncio.all_tasks()]
        for task in tasks:
            task.cancel()
        return [*map(str, [hash(task) for task in tasks]), str(len(names))]

    (found,) = hosts.run((hosts.a, main()))
    assert found[:-1] == sorted(found[:-1], key=int)


def test_outside_of_a_world_everything_is_real() -> None:
    drawn(1)
    assert abs(time.time() - datetime.datetime.now(datetime.UTC).timestamp()) < 60
    assert os.urandom(16) != os.urandom(16)
    assert len({random.Random().random() for _ in range(20)}) == 20


def test_other_threads_are_not_taken_for_hosts() -> None:
    hosts = Hosts()
    slept: list[float] = []

    def real() -> None:
        time.sleep(0.05)
        slept.append(1.0)

    async def main() -> None:
        thread = threading.Thread(target=real)
        thread.start()
        while thread.is_alive():
            await asyncio.sleep(0.01)

    hosts.run((hosts.a, main()), limit=10**6)
    assert slept == [1.0]


def test_what_a_client_asks_for_does_not_depend_on_what_is_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """aiohttp offers brotli or zstd wherever it finds them."""
    monkeypatch.setattr(
        aiohttp.ClientRequest, "DEFAULT_HEADERS", {"Accept-Encoding": "gzip, deflate, br, zstd"}
    )
    job = Job("join-twice", "naive", (1,))
    said = "\n".join(_lines(job))
    assert "Accept-Encoding: gzip, deflate\\r\\n" in said
    assert "br, zstd" not in said


@pytest.mark.e2e
@pytest.mark.timeout(180)
def test_every_planted_leak_is_found_and_nothing_else_is() -> None:
    assert len(LEAKS) == 10
    here, there = hash_of_x_elsewhere()
    assert here != there
    honest = Job("user-pool-lost-update", "realtime", (1, 2))
    naive = Job("user-pool-lost-update", "naive", (1, 2))
    leaky = [Job(LEAK + name, "naive", (1,)) for name in LEAKS]
    findings = check_all([honest, naive, *leaky])
    assert {finding.scenario for finding in findings} == {LEAK + name for name in LEAKS}, "\n".join(
        map(str, findings)
    )
    assert "login" in str(findings[0])
