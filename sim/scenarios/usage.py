"""Faults of the models in use: shown as unused while used, or used long after."""

from __future__ import annotations

from typing import Any

from sim.client import Client
from sim.lab import Lab
from sim.plan import KILL_CONNECTIONS, REDIS_RESTART, SKEW
from sim.scenario import scenario
from sim.scenarios.stage import STAGGER, Stage

WINDOW = 3.0
"""Seconds for which a touch keeps a model in use."""

LATEST_END = 5.0
"""Seconds after the window by which the end of a use is told by whoever looks every three seconds, on whole seconds."""

TOLD_WITHIN = 0.25
TRIES = 8


class Touch:
    """One touch of a model: it was sent, and it was taken in before its ack came."""

    def __init__(self, stage: Stage, tab: Client, model: str) -> None:
        self._stage = stage
        self._tab = tab
        self._model = model
        self.sent_at = self.acked_at = 0.0

    async def again(self) -> None:
        """As pages do: what failed is tried again, on a new connection where the old one is gone."""
        lab = self._stage.lab
        for _ in range(TRIES):
            self.sent_at = lab.now
            ack = await lab.call(self._tab, "usage", {"model": self._model})
            self.acked_at = lab.now
            if not (isinstance(ack, dict) and "error" in ack):
                lab.reach("touched")
                return
            await lab.sleep(1.0)
            await self._stage.restore()

    def check_in_use(self) -> None:
        """Whoever looks on without a disturbance must be shown the model, unless its user was disturbed."""
        lab, stage = self._stage.lab, self._stage
        if lab.now >= self.sent_at + WINDOW or self._tab not in stage.open(since=self.sent_at):
            return
        for tab in stage.open(since=self.sent_at):
            shown = self._model in lab.checks.models(tab)
            age = lab.now - self.acked_at
            lab.checks.hold(
                "usage-in-use", shown, f"{tab.name} is not shown {self._model}, touched {age:.3f} s ago"
            )

    async def check_over(self, *, within: float = LATEST_END) -> None:
        """When its window has passed, everybody is told within some seconds."""
        lab, stage = self._stage.lab, self._stage
        await lab.until_time(self.acked_at + WINDOW)
        while lab.now < max(self.acked_at + WINDOW, lab.healed_at + WINDOW) + lab.bound(within):
            if not self._shown():
                break
            await lab.sleep(0.01)
        age = lab.now - self.acked_at
        lab.checks.hold(
            "usage-over",
            not self._shown(),
            f"{self._shown()} are shown {self._model}, touched {age:.3f} s ago",
        )
        told = [lab.checks.heard(tab, "usage", self._is_named) for tab in stage.open()]
        if any(told):
            lab.reach("its end was seen")

    def _is_named(self, data: Any) -> bool:
        return isinstance(data, dict) and self._model in data.get("models", ())

    def _shown(self) -> list[str]:
        checks = self._stage.lab.checks
        return [tab.name for tab in self._stage.open() if self._model in checks.models(tab)]


async def touch(stage: Stage, tab: Client, *, after: float = 0.0) -> Touch:
    await stage.lab.sleep(after)
    touched = Touch(stage, tab, "m")
    await touched.again()
    return touched


@scenario(
    "usage-lost-update",
    "r",
    "two tabs on two instances use one model at once; when one leaves, the other still uses it",
    reaches=("touched", "its end was seen"),
)
async def usage_lost_update(lab: Lab) -> None:
    stage = await Stage.of(lab)
    one = await stage.come("ann-1", "ann", "api-1")
    two = await stage.come("bob-1", "bob", "api-2")
    _, used = await lab.together(touch(stage, one), touch(stage, two, after=STAGGER))
    await stage.leave(one)
    await lab.sleep(1.5)
    used.check_in_use()
    await used.check_over()


@scenario(
    "cleanup-eats-fresh-usage",
    "r",
    "a model is touched again at the moment its use would end; it stays in use",
    reaches=("touched", "its end was seen"),
)
async def cleanup_eats_fresh_usage(lab: Lab) -> None:
    stage = await Stage.of(lab)
    tab = await stage.come("ann-1", "ann", "api-2")
    # Between the second touch and what a cleaner that looks every three seconds does at the second look.
    await lab.until_time(2 * WINDOW - WINDOW - 0.05)
    used = await touch(stage, tab)
    await lab.until_time(used.acked_at + WINDOW - 0.003)
    await used.again()
    await lab.sleep(1.5)
    used.check_in_use()
    await used.check_over()


@scenario(
    "cleaner-dies-for-good",
    "r",
    "whatever happened to the cleaner before, the end of a model's use is told",
    reaches=("touched", "its end was seen"),
    faults=(REDIS_RESTART, KILL_CONNECTIONS),
)
async def cleaner_dies_for_good(lab: Lab) -> None:
    stage = await Stage.of(lab)
    tab = await stage.come("ann-1", "ann", "api-2")
    await lab.sleep(2 * WINDOW)
    await stage.restore()
    used = await touch(stage, tab)
    await used.check_over()


@scenario(
    "clock-skew",
    "r",
    "an instance's clock goes wrong; a model that is touched is in use for three seconds all the same",
    reaches=("touched", "its end was seen"),
    faults=(SKEW,),
)
async def clock_skew(lab: Lab) -> None:
    stage = await Stage.of(lab)
    tab = await stage.come("ann-1", "ann", "api-2")
    used = await touch(stage, tab)
    await lab.until_time(used.sent_at + WINDOW - 0.3)
    used.check_in_use()
    await used.check_over()


@scenario(
    "usage-broadcast-storm",
    "d",
    "a model is touched again and again; others are told of its beginning and, in time, of its end, not of each touch",
    reaches=("touched", "its end was seen"),
)
async def usage_broadcast_storm(lab: Lab) -> None:
    stage = await Stage.of(lab)
    tab = await stage.come("ann-1", "ann", "api-2")
    before = lab.checks.heard(stage.watcher, "usage")
    for _ in range(20):
        await lab.emit(tab, "usage", {"model": "m"})
        await lab.sleep(0.1)
    told = lab.checks.heard(stage.watcher, "usage") - before
    lab.checks.hold("told-on-change-only", told <= 4, f"{told} usage events for one change")
    used = await touch(stage, tab)
    await lab.until_time(used.sent_at + WINDOW - 0.05)
    used.check_in_use()
    await used.check_over(within=TOLD_WITHIN)
