"""Faults of the pools: who is connected, and for how long anyone believes it."""

from __future__ import annotations

from sim.lab import Lab
from sim.scenario import scenario


@scenario(
    "user-pool-lost-update",
    "r",
    "two tabs of one user come to two instances at once; when one leaves, the user stays online",
    reaches=("both tabs connected",),
)
async def user_pool_lost_update(lab: Lab) -> None:
    await lab.start("api-1", "api-2")
    watcher = await lab.connect("watcher", "wat", "api-1")
    first, second = lab.client("ann-1"), lab.client("ann-2")
    let_in = await lab.together(
        lab.connect_again(first, "ann", "api-1"),
        lab.connect_again(second, "ann", "api-2"),
    )
    if not all(let_in):
        return
    lab.reach("both tabs connected")
    await lab.checks.everyone_sees([watcher, first, second], {"wat", "ann"})
    await lab.close(second)
    await lab.sleep(1.0)
    await lab.checks.everyone_sees([watcher, first], {"wat", "ann"})
    lab.checks.hold(
        "user-online-while-a-tab-is",
        "ann" in await lab.checks.asked_list(watcher),
        "ann has an open tab and is not on the list",
    )
    await lab.close(first)
    await lab.checks.everyone_sees([watcher], {"wat"})


@scenario(
    "reload-goes-offline",
    "r",
    "a tab reloads: its old connection ends on one instance while the new one begins on another",
    reaches=("came back",),
)
async def reload_goes_offline(lab: Lab) -> None:
    await lab.start("api-1", "api-2")
    watcher = await lab.connect("watcher", "wat", "api-1")
    old = await lab.connect("ann-old", "ann", "api-1")
    new = lab.client("ann-new")
    results = await lab.together(lab.close(old), lab.connect_again(new, "ann", "api-2"))
    if not results[1]:
        return
    lab.reach("came back")
    await lab.sleep(1.0)
    await lab.checks.everyone_sees([watcher, new], {"wat", "ann"})


@scenario(
    "crashed-instance-ghosts",
    "r",
    "an instance is killed; its users are offline within ten seconds, others stay",
    reaches=("crashed with a user connected",),
)
async def crashed_instance_ghosts(lab: Lab) -> None:
    await lab.start("api-1", "api-2")
    watcher = await lab.connect("watcher", "wat", "api-1")
    tab = await lab.connect("ann-1", "ann", "api-2")
    await lab.checks.everyone_sees([watcher], {"wat", "ann"})
    if tab.sid is None or not lab.instances["api-2"].running:
        return
    lab.crash("api-2")
    lab.reach("crashed with a user connected")
    await lab.checks.everyone_sees([watcher], {"wat"})


@scenario(
    "register-after-reaping",
    "n",
    "a registration is under way while its instance stalls and is reaped; afterwards the session counts",
    reaches=("connected after the stall",),
)
async def register_after_reaping(lab: Lab) -> None:
    await lab.start("api-1", "api-2")
    watcher = await lab.connect("watcher", "wat", "api-1")
    tab = lab.client("ann-1")
    connecting = lab.background(lab.connect_again(tab, "ann", "api-2"))
    await lab.sleep(0.002)
    lab.pause("api-2", 7.0)
    let_in = await connecting
    if not let_in:
        # An instance that has just lost its lease may send a client away; it comes back, as clients do.
        await lab.sleep(1.0)
        let_in = await lab.connect_again(tab, "ann", "api-2")
    if let_in:
        lab.reach("connected after the stall")
        await lab.checks.everyone_sees([watcher, tab], {"wat", "ann"})


@scenario(
    "reaped-but-alive",
    "n",
    "an instance stalls past its lease, is reaped, and wakes with open sockets: all are back within two seconds",
    reaches=("was reaped",),
)
async def reaped_but_alive(lab: Lab) -> None:
    await lab.start("api-1", "api-2")
    watcher = await lab.connect("watcher", "wat", "api-1")
    tab = await lab.connect("ann-1", "ann", "api-2")
    await lab.checks.everyone_sees([watcher], {"wat", "ann"})
    lab.pause("api-2", 8.0)
    await lab.sleep(7.5)
    if lab.checks.online(watcher) == {"wat"}:
        lab.reach("was reaped")
    await lab.sleep(0.5)
    await lab.checks.everyone_sees([watcher, tab], {"wat", "ann"}, within=2.0)


@scenario(
    "fleet-died-together",
    "n",
    "every instance is killed at once; the first to start clears what they left",
    reaches=("all died with users connected",),
)
async def fleet_died_together(lab: Lab) -> None:
    await lab.start("api-1", "api-2")
    tab = await lab.connect("ann-1", "ann", "api-1")
    await lab.connect("bob-1", "bob", "api-2")
    await lab.checks.everyone_sees([tab], {"ann", "bob"})
    lab.crash("api-1")
    lab.crash("api-2")
    lab.reach("all died with users connected")
    await lab.sleep(6.0)
    await lab.start("api-3")
    watcher = await lab.connect("watcher", "wat", "api-3")
    await lab.checks.everyone_sees([watcher], {"wat"})
