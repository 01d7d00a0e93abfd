"""Faults of who is let in, as whom, and for how long."""

from __future__ import annotations

import asyncio

from sim.lab import Lab
from sim.raw_transports import Ended
from sim.scenario import scenario
from sim.scenarios import steady

LEAVES_AFTER = 0.03
"""Seconds from asking to be let in to leaving: enough for any layer that nothing holds up."""


@scenario(
    "unauthenticated-listener",
    "d",
    "a socket without a token, or with a bad one, hears nothing of others and is closed after a while",
    reaches=("strangers were connected",),
)
async def unauthenticated_listener(lab: Lab) -> None:
    await steady.serve(lab, "api-1")
    strangers = [
        await steady.come(lab, lab.client("no-token"), None, "api-1", reconnection=False),
        await steady.come(lab, lab.client("bad-token"), None, "api-1", reconnection=False, token="nonsense"),
    ]
    lab.reach("strangers were connected")
    tab = await steady.come(lab, lab.client("ann-1"), "ann", "api-1")
    await lab.call(tab, "usage", {"model": "m"})
    await lab.sleep(1.0)
    lab.checks.nothing_leaks(stranger.name for stranger in strangers)
    await lab.checks.becomes(
        "strangers-are-closed",
        lambda: not any(stranger.sid for stranger in strangers),
        lambda: f"{[stranger.name for stranger in strangers if stranger.sid]} are still connected",
        within=16.0,
        after_faults=True,
    )
    lab.checks.nothing_leaks(stranger.name for stranger in strangers)


@scenario(
    "identity-switch",
    "d",
    "a socket joins as another user; it no longer counts as the first, nor hears what is for them",
    reaches=("switched",),
)
async def identity_switch(lab: Lab) -> None:
    await steady.serve(lab, "api-1")
    watcher = await steady.come(lab, lab.client("watcher"), "wat", "api-1")
    tab = lab.client("ann-1")
    await steady.join(lab, tab, "ann", "bob", "api-1")
    lab.reach("switched")
    switched = lab.now
    await lab.knock("api-1", "tell", {"event": "private", "data": {"for": "ann"}, "user_ids": ["ann"]})
    await lab.sleep(1.0)
    lab.checks.nothing_leaks([tab.name], event="private", since=switched)
    await lab.checks.everyone_sees([watcher], lambda: {"wat", "bob"} if tab.sid else {"wat"})


@scenario(
    "join-twice",
    "d",
    "a connected tab joins again as the same user; it hears everything once, and when it leaves, the user is offline",
    reaches=("joined again",),
)
async def join_twice(lab: Lab) -> None:
    await steady.serve(lab, "api-1")
    watcher = await steady.come(lab, lab.client("watcher"), "wat", "api-1")
    tab = lab.client("ann-1")
    await steady.join(lab, tab, "ann", "ann", "api-1")
    lab.reach("joined again")
    await lab.knock("api-1", "tell", {"event": "private", "data": {"for": "ann"}, "user_ids": ["ann"]})
    await lab.sleep(1.0)
    times = lab.checks.heard(tab, "private")
    lab.checks.hold("told-once", times <= 1, f"ann's one tab was told {times} times")
    await lab.close(tab)
    await lab.checks.everyone_sees([watcher], {"wat"})


@scenario(
    "token-expires",
    "d",
    "a token ends while its socket is open; the socket is closed soon after",
    reaches=("was signed in",),
)
async def token_expires(lab: Lab) -> None:
    await steady.serve(lab, "api-1")
    tab = lab.client("ann-1")
    for _attempt in range(10):
        lists = lab.checks.heard(tab, "user-list")
        await lab.connect_with(tab, lab.token("ann", lifetime=5.0), "api-1")
        await lab.sleep(0.5)
        # A token that ended before the server had a look at it makes a stranger, who is another scenario's.
        if lab.checks.heard(tab, "user-list") > lists:
            lab.reach("was signed in")
            break
        await lab.close(tab)
    await lab.checks.becomes(
        "closed-at-expiry",
        lambda: tab.sid is None,
        lambda: "the socket is still open",
        within=7.0,
        after_faults=True,
    )


@scenario(
    "connect-races-close",
    "r",
    "tabs are closed while they are being let in, or just after; nothing of them stays",
    reaches=("left",),
)
async def connect_races_close(lab: Lab) -> None:
    """By websocket while ``user-join`` is under way, by polling while the connect handler is."""
    await steady.serve(lab, "api-1")
    tab = await steady.come(lab, lab.client("ann-1"), None, "api-1", reconnection=False)
    lab.background(lab.call(tab, "user-join", {"auth": {"token": lab.token("ann")}}))
    await lab.sleep(LEAVES_AFTER)
    await lab.close(tab)
    await _polls_and_leaves(lab)
    lab.reach("left")
    await lab.sleep(1.0)
    watcher = await steady.watch(lab, "watcher", "wat", "api-1")
    await lab.checks.everyone_sees([watcher], {"wat"})


async def _polls_and_leaves(lab: Lab) -> None:
    raw = lab.raw("bob-1")
    host, port = lab.place(raw, "api-1")
    for _attempt in range(20):
        try:
            await lab.do(raw, raw.client.open(host, port, transport="polling"))
            break
        except Ended:
            await lab.sleep(0.5)
    joining = lab.background(lab.do(raw, raw.client.join({"token": lab.token("bob")})))
    await lab.sleep(LEAVES_AFTER)
    leaving = lab.background(lab.do(raw, raw.client.close()))
    await asyncio.gather(joining, leaving, return_exceptions=True)


@scenario(
    "handler-error-half-open",
    "r",
    "whoever cannot be let in is refused or closed; no socket stays open for somebody who is not registered",
    reaches=("tried to connect",),
)
async def handler_error_half_open(lab: Lab) -> None:
    await steady.serve(lab, "api-1")
    tab = lab.client("ann-1")
    await lab.connect_again(tab, "ann", "api-1")
    lab.reach("tried to connect")
    watcher = await steady.watch(lab, "watcher", "wat", "api-1")
    await lab.checks.becomes(
        "open-means-registered",
        lambda: tab.sid is None or "ann" in (lab.checks.online(watcher) or ()),
        lambda: f"ann's socket is open, the list is {sorted(lab.checks.online(watcher) or ())}",
        within=10.0,
        after_faults=True,
    )
