"""The kinds of faults: each a coroutine that strikes, waits as long as it lasts, heals, and says what it did."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from sim.processes.chaos.crowd import Crowd
from sim.processes.lab import REDIS, ProcessLab
from sim.processes.proxy import Lane

LASTS = 2.0
"""Seconds; shorter than a lease."""

BEYOND_LEASE = 7.0
SLOW_SECONDS = 0.1
SLOW_BYTES = 20_000.0
FEW = 5
SKEW_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Scene:
    """What a fault strikes. ``instance``: which, if it strikes one."""

    lab: ProcessLab
    crowd: Crowd
    instance: str
    dice: random.Random


Strike = Callable[[Scene], Awaitable[str]]
KINDS: dict[str, Strike] = {}


def kind(name: str) -> Callable[[Strike], Strike]:
    def register(strike: Strike) -> Strike:
        KINDS[name] = strike
        return strike

    return register


@kind("SIGTERM")
async def _terminate(scene: Scene) -> str:
    lab, name = scene.lab, scene.instance
    lab.do_terminate(name)
    await lab.until(lambda: lab.instances[name].ended, 15.0, f"the end of {name}")
    await lab.start(name)
    return f"{name} is told to end, and started again"


@kind("SIGSTOP within the lease")
async def _stop(scene: Scene) -> str:
    return await _stall(scene, scene.instance, LASTS)


@kind("SIGSTOP beyond the lease")
async def _stop_long(scene: Scene) -> str:
    return await _stall(scene, scene.instance, BEYOND_LEASE)


@kind("Redis SIGSTOP")
async def _stop_redis(scene: Scene) -> str:
    return await _stall(scene, REDIS, LASTS)


@kind("Redis CLIENT PAUSE")
async def _pause_clients(scene: Scene) -> str:
    await scene.lab.ask_redis(("CLIENT", "PAUSE", int(LASTS * 1000), "ALL"))
    await scene.lab.sleep(LASTS)
    return f"for {LASTS:g} s"


@kind("Redis killed, back empty")
async def _redis_empty(scene: Scene) -> str:
    scene.lab.do_restart_redis(keep_data=False)
    return "back at once"


@kind("Redis killed, back with its data")
async def _redis_restart(scene: Scene) -> str:
    scene.lab.do_restart_redis(keep_data=True)
    return "back at once"


@kind("Redis falls back to earlier data")
async def _fail_over(scene: Scene) -> str:
    backup = scene.lab.keep_redis()
    await scene.lab.sleep(LASTS)
    scene.lab.do_restart_redis(keep_data=False, back_to=backup)
    return f"to that of {LASTS:g} s before"


@kind("Redis CLIENT KILL")
async def _kill_connections(scene: Scene) -> str:
    scene.lab.do_kill_connections()
    return "all connections"


@kind("partition from Redis")
async def _partition(scene: Scene) -> str:
    scene.lab.do_partition(scene.instance, REDIS)
    await scene.lab.sleep(LASTS)
    scene.lab.do_heal(scene.instance, REDIS)
    return f"{scene.instance} for {LASTS:g} s"


@kind("half-open towards Redis")
async def _half_open(scene: Scene) -> str:
    lane = scene.dice.choice(_lanes(scene))
    lane.block()
    await scene.lab.sleep(LASTS)
    lane.pass_on()
    return f"nothing passes {lane.name} for {LASTS:g} s"


@kind("latency to Redis")
async def _latency(scene: Scene) -> str:
    for lane in _lanes(scene):
        lane.latency = SLOW_SECONDS
    await scene.lab.sleep(LASTS)
    for lane in _lanes(scene):
        lane.latency = 0.0
    return f"{scene.instance}, {SLOW_SECONDS * 1000:g} ms each way for {LASTS:g} s"


@kind("little bandwidth to Redis")
async def _bandwidth(scene: Scene) -> str:
    for lane in _lanes(scene):
        lane.bytes_per_second = SLOW_BYTES
    await scene.lab.sleep(LASTS)
    for lane in _lanes(scene):
        lane.bytes_per_second = 0.0
    return f"{scene.instance}, {SLOW_BYTES / 1000:g} kB/s for {LASTS:g} s"


@kind("cut in the middle of a message with Redis")
async def _tear(scene: Scene) -> str:
    lane = scene.dice.choice(_lanes(scene))
    lane.tears = True
    await scene.lab.until(lambda: not lane.tears, 10.0, f"a message on {lane.name}")
    return lane.name


@kind("connections to Redis reset")
async def _reset(scene: Scene) -> str:
    scene.lab.do_reset(scene.instance, REDIS)
    return scene.instance


@kind("published messages lost")
async def _deaf(scene: Scene) -> str:
    scene.lab.do_lose_published(scene.instance, lose=True)
    await scene.lab.sleep(LASTS)
    lost = scene.lab.lost_published(scene.instance)
    scene.lab.do_lose_published(scene.instance, lose=False)
    return f"{lost} of those for {scene.instance} in {LASTS:g} s"


@kind("clock put ahead")
async def _skew(scene: Scene) -> str:
    scene.lab.do_skew(scene.instance, SKEW_SECONDS)
    await scene.lab.sleep(LASTS)
    scene.lab.do_skew(scene.instance, 0.0)
    return f"{scene.instance} by {SKEW_SECONDS:g} s for {LASTS:g} s"


@kind("clients cut off")
async def _cut_clients(scene: Scene) -> str:
    some = scene.crowd.some(FEW)
    for member in some:
        scene.lab.do_partition(member.tab.name, member.home)
    await scene.lab.sleep(LASTS)
    for member in some:
        scene.lab.do_heal(member.tab.name, member.home)
    return f"{len(some)} for {LASTS:g} s"


@kind("clients' connections reset")
async def _reset_clients(scene: Scene) -> str:
    some = scene.crowd.some(FEW)
    for member in some:
        scene.lab.do_reset(member.tab.name, member.home)
    return f"{len(some)}"


@kind("frames of clients cut in the middle")
async def _tear_clients(scene: Scene) -> str:
    some = scene.crowd.some(FEW)
    for member in some:
        scene.lab.proxy.lane(*scene.dice.sample((member.tab.name, member.home), 2)).tears = True
    await scene.lab.sleep(LASTS)
    return f"{len(some)}"


@kind("clients half closed")
async def _half_close(scene: Scene) -> str:
    some = scene.crowd.some(FEW)
    for member in some:
        for link in scene.lab.proxy.between(member.tab.name, member.home):
            link.half_close()
    return f"{len(some)}"


@kind("slow clients")
async def _slow_clients(scene: Scene) -> str:
    some = scene.crowd.some(FEW)
    lanes = [scene.lab.proxy.lane(member.home, member.tab.name) for member in some]
    for lane in lanes:
        lane.bytes_per_second = SLOW_BYTES
    await scene.lab.sleep(LASTS)
    for lane in lanes:
        lane.bytes_per_second = 0.0
    return f"{len(some)}, {SLOW_BYTES / 1000:g} kB/s for {LASTS:g} s"


@kind("clients vanish")
async def _vanish(scene: Scene) -> str:
    some = scene.crowd.some(FEW)
    for member in some:
        scene.lab.do_drop(member.tab, silent=scene.dice.random() < 0.5)
        scene.crowd.replace(member)
    return f"{len(some)}, others come"


SIGKILL = "SIGKILL"
OF_THE_SERVER = frozenset(name for name in KINDS if name.startswith("Redis ") and name != "Redis CLIENT KILL")
"""Not to be done to a Redis that others may use, too."""


@kind(SIGKILL)
async def _kill(scene: Scene) -> str:
    """The session waits until its ghosts are gone before it is started again."""
    scene.crowd.down.add(scene.instance)
    scene.lab.do_crash(scene.instance)
    return scene.instance


async def _stall(scene: Scene, host: str, seconds: float) -> str:
    scene.lab.do_pause(host, seconds)
    await scene.lab.sleep(seconds)
    return f"{host} for {seconds:g} s"


def _lanes(scene: Scene) -> list[Lane]:
    return [lane for link in scene.lab.proxy.between(scene.instance, REDIS) for lane in link.lanes]
