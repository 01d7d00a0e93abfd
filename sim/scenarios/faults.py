"""Outages of Redis."""

from __future__ import annotations

from sim.lab import Lab
from sim.scenario import scenario


@scenario(
    "redis-restart",
    "r",
    "Redis comes back empty; all who are connected are online again within five seconds",
    reaches=("restarted empty",),
)
async def redis_restart(lab: Lab) -> None:
    await lab.start("api-1", "api-2")
    watcher = await lab.connect("watcher", "wat", "api-1")
    tab = await lab.connect("ann-1", "ann", "api-2")
    await lab.checks.everyone_sees([watcher, tab], {"wat", "ann"})
    lab.restart_redis(keep_data=False)
    lab.reach("restarted empty")
    await lab.sleep(5.0)
    shown = await lab.checks.asked_list(watcher)
    lab.checks.hold("back-within-five-seconds", shown == {"wat", "ann"}, f"the list is {sorted(shown)}")
    await lab.checks.reaches_once(tab, [watcher, tab], "after")


@scenario(
    "redis-hangs",
    "r",
    "Redis accepts and does not answer: who comes is told in bounded time, who is here still hears its neighbours",
    reaches=("Redis hung",),
)
async def redis_hangs(lab: Lab) -> None:
    await lab.start("api-1", "api-2")
    one = await lab.connect("ann-1", "ann", "api-1")
    two = await lab.connect("bob-1", "bob", "api-1")
    await lab.sleep(1.0)
    lab.pause("redis", 8.0)
    lab.reach("Redis hung")
    await lab.sleep(0.5)
    sent = lab.world.now
    await lab.emit(
        one, "channel-events", {"channel_id": "general", "data": {"type": "typing", "mark": "hung"}}
    )
    await lab.checks.becomes(
        "local-delivery-goes-on",
        lambda: lab.checks.heard(two, "channel-events", lambda d: d["data"].get("mark") == "hung"),
        lambda: f"bob on the same instance heard nothing {lab.world.now - sent:.2f} s after ann spoke",
        within=1.0,
    )
    late = lab.client("eve-1")
    asked = lab.world.now
    let_in = await lab.connect_again(late, "eve", "api-1")
    took = lab.world.now - asked
    lab.checks.hold("connect-is-bounded", let_in or took <= 6.0, f"refused after {took:.2f} s")
    await lab.sleep(9.0)
    await lab.checks.reaches_once(one, [one, two], "healed")
