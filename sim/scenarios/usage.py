"""Faults of the models in use: shown as unused while used, or used long after."""

from __future__ import annotations

from sim.client_node import ClientNode
from sim.lab import Lab
from sim.scenario import scenario

WINDOW = 3.0
"""Seconds for which a touch keeps a model in use."""

TOLD_WITHIN = 0.25


async def watch(lab: Lab) -> ClientNode:
    await lab.start("api-1", "api-2")
    return await lab.connect("watcher", "wat", "api-1")


def used_for(lab: Lab, watcher: ClientNode, model: str, touched: float, now: str) -> None:
    """The watcher must hold the model as in use from a touch on, for the window and not much longer."""
    shown = model in lab.checks.models(watcher)
    age = lab.world.now - touched
    lab.checks.hold(
        f"usage-{now}", shown == (now == "in-use"), f"{model}, touched {age:.3f} s ago, shown: {shown}"
    )


@scenario(
    "usage-lost-update",
    "r",
    "two tabs on two instances use one model at once; when one leaves, the other still uses it",
    reaches=("both touched",),
)
async def usage_lost_update(lab: Lab) -> None:
    watcher = await watch(lab)
    one = await lab.connect("ann-1", "ann", "api-1")
    two = await lab.connect("bob-1", "bob", "api-2")
    acks = await lab.together(lab.call(one, "usage", {"model": "m"}), lab.call(two, "usage", {"model": "m"}))
    if any(isinstance(ack, dict) and "error" in ack for ack in acks):
        return
    touched = lab.world.now
    lab.reach("both touched")
    await lab.close(one)
    await lab.sleep(1.0)
    used_for(lab, watcher, "m", touched, "in-use")
    await lab.until_time(touched + WINDOW + TOLD_WITHIN + 0.2)
    used_for(lab, watcher, "m", touched, "over")


@scenario(
    "cleanup-eats-fresh-usage",
    "r",
    "a model is touched again at the moment its use would end; it stays in use",
    reaches=("touched at the end",),
)
async def cleanup_eats_fresh_usage(lab: Lab) -> None:
    watcher = await watch(lab)
    tab = await lab.connect("ann-1", "ann", "api-2")
    await lab.call(tab, "usage", {"model": "m"})
    begun = lab.world.now
    await lab.until_time(begun + WINDOW - 0.003)
    ack = await lab.call(tab, "usage", {"model": "m"})
    if isinstance(ack, dict) and "error" in ack:
        return
    touched = lab.world.now
    lab.reach("touched at the end")
    await lab.until_time(touched + 1.5)
    used_for(lab, watcher, "m", touched, "in-use")
    await lab.until_time(touched + WINDOW + TOLD_WITHIN + 0.2)
    used_for(lab, watcher, "m", touched, "over")


@scenario(
    "cleaner-dies-for-good",
    "r",
    "Redis drops all connections once; afterwards the end of a model's use is still told",
    reaches=("touched after the outage",),
)
async def cleaner_dies_for_good(lab: Lab) -> None:
    watcher = await watch(lab)
    tab = await lab.connect("ann-1", "ann", "api-2")
    lab.drop_redis_connections()
    await lab.sleep(3.0)
    ack = await lab.call(tab, "usage", {"model": "m"})
    if isinstance(ack, dict) and "error" in ack:
        return
    touched = lab.world.now
    lab.reach("touched after the outage")
    await lab.until_time(touched + WINDOW + TOLD_WITHIN + 0.2)
    used_for(lab, watcher, "m", touched, "over")


@scenario(
    "clock-skew",
    "r",
    "an instance's clock is four seconds ahead; a model touched there is in use for three",
    reaches=("touched on the skewed instance",),
)
async def clock_skew(lab: Lab) -> None:
    watcher = await watch(lab)
    lab.skew("api-2", 4.0)
    tab = await lab.connect("ann-1", "ann", "api-2")
    ack = await lab.call(tab, "usage", {"model": "m"})
    if isinstance(ack, dict) and "error" in ack:
        return
    touched = lab.world.now
    lab.reach("touched on the skewed instance")
    await lab.until_time(touched + WINDOW - 0.3)
    used_for(lab, watcher, "m", touched, "in-use")
    await lab.until_time(touched + WINDOW + TOLD_WITHIN + 0.2)
    used_for(lab, watcher, "m", touched, "over")


@scenario(
    "usage-broadcast-storm",
    "d",
    "a model is touched again and again; others are told of its beginning and its end, not of every touch",
    reaches=("touched twenty times",),
)
async def usage_broadcast_storm(lab: Lab) -> None:
    watcher = await watch(lab)
    tab = await lab.connect("ann-1", "ann", "api-2")
    before = lab.checks.heard(watcher, "usage")
    for _ in range(20):
        await lab.emit(tab, "usage", {"model": "m"})
        await lab.sleep(0.1)
    lab.reach("touched twenty times")
    told = lab.checks.heard(watcher, "usage") - before
    lab.checks.hold("told-on-change-only", told <= 4, f"{told} usage events for one change")
