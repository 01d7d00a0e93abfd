"""A scenario with more than two thousand messages, for a page that is to stay smooth."""

from __future__ import annotations

from sim.lab import Lab
from sim.scenario import scenario
from sim.scenarios import steady

ROOM = "channel:general"


@scenario("long-talk", "d", "two people on two instances are told of 250 things")
async def long_talk(lab: Lab) -> None:
    await steady.serve(lab, "api-1", "api-2")
    for number, user in enumerate(("ann", "bob"), start=1):
        await steady.come(lab, lab.client(f"{user}-1"), user, f"api-{number}")
    for number in range(250):
        await lab.knock("api-1", "tell", {"event": "news", "data": {"mark": f"news {number}"}, "room": ROOM})
    await lab.sleep(1.0)
