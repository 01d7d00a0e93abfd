"""Faults of event calls: what other backend modules ask of a user's tab."""

from __future__ import annotations

import asyncio
from typing import Any

from sim.lab import Lab
from sim.scenario import scenario
from sim.scenarios import steady

CALL_SECONDS = 1.0
"""The time-out of calls where a scenario waits for it."""

CALLS = 3
SLACK_SECONDS = 0.5
GONE_SECONDS = 10.0
"""Within which a call to a session that is no more has ended: the lease of a dead instance is shorter."""


def call(user: str, session: str | None) -> dict[str, Any]:
    return {"request_info": {"user_id": user, "session_id": session}, "event": {"type": "ask"}}


@scenario(
    "forged-session-id",
    "d",
    "a call names a session of somebody else; that tab is not asked, and the caller is told",
    reaches=("a forged call was made",),
)
async def forged_session_id(lab: Lab) -> None:
    await steady.serve(lab, "api-1", "api-2")
    victim = lab.client("bob-1")
    victim.answer = lambda _data: "bob's secret"
    await steady.come(lab, lab.client("ann-1"), "ann", "api-1")
    for _attempt in range(10):
        if victim.sid is None:
            await steady.come(lab, victim, "bob", "api-2", reconnection=False)
        status, _answer = await lab.knock("api-1", "call", call("ann", victim.sid))
        if status:
            lab.reach("a forged call was made")
            break
        await lab.sleep(1.0)
    await lab.knock("api-1", "emit", call("ann", victim.sid))
    await lab.sleep(1.0)
    lab.checks.nothing_leaks([victim.name], event="chat-events")
    lab.checks.calls_end({}, within=60.0 + SLACK_SECONDS)


@scenario(
    "call-timeout-leak",
    "d",
    "a tab on another instance never answers; each call ends in time with a typed error, and nothing is kept",
    reaches=("calls ended",),
    settings={"websocket_event_caller_timeout": CALL_SECONDS},
)
async def call_timeout_leak(lab: Lab) -> None:
    await steady.serve(lab, "api-1", "api-2")
    await steady.come(
        lab, lab.client("bob-1"), "bob", "api-1"
    )  # a stock manager listens from the first client on
    mute = lab.raw("ann-1")
    mute.client.answers_calls = False
    ended = 0
    for _attempt in range(10):
        if mute.client.sid is None:
            await steady.come_raw(lab, mute, "ann", "api-2")
        status, _answer = await lab.knock("api-1", "call", call("ann", mute.client.sid))
        ended += status > 0
        if ended == CALLS:
            lab.reach("calls ended")
            break
        if not status:
            await lab.sleep(steady.AGAIN_SECONDS)
    lab.checks.calls_end({}, within=CALL_SECONDS + SLACK_SECONDS + lab.stalls())
    await steady.door_becomes(lab, "nothing-is-kept-of-calls", "api-1", "waiting", 0)
    # Where the tab is, what was asked by an instance that died may be kept for as long as the tab.
    await lab.do(mute, mute.client.vanish())
    await steady.door_becomes(lab, "nothing-is-kept-of-calls", "api-2", "waiting", 0)


@scenario(
    "call-to-the-dead",
    "d",
    "a tab is called and closes; the caller is told long before the call's time is over, and the next at once",
    reaches=("closed while it was asked",),
)
async def call_to_the_dead(lab: Lab) -> None:
    await steady.serve(lab, "api-1", "api-2")
    await steady.come(lab, lab.client("bob-1"), "bob", "api-1")
    tab = lab.raw("ann-1")
    tab.client.answers_calls = False
    for _attempt in range(10):
        await steady.come_raw(lab, tab, "ann", "api-2")
        sid = tab.client.sid
        asking = lab.background(lab.knock("api-1", "call", call("ann", sid)))
        await lab.sleep(0.5)
        if lab.checks.count(tab.name, "chat-events") and tab.client.sid and not asking.done():
            lab.reach("closed while it was asked")
            break
    await lab.do(tab, tab.client.vanish())
    await _ends(lab, asking, "the caller who asked before")
    await _ends(lab, lab.background(lab.knock("api-1", "call", call("ann", sid))), "who asked then")
    lab.checks.calls_end({}, within=60.0)


async def _ends(lab: Lab, asking: asyncio.Task[Any], who: str) -> None:
    await lab.checks.becomes(
        "calls-to-the-gone-end",
        asking.done,
        lambda: f"{who} still waits for a tab that is closed",
        within=GONE_SECONDS,
        after_faults=True,
    )
