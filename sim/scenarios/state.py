"""Faults of the pools: who is connected, and for how long anyone believes it."""

from __future__ import annotations

from sim.lab import Lab
from sim.plan import CRASH
from sim.scenario import scenario
from sim.scenarios.stage import STAGGER, Stage

STALL_SECONDS = 8.0
LEASE_SECONDS = 5.0
TRIES = 3


@scenario(
    "user-pool-lost-update",
    "r",
    "two tabs of one user come to two instances at once; when one leaves, the user stays online",
    reaches=("both tabs came",),
)
async def user_pool_lost_update(lab: Lab) -> None:
    stage = await Stage.of(lab)
    first, second = await lab.together(
        stage.come("ann-1", "ann", "api-1"),
        stage.come("ann-2", "ann", "api-2", after=STAGGER),
    )
    lab.reach("both tabs came")
    await stage.agree()
    await stage.leave(second)
    await stage.agree(ask=True)
    await stage.leave(first)
    await stage.agree()


@scenario(
    "reload-goes-offline",
    "r",
    "a tab reloads: its old connection ends on one instance while the new one begins on another",
    reaches=("came back",),
)
async def reload_goes_offline(lab: Lab) -> None:
    stage = await Stage.of(lab)
    old = await stage.come("ann-old", "ann", "api-1")
    await lab.together(stage.leave(old), stage.come("ann-new", "ann", "api-2", after=STAGGER))
    lab.reach("came back")
    await stage.agree(ask=True)


@scenario(
    "crashed-instance-ghosts",
    "r",
    "an instance is killed; its users are offline within ten seconds, others stay",
    reaches=("users on both instances",),
    faults=(CRASH,),
)
async def crashed_instance_ghosts(lab: Lab) -> None:
    stage = await Stage.of(lab)
    await stage.come("ann-1", "ann", "api-2")
    lab.reach("users on both instances")
    await stage.agree()
    await lab.sleep(2.0)
    await stage.agree(ask=True)


@scenario(
    "register-after-reaping",
    "n",
    "a registration is under way while its instance stalls and is reaped; afterwards the session counts",
    reaches=("came while its instance stalled",),
)
async def register_after_reaping(lab: Lab) -> None:
    stage = await Stage.of(lab)
    coming = lab.background(stage.come("ann-1", "ann", "api-2"))
    await lab.sleep(0.002)
    if not coming.done():
        lab.reach("came while its instance stalled")
    lab.pause("api-2", STALL_SECONDS)
    await coming
    await stage.agree(ask=True)


@scenario(
    "reaped-but-alive",
    "n",
    "an instance stalls past its lease, is reaped, and wakes with open sockets: all are back within two seconds",
    reaches=("was reaped",),
)
async def reaped_but_alive(lab: Lab) -> None:
    stage = await Stage.of(lab)
    await stage.come("ann-1", "ann", "api-2")
    for _ in range(TRIES):
        await stage.restore()
        await stage.agree()
        lab.pause("api-2", STALL_SECONDS)
        stalled_at = lab.now
        await lab.sleep(STALL_SECONDS - 0.5)
        if lab.checks.online(stage.watcher) == {"wat"} and lab.steady("api-1", stalled_at):
            lab.reach("was reaped")
            break
    await stage.agree(within=2.0)


@scenario(
    "fleet-died-together",
    "n",
    "every instance is killed at once; the first to start clears what they left",
    reaches=("all died with users connected",),
)
async def fleet_died_together(lab: Lab) -> None:
    stage = await Stage.of(lab)
    await stage.come("ann-1", "ann", "api-2")
    await stage.restore()
    await stage.agree()
    for instance in ("api-1", "api-2"):
        lab.crash(instance)
    lab.reach("all died with users connected")
    await lab.sleep(LEASE_SECONDS + 1.0)
    await lab.start("api-3")
    await stage.come("bob-1", "bob", "api-3")
    await stage.agree(ask=True)
