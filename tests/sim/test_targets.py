"""Targets: an application with globals is several processes; the naive design does what it should while undisturbed."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sim.schedule import Message, PlainSchedule, Schedule
from sim.simulated import SimulatedLab
from sim.targets import UnknownTarget, load
from sim.targets.knock import knock

pytestmark = pytest.mark.filterwarnings("ignore:[Uu]nclosed:ResourceWarning")

APPS = Path(__file__).parent / "apps"


@pytest.fixture
def _apps(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(APPS))
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "global_app"]:
        del sys.modules[name]


# Anyone's application


@pytest.mark.usefixtures("_apps")
def test_an_application_with_globals_is_loaded_once_for_every_instance() -> None:
    factory = load("global_app.main:make")
    fingerprints = set()

    async def scenario(lab: SimulatedLab) -> None:
        await lab.start("api-1", "api-2")
        for number, at in enumerate(["api-1", "api-2", "api-1"]):
            await lab.connect(f"tab-{number}", None, at)
        await lab.sleep(1)
        states = [lab.history.last(f"tab-{number}", "state") for number in range(3)]
        assert [state["name"] for state in states] == ["api-1", "api-2", "api-1"]
        assert [state["started"] for state in states] == [["api-1"], ["api-2"], ["api-1"]]
        assert [state["here"] for state in states] == [1, 1, 2]
        assert [state["late"] for state in states] == [1, 1, 2]
        assert [state["total"] for state in states] == [1, 2, 3]
        assert all(state["at"].startswith("2023-11-14T22:13:20") for state in states)

    for _ in range(2):
        lab = SimulatedLab(factory, PlainSchedule())
        lab.run(scenario, seed=1)
        fingerprints.add(lab.trace.fingerprint)
    assert len(fingerprints) == 1
    import global_app.state

    assert global_app.state.started == []
    assert "global_app.late" not in sys.modules


@pytest.mark.usefixtures("_apps")
@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("global_app.nowhere:make", "nowhere"),
        ("global_app.main:nothing", "nothing"),
        ("global_app.main:not_a_factory", "not a factory"),
        ("nonsense", "MODULE:FACTORY"),
        ("global_app.main:", "MODULE:FACTORY"),
    ],
)
def test_what_is_no_target_is_refused_with_the_reason(target: str, reason: str) -> None:
    with pytest.raises(UnknownTarget, match=reason):
        load(target)


# The naive design


class Disturbed(PlainSchedule):
    """Holds the first message for which ``held`` says so."""

    def __init__(self, held: Any = None, seconds: float = 0.0) -> None:
        super().__init__()
        self._held = held
        self._seconds = seconds

    def delay(self, message: Message) -> float:
        if self._held is not None and self._held(message):
            self._held = None
            self.bitten.append(message.name)
            return self.latency + self._seconds
        return self.latency


def naive(scenario: Any, schedule: Schedule | None = None, **settings: Any) -> SimulatedLab:
    lab = SimulatedLab(load("naive"), schedule or PlainSchedule(), settings=settings)
    lab.run(scenario, seed=1)
    return lab


async def pools(lab: SimulatedLab, at: str = "api-1") -> dict[str, dict[str, Any]]:
    status, answer = await knock(at, 80, "pools")
    assert status == 200
    found: dict[str, dict[str, Any]] = answer["result"]
    return found


async def two_tabs_at_once(lab: SimulatedLab) -> None:
    await lab.start("api-1", "api-2")
    first, second = lab.client("ann-1"), lab.client("ann-2")
    connecting = lab.background(lab.connect_again(first, "ann", "api-1"))
    await lab.sleep(0.02)
    await lab.connect_again(second, "ann", "api-2")
    await connecting
    await lab.sleep(1)
    lab.found = await pools(lab)  # type: ignore[attr-defined]


def writes_user_pool(message: Message) -> bool:
    return message.source == "api-1" and b"HSET" in message.data and b"user_pool" in message.data


@pytest.mark.parametrize("hold", [0.0, 0.05])
def test_user_pool_lost_update(hold: float) -> None:
    lab = naive(two_tabs_at_once, Disturbed(writes_user_pool, hold) if hold else None)
    sids = lab.found["users"]["ann"]  # type: ignore[attr-defined]
    assert len(sids) == (1 if hold else 2)
    assert len(lab.found["sessions"]) == 2  # type: ignore[attr-defined]


async def one_model_twice(lab: SimulatedLab) -> None:
    await lab.start("api-1", "api-2")
    first, second = await lab.connect("a", "ann", "api-1"), await lab.connect("b", "bob", "api-2")
    await lab.sleep(1)
    await lab.emit(first, "usage", {"model": "m"})
    await lab.sleep(0.02)
    await lab.emit(second, "usage", {"model": "m"})
    await lab.sleep(0.5)
    lab.found = await pools(lab)  # type: ignore[attr-defined]


def writes_usage_pool(message: Message) -> bool:
    return message.source == "api-1" and b"HSET" in message.data and b"usage_pool" in message.data


@pytest.mark.parametrize("hold", [0.0, 0.05])
def test_usage_lost_update(hold: float) -> None:
    lab = naive(one_model_twice, Disturbed(writes_usage_pool, hold))
    assert len(lab.found["usage"]["m"]) == (1 if hold else 2)  # type: ignore[attr-defined]


@pytest.mark.parametrize("stall", [0.0, 12.0])
def test_lock_renewed_by_stranger(stall: float) -> None:
    """The owner stalls past the time-out, another instance (started meanwhile) acquires; then both renew."""

    async def scenario(lab: SimulatedLab) -> None:
        await lab.start("api-1")
        if stall:
            lab.pause("api-1", stall)
            await lab.sleep(6)
        await lab.start("api-2")
        await lab.sleep(60)

    lab = naive(scenario, websocket_redis_lock_timeout=5)
    cleaners = [name for name, instance in lab.instances.items() if not instance.app.state.cleanup.done()]
    assert len(cleaners) == (2 if stall else 1)


@pytest.mark.parametrize("crash", [False, True])
def test_crashed_instance_ghosts(crash: bool) -> None:
    async def scenario(lab: SimulatedLab) -> None:
        await lab.start("api-1", "api-2")
        await lab.connect("watcher", "wat", "api-1")
        tab = await lab.connect("tab", "ann", "api-2")
        await lab.sleep(1)
        if crash:
            lab.crash("api-2")
        else:
            await lab.close(tab)
        await lab.sleep(120)
        lab.found = await pools(lab)  # type: ignore[attr-defined]

    lab = naive(scenario)
    assert ("ann" in lab.found["users"]) is crash  # type: ignore[attr-defined]
    assert ("ann" in lab.history.last("watcher", "user-list")["user_ids"]) is crash


def test_a_failed_renewal_ends_the_cleaning_for_good() -> None:
    async def scenario(lab: SimulatedLab) -> None:
        await lab.start("api-1", "api-2")
        lab.pause("api-1", 20)
        await lab.sleep(60)
        tab = await lab.connect("tab", "ann", "api-1")
        await lab.emit(tab, "usage", {"model": "m"})
        await lab.sleep(60)
        lab.found = await pools(lab)  # type: ignore[attr-defined]

    lab = naive(scenario, websocket_redis_lock_timeout=5)
    assert "m" in lab.found["usage"]  # type: ignore[attr-defined]


def test_strangers_hear_broadcasts_and_answer_for_others() -> None:
    async def scenario(lab: SimulatedLab) -> None:
        await lab.start("api-1", "api-2")
        stranger = await lab.connect("stranger", None, "api-1")
        stranger.answer = lambda _data: "from a stranger"
        await lab.connect("tab", "ann", "api-2")
        await lab.sleep(1)
        assert lab.history.last("stranger", "user-list") == {"user_ids": ["ann"]}
        info = {"user_id": "ann", "session_id": stranger.sid}
        assert await knock("api-2", 80, "call", {"request_info": info, "event": {}}) == (
            200,
            {"result": "from a stranger"},
        )

    naive(scenario)


@pytest.mark.parametrize("target", ["naive", "realtime"])
def test_the_doors_are_the_same_on_every_target(target: str) -> None:
    async def scenario(lab: SimulatedLab) -> None:
        await lab.start("api-1", "api-2")
        tab = await lab.connect("tab", "ann", "api-1")
        await lab.connect("other", "bob", "api-2")  # a stock manager listens from the first client on
        tab.answer = lambda data: {"heard": data["data"]}
        await lab.sleep(1)
        info = {"user_id": "ann", "session_id": tab.sid, "chat_id": "c", "message_id": "m"}
        emitted = await knock("api-2", 80, "emit", {"request_info": info, "event": {"type": "x", "data": {}}})
        assert emitted == (200, {"result": None})
        called = await knock("api-2", 80, "call", {"request_info": info, "event": {"type": "ask", "data": 1}})
        assert called == (200, {"result": {"heard": {"type": "ask", "data": 1}}})
        _, in_room = await knock("api-1", 80, "room", query={"name": "channel:general"})
        assert "ann" in in_room["result"]
        assert await knock("api-1", 80, "models") == (200, {"result": []})
        told = await knock("api-2", 80, "tell", {"event": "news", "data": {"n": 1}, "user_ids": ["ann"]})
        assert told == (200, {"result": None})
        await knock("api-1", 80, "enter", {"room": "party", "user_ids": ["ann"]})
        await knock("api-2", 80, "tell", {"event": "news", "data": {"n": 2}, "room": "party"})
        await lab.sleep(1)
        assert [entry.data["n"] for entry in lab.history.of("tab", "event", "news")] == [1, 2]
        found = await pools(lab)
        assert sorted(found["users"]) == ["ann", "bob"]
        assert found["users"]["ann"] == [tab.sid]
        assert len(found["sessions"]) == 2

    SimulatedLab(load(target), PlainSchedule()).run(scenario, seed=1)


@pytest.mark.parametrize("target", ["naive", "realtime"])
@pytest.mark.parametrize("seconds", [0.0, 0.005, 0.02, 1.0])
def test_a_world_that_ends_in_the_midst_of_work_leaves_nothing_behind(target: str, seconds: float) -> None:
    async def scenario(lab: SimulatedLab) -> None:
        await lab.start("api-1")
        await lab.connect("tab", "ann", "api-1")
        await lab.sleep(seconds)

    def one() -> weakref.ref[Any]:
        lab = SimulatedLab(load(target), PlainSchedule())
        lab.run(scenario, seed=1)
        return weakref.ref(lab.world)

    one()  # what is imported late is imported now
    one()
    worlds = [one() for _ in range(3)]
    gc.collect()
    assert [world() for world in worlds] == [None, None, None]
