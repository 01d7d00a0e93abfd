"""Faults of rooms: who is in them, and what they hear."""

from __future__ import annotations

from sim.evidence import Said, Stay
from sim.lab import Lab
from sim.scenario import scenario
from sim.scenarios import steady

ROOM = "party"
ENTERED_SECONDS = 0.5
"""Until those who were put into a room on another instance are in it."""


@scenario(
    "room-members-elsewhere",
    "d",
    "a room's members on other instances are known, and put into a new room they hear it as all others do",
    reaches=("both were members",),
)
async def room_members_elsewhere(lab: Lab) -> None:
    await steady.serve(lab, "api-1", "api-2")
    here = await steady.come(lab, lab.client("ann-1"), "ann", "api-1")
    there = await steady.come(lab, lab.client("bob-1"), "bob", "api-2")
    outsider = await steady.come(lab, lab.client("eve-1"), "eve", "api-2")
    lab.reach("both were members")
    for at in ("api-1", "api-2"):
        await steady.door_becomes(
            lab, "room-members-are-known", at, "room", ["ann", "bob", "eve"], name="channel:general"
        )
    await lab.knock("api-1", "enter", {"room": ROOM, "user_ids": ["ann", "bob"]})
    await lab.sleep(ENTERED_SECONDS)
    stays = [Stay(here.name, lab.now - 0.001), Stay(there.name, lab.now - 0.001)]
    said = []
    for number, at in enumerate(("api-1", "api-2", "api-1", "api-2")):
        said.append(Said(f"news {number}", at, lab.now))
        await lab.knock(at, "tell", {"event": "news", "data": {"mark": f"news {number}"}, "room": ROOM})
    await lab.sleep(1.0)
    lab.checks.room_is_right(said, stays, event="news")
    lab.checks.nothing_leaks([outsider.name], event="news")


@scenario(
    "join-races-emit",
    "d",
    "whoever was put into a room hears what any instance says there from then on, also after going and coming back",
    reaches=("entered twice",),
)
async def join_races_emit(lab: Lab) -> None:
    await steady.serve(lab, "api-1", "api-2")
    here = await steady.come(lab, lab.client("ann-1"), "ann", "api-1")
    for turn in (1, 2):
        there = await steady.come(lab, lab.client(f"bob-{turn}"), "bob", "api-2")
        status, _ = await lab.knock("api-1", "enter", {"room": ROOM, "user_ids": ["ann", "bob"]})
        since = lab.now - 0.001
        said = []
        for at in ("api-2", "api-1"):
            said.append(Said(f"turn {turn} from {at}", at, lab.now))
            await lab.knock(at, "tell", {"event": "news", "data": {"mark": said[-1].mark}, "room": ROOM})
        await lab.sleep(ENTERED_SECONDS)
        if status == 200:
            lab.checks.room_is_right(said, [Stay(here.name, since), Stay(there.name, since)], event="news")
        await lab.close(there)
        await lab.sleep(ENTERED_SECONDS)
    lab.reach("entered twice")
