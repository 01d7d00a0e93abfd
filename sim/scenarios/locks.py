"""Faults of the lock that decides which instance cleans up."""

from __future__ import annotations

from typing import Any

from sim.lab import Lab
from sim.plan import PAUSE
from sim.scenario import scenario
from sim.scenarios.stage import Stage

LOCK_SECONDS = 4.0
SETTINGS = {"websocket_redis_lock_timeout": LOCK_SECONDS}
LOOKED = "looked at lock"
"""A target without the door ``lock`` shows nobody who holds it: nothing is said of it then."""


@scenario(
    "lock-renewed-by-stranger",
    "r",
    "the cleaner stalls past its lock's time-out and another takes over; only one goes on",
    reaches=(LOOKED,),
    settings=SETTINGS,
    faults=(PAUSE,),
)
async def lock_renewed_by_stranger(lab: Lab) -> None:
    stage = await Stage.of(lab)
    await lab.until_time(LOCK_SECONDS + 1.5)
    await lab.start("api-3")
    await stage.calm(2 * LOCK_SECONDS)
    await one_holder_at_most(stage)


@scenario(
    "lock-released-by-stranger",
    "r",
    "the cleaner stalls while it gives up its lock; when it goes on it takes nothing from the one who has it now",
    reaches=(LOOKED,),
    settings=SETTINGS,
    faults=(PAUSE,),
)
async def lock_released_by_stranger(lab: Lab) -> None:
    await lab.start("api-1")
    stage = await Stage.of(lab, "api-2")
    lab.terminate("api-1")
    ended_at = lab.now
    await lab.until_time(ended_at + LOCK_SECONDS + 1.0)
    await lab.start("api-3")
    await lab.until_time(ended_at + LOCK_SECONDS + 3.5)
    if lab.healed_at > lab.now - 0.1:
        # The new holder stalled, not the old one while it gave up: the scenario above is about that.
        await lab.until_time(lab.healed_at + LOCK_SECONDS)
    await lab.start("api-4")
    await stage.calm(2 * LOCK_SECONDS)
    await one_holder_at_most(stage)


async def one_holder_at_most(stage: Stage) -> None:
    """Of those who take themselves for the holder, one at most has the newest fencing token; without tokens, one at
    most takes itself for the holder at all."""
    lab = stage.lab
    said: dict[str, Any] = {name: await stage.look(name, "lock") for name in lab.instances}
    fences = {name: answer["fence"] or 0 for name, answer in said.items() if answer and answer["held"]}
    newest = [name for name, fence in fences.items() if fence == max(fences.values())]
    lab.checks.hold("one-holder-by-fencing-token", len(newest) <= 1, f"{newest} all clean up, under {fences}")
    lab.checks.hold(
        "one-holder-in-the-end", len(fences) <= 1, f"{sorted(fences)} still clean up, under {fences}"
    )
