"""Faults of the lists that clients are sent."""

from __future__ import annotations

from sim.lab import Lab
from sim.plan import KILL_CONNECTIONS
from sim.scenario import scenario
from sim.scenarios.stage import STAGGER, Stage

TABS = 12
LONGEST_HOLD = 1.2
GONE_WITHIN = 10


@scenario(
    "stale-user-list",
    "r",
    "one comes while another goes; the last list that a client gets is the right one",
    reaches=("came and went",),
)
async def stale_user_list(lab: Lab) -> None:
    stage = await Stage.of(lab)
    going = await stage.come("ann-1", "ann", "api-2")
    await lab.together(stage.leave(going), stage.come("bob-1", "bob", "api-1", after=STAGGER))
    lab.reach("came and went")
    await lab.sleep(LONGEST_HOLD)  # the last list may be the one that was held back
    await stage.agree()


@scenario(
    "user-list-storm",
    "d",
    "many come at once; nobody is sent a whole list for every one of them",
    reaches=("all came",),
)
async def user_list_storm(lab: Lab) -> None:
    stage = await Stage.of(lab)
    began, before = lab.now, lab.checks.heard(stage.watcher, "user-list")
    names = [f"tab-{number}" for number in range(TABS)]
    await lab.together(
        *(stage.come(name, name, f"api-{1 + number % 2}") for number, name in enumerate(names))
    )
    lab.reach("all came")
    await lab.sleep(LONGEST_HOLD)
    if stage.watcher in stage.open(since=began):
        lists = lab.checks.heard(stage.watcher, "user-list") - before
        lab.checks.hold(
            "lists-are-coalesced", lists <= TABS / 2, f"{lists} lists for {TABS} who came at once"
        )
    await stage.agree()  # which many who come at once can break, too: that is not what is asked here


@scenario(
    "deaf-subscriber",
    "r",
    "an instance's subscription to Redis dies; it hears what it missed, and what comes after",
    reaches=("somebody came meanwhile",),
    faults=(KILL_CONNECTIONS,),
)
async def deaf_subscriber(lab: Lab) -> None:
    stage = await Stage.of(lab)
    await stage.come("bob-1", "bob", "api-2")
    await stage.talk()
    await stage.come("ann-1", "ann", "api-2")
    lab.reach("somebody came meanwhile")
    await stage.agree()
    await stage.hear_each_other()


@scenario(
    "lost-last-publish",
    "n",
    "the message of the last change before silence is lost; the list is right all the same within three seconds",
    reaches=("the message was lost",),
)
async def lost_last_publish(lab: Lab) -> None:
    stage = await Stage.of(lab)
    ann = await stage.come("ann-1", "ann", "api-2")
    await stage.restore()
    await stage.agree()
    lab.lose_published("api-1", lose=True)
    await stage.leave(ann)
    for _ in range(GONE_WITHIN):  # her instance may have been killed before it could say so: then others do
        await lab.sleep(1.0)
        if lab.lost_published("api-1"):
            lab.reach("the message was lost")
            break
    lab.lose_published("api-1", lose=False)
    await stage.agree(within=3.0)
