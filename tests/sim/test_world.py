"""Worlds: time, faults of hosts, reports of runs that do not end, and what is left of a world afterwards."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
import tracemalloc
import weakref
from typing import Any

import anyio
import pytest

from sim.errors import Deadlock, Livelock
from tests.sim.hosts import Hosts, Recorder

pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")


def test_time_passes_only_when_nobody_has_anything_to_do() -> None:
    hosts = Hosts()
    times: list[float] = []

    async def sleep() -> None:
        for seconds in (1.0, 0.5, 3600.0):
            await asyncio.sleep(seconds)
            for _ in range(100):
                await asyncio.sleep(0)
            times.append(hosts.world.now)

    began = time.perf_counter()
    hosts.run((hosts.a, sleep()), limit=4000)
    assert times == [1.0, 1.5, 3601.5]
    assert time.perf_counter() - began < 5


def test_a_turn_may_cost_processor_time() -> None:
    hosts = Hosts()
    hosts.a.turn_seconds = 0.25

    async def work() -> float:
        for _ in range(4):
            await asyncio.sleep(0)
        return hosts.world.now

    async def idle() -> float:
        for _ in range(4):
            await asyncio.sleep(0)
        return hosts.world.now

    assert hosts.run((hosts.a, work()), (hosts.b, idle())) == [1.0, 0.0]


def test_a_paused_host_does_nothing_and_then_finds_everything() -> None:
    hosts = Hosts()
    far = Recorder()
    hosts.b.serve(lambda: far, 7)
    ticks: list[float] = []

    async def tick() -> None:
        while True:
            await asyncio.sleep(0.1)
            ticks.append(round(hosts.world.now, 3))

    async def send() -> None:
        _, writer = await asyncio.open_connection("b", 7)
        await asyncio.sleep(0.25)
        hosts.b.pause(10)
        writer.write(b"meanwhile")
        await asyncio.sleep(9.9)
        assert not far.data
        await asyncio.sleep(0.2)
        assert far.data == b"meanwhile"

    hosts.b.spawn(tick())
    hosts.run((hosts.a, send()))
    assert ticks[:3] == [0.1, 0.2, 10.251]


def test_nothing_of_a_killed_host_runs_again(caplog: pytest.LogCaptureFixture, capsys: Any) -> None:
    hosts = Hosts()
    traces: list[str] = []

    async def victim() -> None:
        try:
            async with asyncio.timeout(1):
                await asyncio.sleep(1000)
        except BaseException as error:
            traces.append(repr(error))
            raise
        finally:
            traces.append("finally")
            await asyncio.sleep(0)
            traces.append("and after")

    async def blocked() -> None:
        try:
            time.sleep(1000)  # noqa: ASYNC251
        finally:
            traces.append("unblocked")

    async def kill() -> None:
        await asyncio.sleep(0.5)
        hosts.network.crash(hosts.a)
        hosts.network.crash(c)
        await asyncio.sleep(2000)
        gc.collect()
        assert not traces

    c = hosts.host("c")
    hosts.a.spawn(victim())
    c.spawn(blocked())
    with caplog.at_level(logging.DEBUG):
        hosts.run((hosts.b, kill()))
    assert not [
        record for record in caplog.records if record.name == "asyncio" and "selector" not in record.msg
    ]
    assert capsys.readouterr() == ("", "")


def test_the_end_of_a_world_is_quiet_whatever_was_going_on(
    caplog: pytest.LogCaptureFixture, capsys: Any
) -> None:
    async def stubborn() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            await asyncio.sleep(1)

    async def never_started() -> None:
        return None

    async def fails() -> None:
        raise ValueError("nobody asks for this")

    async def generate() -> Any:
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(1)

    async def leave_a_generator() -> None:
        async for _ in generate():
            await asyncio.sleep(1000)

    async def main() -> None:
        for work in (stubborn, fails, leave_a_generator):
            hosts.a.spawn(work())
        await asyncio.sleep(1)
        asyncio.get_running_loop().create_task(never_started())
        hosts.a.deliver(lambda: None)

    hosts = Hosts()
    with caplog.at_level(logging.INFO):
        hosts.run((hosts.b, main()))
    assert not caplog.records
    assert capsys.readouterr() == ("", "")


def test_a_process_that_exits_is_gone_and_the_run_goes_on() -> None:
    hosts = Hosts()
    hosts.b.serve(Recorder, 7)

    async def leave() -> None:
        await asyncio.sleep(1)
        raise SystemExit("no reason")

    async def look() -> str:
        reader, _ = await asyncio.open_connection("b", 7)
        assert await reader.read() == b""
        return str(hosts.world.now)

    hosts.b.spawn(leave())
    assert hosts.run((hosts.a, look())) == ["1.0005"]
    assert not hosts.b.alive
    assert "no reason" in hosts.b.errors[-1]


def test_an_abandoned_generator_is_closed_on_its_own_host() -> None:
    hosts = Hosts()
    closed: list[str] = []

    async def generate() -> Any:
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0.1)
            closed.append("closed")

    async def abandon() -> None:
        async for _ in generate():
            break
        await asyncio.sleep(1)

    hosts.run((hosts.a, abandon()))
    assert closed == ["closed"]


def test_a_deadlock_says_who_waits_for_what() -> None:
    hosts = Hosts()
    hosts.b.serve(Recorder, 7)

    async def wait_for_an_answer() -> None:
        reader, writer = await asyncio.open_connection("b", 7)
        writer.write(b"question")
        await reader.readexactly(1)

    async def wait_for_ever() -> None:
        time.sleep(10**9)  # noqa: ASYNC251

    hosts.host("c").spawn(wait_for_ever(), name="sleeper")
    with pytest.raises(Deadlock) as caught:
        hosts.run((hosts.a, wait_for_an_answer()), limit=100)
    text = str(caught.value)
    assert "not done after 100 virtual seconds" in text
    assert "wait_for_an_answer" in text
    assert "readexactly" in text
    assert "c is blocked: time.sleep(1e+09), until" in text


def test_a_deadlock_names_cut_links_and_what_they_lost() -> None:
    hosts = Hosts()
    hosts.b.serve(Recorder, 7)

    async def send() -> None:
        reader, writer = await asyncio.open_connection("b", 7)
        hosts.network.cut("a", "b")
        writer.write(b"lost")
        await reader.read()

    with pytest.raises(Deadlock) as caught:
        hosts.run((hosts.a, send()), limit=100)
    assert "a and b are cut off from each other" in str(caught.value)
    assert "a→b: 1 messages lost so far, from a→b #2 on" in str(caught.value)


def test_nothing_left_to_happen_is_a_deadlock_at_once() -> None:
    hosts = Hosts()

    async def wait() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Deadlock, match="nothing is left to happen") as caught:
        hosts.run((hosts.a, wait()))
    assert "a: " in caught.value.waiting
    assert "wait" in caught.value.waiting


def test_going_on_while_time_stands_still_is_a_livelock() -> None:
    hosts = Hosts()

    async def spin() -> None:
        while True:
            await asyncio.sleep(0)

    with pytest.raises(Livelock, match="a goes on and on"):
        hosts.run((hosts.a, spin()))


def test_waiting_by_looking_at_the_clock_takes_virtual_time() -> None:
    hosts = Hosts()

    async def spin() -> float:
        deadline = time.monotonic() + 0.05
        while time.monotonic() < deadline:
            pass
        return hosts.world.now

    async def sleep() -> float:
        await asyncio.sleep(0.01)
        return hosts.world.now

    spun, slept = hosts.run((hosts.a, spin()), (hosts.b, sleep()))
    assert spun >= 0.05
    assert slept == 0.01


def test_worlds_leave_nothing_behind() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data)

    async def serve() -> None:
        await asyncio.start_server(echo, "b", 7)

    async def talk() -> None:
        reader, writer = await asyncio.open_connection("b", 7)
        for _ in range(10):
            writer.write(b"x" * 1000)
            await reader.readexactly(1000)

    async def blocked() -> None:
        time.sleep(1000)  # noqa: ASYNC251

    def one() -> weakref.ref[Any]:
        hosts = Hosts()
        hosts.b.spawn(serve())
        hosts.host("c").spawn(blocked())
        hosts.run((hosts.b, asyncio.sleep(0.1)), (hosts.a, talk()))
        return weakref.ref(hosts.world)

    for _ in range(5):
        one()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        worlds = [one() for _ in range(100)]
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert sum(world() is not None for world in worlds) <= 1
    assert grown < 500_000


@pytest.mark.parametrize("inside", [True, False], ids=["in a world", "in a process that has had one"])
def test_cancel_scopes_may_be_nested(inside: bool) -> None:
    """What keeps their sets in order holds for all of the process, and they have no room for a number."""

    async def nest() -> int:
        with anyio.CancelScope() as outer, anyio.CancelScope(), anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as group:
                for _ in range(5):
                    group.start_soon(asyncio.sleep, 0.001)
            return len(outer._child_scopes)  # type: ignore[attr-defined]

    hosts = Hosts()
    assert hosts.run((hosts.a, nest() if inside else asyncio.sleep(0.001, 1))) == [1]
    if not inside:
        assert asyncio.run(nest()) == 1
