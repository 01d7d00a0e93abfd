"""Faults of the lists that clients are sent."""

from __future__ import annotations

from sim.lab import Lab
from sim.scenario import scenario


@scenario(
    "stale-user-list",
    "r",
    "one comes while another goes; the last list that a client gets is the right one",
    reaches=("came and went",),
)
async def stale_user_list(lab: Lab) -> None:
    await lab.start("api-1", "api-2")
    watcher = await lab.connect("watcher", "wat", "api-1")
    going = await lab.connect("ann-1", "ann", "api-2")
    coming = lab.client("bob-1")
    results = await lab.together(lab.close(going), lab.connect_again(coming, "bob", "api-1"))
    if not results[1]:
        return
    lab.reach("came and went")
    await lab.sleep(1.0)
    await lab.checks.everyone_sees([watcher, coming], {"wat", "bob"})


@scenario(
    "user-list-storm",
    "d",
    "many come at once; nobody is sent a whole list for every one of them",
    reaches=("all came",),
)
async def user_list_storm(lab: Lab) -> None:
    await lab.start("api-1", "api-2")
    watcher = await lab.connect("watcher", "wat", "api-1")
    before = lab.checks.heard(watcher, "user-list")
    tabs = [lab.client(f"tab-{number}") for number in range(12)]
    let_in = await lab.together(
        *(lab.connect_again(tab, tab.name, f"api-{1 + number % 2}") for number, tab in enumerate(tabs))
    )
    if not all(let_in):
        return
    lab.reach("all came")
    await lab.checks.everyone_sees([watcher, *tabs], {"wat", *(tab.name for tab in tabs)})
    lists = lab.checks.heard(watcher, "user-list") - before
    lab.checks.hold("lists-are-coalesced", lists <= 6, f"{lists} lists for 12 who came at once")


@scenario(
    "deaf-subscriber",
    "r",
    "an instance's subscription to Redis dies; it hears what it missed, and what comes after",
    reaches=("somebody came meanwhile",),
)
async def deaf_subscriber(lab: Lab) -> None:
    await lab.start("api-1", "api-2")
    watcher = await lab.connect("watcher", "wat", "api-1")
    lab.drop_redis_connections()
    tab = lab.client("ann-1")
    if not await lab.connect_again(tab, "ann", "api-2"):
        await lab.sleep(1.0)
        if not await lab.connect_again(tab, "ann", "api-2"):
            return
    lab.reach("somebody came meanwhile")
    await lab.checks.everyone_sees([watcher, tab], {"wat", "ann"})
    await lab.checks.reaches_once(tab, [watcher], "after")
