"""Outages of Redis."""

from __future__ import annotations

from sim.lab import Lab
from sim.plan import REDIS_HANG, REDIS_RESTART
from sim.scenario import scenario
from sim.scenarios.stage import Stage, is_marked, says

ROUNDS = 5
LOCALLY_WITHIN = 1.0
ANSWERED_WITHIN = 6.0
LEASE_SECONDS = 5.0
LATER_SECONDS = 2.0
VISITS = 4


@scenario(
    "redis-restart",
    "r",
    "Redis comes back empty; all who are connected are online again within five seconds",
    reaches=("users on both instances",),
    faults=(REDIS_RESTART,),
)
async def redis_restart(lab: Lab) -> None:
    stage = await Stage.of(lab)
    await stage.come("ann-1", "ann", "api-2")
    lab.reach("users on both instances")
    await stage.agree()
    await stage.talk()
    await stage.agree(within=5.0, ask=True)
    await stage.hear_each_other()


@scenario(
    "redis-hangs",
    "r",
    "Redis accepts and does not answer: who comes is told in bounded time, who is here still hears its neighbours",
    reaches=("neighbours were here",),
    faults=(REDIS_HANG,),
)
async def redis_hangs(lab: Lab) -> None:
    stage = await Stage.of(lab)
    speaker = await stage.come("ann-1", "ann", "api-1")
    for number in range(ROUNDS):
        await stage.restore()
        lab.reach("neighbours were here")
        mark, began = f"local {number}", lab.now
        await lab.emit(speaker, "channel-events", says(mark))
        await lab.sleep(LOCALLY_WITHIN)
        if {speaker, stage.watcher} <= set(stage.open(since=began)):
            lab.checks.hold(
                "local-delivery-goes-on",
                lab.checks.heard(stage.watcher, "channel-events", is_marked(mark)),
                f"a second after ann spoke, her neighbour on the same instance had not heard {mark}",
            )
        await _somebody_is_answered(lab, f"eve-{number}")
    await stage.restore()
    await stage.agree(ask=True)
    await stage.hear_each_other()


async def _somebody_is_answered(lab: Lab, name: str) -> None:
    """A tab comes and goes: let in or sent away, it knows in time."""
    tab, asked = lab.client(name), lab.now
    let_in = await lab.connect_again(tab, "eve", "api-1")
    took = lab.now - asked
    if lab.steady("api-1", asked):
        lab.checks.hold(
            "connect-is-answered", took <= lab.bound(ANSWERED_WITHIN), f"{name} waited for {took:.2f} s"
        )
    if let_in:
        await lab.close(tab)


@scenario(
    "redis-failover-rollback",
    "n",
    "a replica without the last writes takes over: nobody who is here is shown as gone, and every list becomes right",
    reaches=("renewals were lost", "changes were lost"),
)
async def redis_failover_rollback(lab: Lab) -> None:
    stage = await Stage.of(lab)
    ann = await stage.come("ann-1", "ann", "api-2")
    await stage.restore()
    await stage.agree()
    backup = lab.keep_redis()
    await lab.sleep(LEASE_SECONDS + 1.0)
    lab.partition("api-2", "redis")  # it finds the new primary later than the others
    lab.fail_over_redis(backup)
    finding = lab.background(_find_redis(lab, "api-2"))
    await _nobody_is_missed(stage, for_seconds=2 * LEASE_SECONDS)
    await finding
    lab.reach("renewals were lost")

    await stage.restore()
    await stage.agree()
    backup = lab.keep_redis()
    await stage.leave(ann)
    for number in range(VISITS):
        await stage.leave(await stage.come(f"bob-{number}", "bob", "api-2"))
    await stage.come("cat-1", "cat", "api-2")
    await stage.agree()
    lab.fail_over_redis(backup)
    lab.reach("changes were lost")
    await stage.agree()
    await stage.come("eve-1", "eve", "api-1")  # a version that there was before, with another meaning
    await stage.agree(ask=True)


async def _find_redis(lab: Lab, instance: str) -> None:
    await lab.sleep(LATER_SECONDS)
    lab.heal(instance, "redis")


async def _nobody_is_missed(stage: Stage, *, for_seconds: float) -> None:
    """No list that anybody gets from now on leaves out one who is here and was not disturbed."""
    lab, began = stage.lab, stage.lab.now
    await lab.sleep(for_seconds)
    here = stage.online(since=began)
    for entry in lab.history.entries:
        if entry.at >= began and entry.what == "event" and entry.name == "user-list":
            missed = here - set(entry.data["user_ids"])
            lab.checks.hold(
                "nobody-is-shown-as-gone",
                not missed,
                f"{entry.who} was told at {entry.at:.3f} s without {missed}",
            )
