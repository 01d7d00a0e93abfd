"""The lab of processes: small scenarios have the same history as in the simulator, and each fault takes effect."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import redis

from sim.errors import NotStarted, SimulatorError, Unreachable
from sim.history import Entry
from sim.lab import Lab
from sim.processes.hosts import ask_redis
from sim.processes.lab import ProcessLab
from sim.processes.nursery import Nursery
from sim.processes.redis import RedisServer
from sim.schedule import PlainSchedule
from sim.simulated import SimulatedLab
from sim.targets import load

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.filterwarnings("ignore:[Uu]nclosed:ResourceWarning"),
]

LONG = 10.0
Scenario = Callable[[Any], Coroutine[Any, Any, None]]
Live = Callable[..., ProcessLab]


async def talk(lab: Lab) -> None:
    await lab.start("api-1", "api-2")
    ann = await lab.connect("ann-1", "ann", "api-1")
    await lab.until(lambda: lab.checks.online(ann) == {"ann"}, LONG, "ann's list")
    bob = await lab.connect("bob-1", "bob", "api-2", transport="polling")
    await lab.until(lambda: lab.checks.online(ann) == {"ann", "bob"}, LONG, "the list with bob")
    await lab.until(lambda: lab.checks.online(bob) == {"ann", "bob"}, LONG, "bob's list")
    await lab.call(ann, "channel-events", {"channel_id": "general", "data": {"type": "typing", "mark": "hi"}})
    await lab.until(lambda: lab.checks.heard(bob, "channel-events"), LONG, "what ann said")
    await lab.until(lambda: lab.checks.heard(ann, "channel-events"), LONG, "what ann said, at hers")
    await lab.close(bob)
    await lab.until(lambda: lab.checks.online(ann) == {"ann"}, LONG, "the list without bob")


async def be_asked(lab: Lab) -> None:
    await lab.start("api-1")
    tab = lab.client("ann-1")
    tab.answer = lambda data: {"answer to": data["data"]["type"]}
    await lab.connect_again(tab, "ann", "api-1")
    info = {"user_id": "ann", "session_id": tab.sid}
    status, answer = await lab.knock("api-1", "call", {"request_info": info, "event": {"type": "ask"}})
    assert (status, answer) == (200, {"result": {"answer to": "ask"}})
    status, answer = await lab.knock("api-1", "room", name="channel:general")
    assert (status, answer) == (200, {"result": ["ann"]})


async def be_turned_away(lab: Lab) -> None:
    await lab.start("api-1")
    raw = lab.raw("bob-1")
    assert await lab.connect_raw(raw, "bob", "api-1")
    await lab.do(raw, raw.client.emit("usage", {"model": "m"}))
    await lab.until(lambda: lab.checks.count("bob-1", "usage"), LONG, "the model in use")
    await lab.do(raw, raw.client.vanish())
    lab.crash("api-1")
    assert not await lab.connect_raw(raw, "bob", "api-1")
    status, _answer = await lab.knock("api-1", "models")
    assert status == 0


def gist(entries: list[Entry]) -> dict[str, list[tuple[str, str]]]:
    """What each client did and saw, without times and ids; lists and usage come as often as they like."""
    found: dict[str, list[tuple[str, str]]] = {}
    for entry in entries:
        seen = (entry.what, entry.name)
        if entry.name in ("user-list", "usage") and entry.what == "event":
            continue
        if entry.what == "refused":
            seen = (entry.what, "")  # in whose words depends on the kernel
        if entry.who == "lab" or ((mine := found.setdefault(entry.who, [])) and mine[-1] == seen):
            continue
        mine.append(seen)
    return found


@pytest.mark.parametrize("target", ["naive", "realtime"])
@pytest.mark.parametrize("scenario", [talk, be_asked, be_turned_away])
def test_a_small_scenario_has_the_same_history_in_both_labs(
    live: Live, scenario: Scenario, target: str
) -> None:
    simulated = SimulatedLab(load(target), PlainSchedule())
    simulated.run(scenario, seed=1)
    real = live(scenario, target)
    assert gist(real.history.entries) == gist(simulated.history.entries)
    assert real.actions == simulated.actions


# Faults


def test_a_crash_kills_the_process_and_it_can_be_started_again(live: Live) -> None:
    async def scenario(lab: ProcessLab) -> None:
        await lab.start("api-1")
        tab = await lab.connect("ann-1", "ann", "api-1")
        before = lab.instances["api-1"].pid
        lab.crash("api-1")
        assert lab.instances["api-1"].returncode == -9
        assert lab.instances["api-1"].ended
        assert not lab.steady("api-1", lab.now)
        await lab.until(lambda: tab.sid is None, LONG, "the end of the connection")
        await lab.start("api-1")
        assert lab.instances["api-1"].pid != before
        assert lab.instances["api-1"].running
        assert await lab.connect_again(tab, "ann", "api-1")

    live(scenario)


def test_a_silent_crash_is_noticed_by_nobody(live: Live) -> None:
    async def scenario(lab: ProcessLab) -> None:
        await lab.start("api-1")
        tab = await lab.connect("ann-1", "ann", "api-1")
        lab.crash("api-1", silent=True)
        await lab.sleep(0.3)
        assert lab.instances["api-1"].ended
        assert tab.sid

    live(scenario)


def test_a_paused_instance_answers_when_it_goes_on(live: Live) -> None:
    async def scenario(lab: ProcessLab) -> None:
        await lab.start("api-1")
        began = lab.now
        lab.pause("api-1", 0.5)
        assert lab.healed_at >= began + 0.5
        assert not lab.steady("api-1", began)
        status, _answer = await lab.knock("api-1", "models")
        assert status == 200
        assert lab.now - began >= 0.5
        assert lab.stalls() == pytest.approx(0.5, abs=0.05)
        assert lab.steady("api-1", lab.healed_at)

    live(scenario)


def test_a_paused_redis_answers_when_it_goes_on(live: Live) -> None:
    async def scenario(lab: ProcessLab) -> None:
        await lab.start("api-1")
        began = lab.now
        lab.pause("redis", 0.5)
        await lab.knock("api-1", "models")
        assert lab.now - began >= 0.5

    live(scenario)


def test_an_instance_that_is_told_to_end_ends_by_itself(live: Live) -> None:
    async def scenario(lab: ProcessLab) -> None:
        await lab.start("api-1")
        tab = await lab.connect("ann-1", "ann", "api-1")
        lab.terminate("api-1")
        await lab.until(lambda: lab.instances["api-1"].ended, LONG, "its end")
        assert lab.instances["api-1"].returncode != -9
        await lab.until(lambda: tab.sid is None, LONG, "the end of the connection")

    live(scenario)


def test_what_is_sent_into_a_partition_arrives_when_it_is_healed(live: Live) -> None:
    async def scenario(lab: ProcessLab) -> None:
        await lab.start("api-1")
        lab.partition("api-1", "redis")
        asking = lab.background(lab.knock("api-1", "models"))
        await lab.sleep(0.3)
        assert not asking.done()
        lab.heal("api-1", "redis")
        assert (await asking)[0] == 200

    live(scenario)


def test_a_client_may_be_cut_off_before_it_ever_came(live: Live) -> None:
    async def scenario(lab: ProcessLab) -> None:
        await lab.start("api-1")
        lab.partition("ann-1", "api-1")
        coming = lab.background(lab.connect("ann-1", "ann", "api-1"))
        await lab.sleep(0.2)
        assert not coming.done()
        lab.heal("ann-1", "api-1")
        assert (await coming).sid
        with pytest.raises(Unreachable):
            lab.partition("ann-1", "redis")

    live(scenario)


def test_a_reset_ends_the_connection_of_a_client(live: Live) -> None:
    async def scenario(lab: ProcessLab) -> None:
        await lab.start("api-1")
        tab = await lab.connect("ann-1", "ann", "api-1")
        lab.do_reset("ann-1", "api-1")
        await lab.until(lambda: tab.sid is None, LONG, "the end of the connection")

    live(scenario)


@pytest.mark.parametrize("silent", [True, False])
def test_a_client_that_vanishes_is_heard_no_more_and_its_server_learns_of_it_unless_silently(
    live: Live, silent: bool
) -> None:
    async def scenario(lab: ProcessLab) -> None:
        await lab.start("api-1")
        watcher = await lab.connect("wat-1", "wat", "api-1")
        tab = await lab.connect("ann-1", "ann", "api-1")
        await lab.until(lambda: lab.checks.online(watcher) == {"ann", "wat"}, LONG, "ann")
        seen = len(lab.history.entries)
        lab.drop(tab, silent=silent)
        if silent:
            await lab.sleep(0.5)
            assert lab.checks.online(watcher) == {"ann", "wat"}
        else:
            await lab.until(lambda: lab.checks.online(watcher) == {"wat"}, LONG, "the list without ann")
        assert not [entry for entry in lab.history.entries[seen:] if entry.who == tab.name]

    live(scenario)


def test_a_skewed_clock_is_that_of_one_instance(live: Live) -> None:
    async def scenario(lab: ProcessLab) -> None:
        await lab.start("api-1")
        tab = await lab.connect("ann-1", "ann", "api-1")
        lab.skew("api-1", 1000.0)
        ahead = 0.0
        while ahead < 900:
            await lab.call(tab, "usage", {"model": "m"})
            _status, pools = await lab.knock("api-1", "pools")
            ((used),) = pools["result"]["usage"]["m"].values()
            ahead = used["updated_at"] - time.time()
        assert ahead == pytest.approx(1000, abs=10)

    live(scenario)


async def keys(lab: ProcessLab) -> list[str]:
    """Those of ours, as soon as Redis answers."""
    while True:
        try:
            return sorted((await ask_redis(lab.redis_url, ("KEYS", "mine:*")))[0])
        except (OSError, redis.RedisError):
            await lab.sleep(0.02)


async def clients(lab: ProcessLab) -> set[str]:
    """The addresses of those that Redis has."""
    (told,) = await ask_redis(lab.redis_url, ("CLIENT", "LIST"))
    return {line.split()[1].removeprefix("addr=") for line in told.splitlines()}


@pytest.mark.parametrize(("keep_data", "left"), [(True, ["mine:1"]), (False, [])])
def test_redis_comes_back_with_its_data_or_empty(live: Live, keep_data: bool, left: list[str]) -> None:
    async def scenario(lab: ProcessLab) -> None:
        await lab.start("api-1")
        await lab.ask_redis(("SET", "mine:1", "1"))
        lab.restart_redis(keep_data=keep_data)
        assert await keys(lab) == left

    live(scenario)


def test_redis_falls_back_to_what_it_was(live: Live) -> None:
    async def scenario(lab: ProcessLab) -> None:
        await lab.start("api-1")
        await lab.ask_redis(("SET", "mine:1", "1"))
        backup = lab.keep_redis()
        await lab.ask_redis(("SET", "mine:2", "2"))
        assert await keys(lab) == ["mine:1", "mine:2"]
        lab.fail_over_redis(backup)
        assert await keys(lab) == ["mine:1"]

    live(scenario)


def test_all_connections_of_the_instances_to_redis_are_closed(live: Live) -> None:
    async def scenario(lab: ProcessLab) -> None:
        await lab.start("api-1")
        await lab.connect("ann-1", "ann", "api-1")
        before = {address for link in lab.proxy.of("redis") for address in link.local_addresses()}
        assert len(before & await clients(lab)) >= 2
        lab.drop_redis_connections()
        while before & await clients(lab):
            await lab.sleep(0.02)

    live(scenario)


def test_what_is_published_is_lost_for_one_instance_and_counted(live: Live) -> None:
    async def scenario(lab: ProcessLab) -> None:
        await lab.start("api-1", "api-2")
        ann = await lab.connect("ann-1", "ann", "api-1")
        bob = await lab.connect("bob-1", "bob", "api-2")
        await lab.until(lambda: lab.checks.online(ann) == {"ann", "bob"}, LONG, "bob's coming")
        lab.lose_published("api-1", lose=True)
        await lab.knock("api-2", "tell", {"event": "news", "data": 1, "room": "channel:general"})
        await lab.until(lambda: lab.lost_published("api-1"), LONG, "a loss")
        assert lab.checks.heard(bob, "news")
        assert not lab.checks.heard(ann, "news")
        lab.lose_published("api-1", lose=False)
        await lab.knock("api-2", "tell", {"event": "news", "data": 2, "room": "channel:general"})
        await lab.until(lambda: lab.checks.heard(ann, "news"), LONG, "the second")

    live(scenario)


# Around a run


def test_nothing_is_left_when_a_scenario_fails(live: Live, nursery: Nursery, redis_binary: Path) -> None:
    lab = ProcessLab("naive", nursery=nursery, redis_binary=redis_binary)

    async def scenario(lab: ProcessLab) -> None:
        await lab.start("api-1")
        await lab.connect("ann-1", "ann", "api-1", reconnection=True)
        raise ValueError("planted")

    with pytest.raises(ValueError, match="planted"):
        lab.run(scenario)
    assert lab.instances["api-1"].ended
    with pytest.raises(redis.ConnectionError):
        asyncio.run(ask_redis(lab.redis_url, ("PING",)))


def test_a_scenario_that_does_not_end_is_ended(
    nursery: Nursery, redis_binary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sim.processes.lab.START_SECONDS", 0.0)
    lab = ProcessLab("naive", nursery=nursery, redis_binary=redis_binary)

    async def scenario(lab: ProcessLab) -> None:
        await lab.sleep(60)

    with pytest.raises(SimulatorError, match="did not end"):
        lab.run(scenario, limit=0.1)


def test_an_instance_that_cannot_start_is_named_with_its_last_words(
    nursery: Nursery, redis_binary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sim.processes.lab.START_SECONDS", 1.0)
    lab = ProcessLab("naive:nothing", nursery=nursery, redis_binary=redis_binary)

    async def scenario(lab: ProcessLab) -> None:
        await lab.start("api-1")

    with pytest.raises(NotStarted, match=r"api-1 did not start(.|\n)*naive:nothing"):
        lab.run(scenario)


def test_more_instances_than_the_scenario_names_may_be_wanted(live: Live) -> None:
    async def scenario(lab: ProcessLab) -> None:
        await lab.start("api-2")
        assert [name for name, each in lab.instances.items() if each.running] == ["api-2", "api-1", "api-3"]

    live(scenario, instances=3)


def test_a_redis_of_others_is_left_as_it_was_and_cannot_be_killed(
    live: Live, redis_server: RedisServer
) -> None:
    async def scenario(lab: ProcessLab) -> None:
        await lab.start("api-1")
        tab = await lab.connect("ann-1", "ann", "api-1")
        assert await lab.call(tab, "usage", {"model": "m"}) is None
        began = lab.now
        lab.pause("redis", 0.3)
        await lab.knock("api-1", "models")
        assert lab.now - began >= 0.3
        with pytest.raises(Unreachable, match="--redis-url"):
            lab.restart_redis(keep_data=True)
        with pytest.raises(Unreachable):
            lab.keep_redis()

    url = f"{redis_server.url.removesuffix('0')}5"
    live(scenario, redis_url=url)
    assert redis_server.running
    assert redis_server.execute("INFO", "keyspace") == "# Keyspace\r\n"
    asyncio.run(ask_redis(url, ("SET", "somebody's", "key")))
    with pytest.raises(SimulatorError, match="has 1 keys: give an empty one"):
        live(scenario, redis_url=url)
    assert asyncio.run(ask_redis(url, ("GET", "somebody's"))) == ["key"]
    with pytest.raises(SimulatorError, match="is no address"):
        live(scenario, redis_url="127.0.0.1:1")
    with pytest.raises(SimulatorError, match="cannot be used"):
        live(scenario, redis_url="redis://127.0.0.1:1/0")
