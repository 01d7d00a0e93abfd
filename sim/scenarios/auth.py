"""Faults of who is let in, as whom, and for how long."""

from __future__ import annotations

from sim.lab import Lab
from sim.scenario import scenario


@scenario(
    "unauthenticated-listener",
    "d",
    "a socket without a token hears nothing of others, and is closed after a while",
    reaches=("a stranger was connected",),
)
async def unauthenticated_listener(lab: Lab) -> None:
    await lab.start("api-1")
    stranger = await lab.connect("stranger", None, "api-1")
    if stranger.sid is None:
        return
    lab.reach("a stranger was connected")
    tab = await lab.connect("ann-1", "ann", "api-1")
    await lab.call(tab, "usage", {"model": "m"})
    await lab.sleep(1.0)
    heard = [entry.name for entry in lab.history.of("stranger", "event") if entry.name != "closing"]
    lab.checks.hold("strangers-hear-nothing", not heard, f"the stranger heard {heard}")
    await lab.checks.becomes(
        "strangers-are-closed",
        lambda: any(lab.history.of("stranger", "disconnected")),
        lambda: "the stranger is still connected",
        within=16.0,
    )


@scenario(
    "identity-switch",
    "d",
    "a socket joins as another user; it no longer counts as the first, nor hears what is for them",
    reaches=("switched",),
)
async def identity_switch(lab: Lab) -> None:
    await lab.start("api-1")
    watcher = await lab.connect("watcher", "wat", "api-1")
    tab = await lab.connect("ann-1", "ann", "api-1")
    ack = await lab.call(tab, "user-join", {"auth": {"token": lab.token("bob")}})
    if not isinstance(ack, dict) or ack.get("id") != "bob":
        return
    lab.reach("switched")
    await lab.checks.everyone_sees([watcher], {"wat", "bob"})


@scenario(
    "join-twice",
    "d",
    "a connected tab joins again as the same user; when it leaves, the user is offline",
    reaches=("joined again",),
)
async def join_twice(lab: Lab) -> None:
    await lab.start("api-1")
    watcher = await lab.connect("watcher", "wat", "api-1")
    tab = await lab.connect("ann-1", "ann", "api-1")
    ack = await lab.call(tab, "user-join", {"auth": {"token": lab.token("ann")}})
    if not isinstance(ack, dict) or "error" in ack:
        return
    lab.reach("joined again")
    await lab.close(tab)
    await lab.checks.everyone_sees([watcher], {"wat"})


@scenario(
    "token-expires",
    "d",
    "a token ends while its socket is open; the socket is closed soon after",
    reaches=("was connected",),
)
async def token_expires(lab: Lab) -> None:
    await lab.start("api-1")
    tab = lab.client("ann-1")
    if not await lab.connect_with(tab, lab.token("ann", lifetime=5.0), "api-1"):
        return
    lab.reach("was connected")
    await lab.checks.becomes(
        "closed-at-expiry",
        lambda: any(lab.history.of("ann-1", "disconnected")),
        lambda: "the socket is still open",
        within=7.0,
    )


@scenario(
    "connect-races-close",
    "r",
    "a tab is closed while it is being let in; nothing of it stays",
    reaches=("closed while connecting",),
)
async def connect_races_close(lab: Lab) -> None:
    await lab.start("api-1")
    watcher = await lab.connect("watcher", "wat", "api-1")
    tab = lab.client("ann-1")
    connecting = lab.background(lab.connect_again(tab, "ann", "api-1"))
    await lab.sleep(0.0055)
    if not connecting.done():
        lab.reach("closed while connecting")
    lab.drop(tab, silent=False)
    await lab.sleep(1.0)
    await lab.checks.everyone_sees([watcher], {"wat"})
    shown = await lab.checks.asked_list(watcher)
    lab.checks.hold("nothing-stays", shown == {"wat"}, f"the list is {sorted(shown)}")
