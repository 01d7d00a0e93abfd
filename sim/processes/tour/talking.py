"""The tour's middle: clients tell each other things, and the application talks to clients."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from sim.processes.tour.clients import Client, Heard, Off, short
from sim.processes.tour.joining import error_code, pooled, typing
from sim.processes.tour.lab import Lab, together
from sim.processes.tour.report import Check, Seen

USAGE_SECONDS = 3.0
"""The layer's default for how long a model is in use after its last touch."""
USAGE_SLACK = 0.8
"""A quarter of a second until the end is told, and what a busy machine takes."""
CALL_AT_ONCE_SECONDS = 2.0


async def typing_reaches(lab: Lab) -> Seen:
    ann = lab.called("ann")
    start = time.perf_counter()
    ack = await ann.call("channel-events", typing("general", message_id="m1"))
    heard = await together(hears(client, "m1") for client in lab.usual)
    taken = max(each.at for each in heard) - start
    await ann.call("channel-events", typing("general", message_id="m2"))
    await together(hears(client, "m2") for client in lab.usual)
    wanted = typing("general", message_id="m1") | {
        "user": {"id": "ann", "name": "ann", "role": "user", "profile_image_url": "/user.png"}
    }
    for client in lab.usual:
        got = [data for data in client.of("channel-events") if data.get("message_id") == "m1"]
        if got != [wanted]:
            raise Off(f"{client.name} to hear it once, with ann's name and picture", short(got))
    if ack is not None:
        raise Off("an empty ack", short(ack))
    return Seen(f"all {len(lab.usual)} clients heard it once, with ann's name", taken)


async def typing_refused(lab: Lab) -> Seen:
    ann, bob = lab.called("ann"), lab.called("bob")
    codes = [
        error_code(await ann.call("channel-events", typing("board", message_id="no"))),
        error_code(await ann.call("channel-events", {"channel_id": 7})),
        error_code(await ann.call("usage", {"model": ["llama"]})),
    ]
    if codes != ["forbidden", "invalid-payload", "invalid-payload"]:
        raise Off("the acks forbidden, invalid-payload, invalid-payload", short(codes))
    await ann.call("channel-events", typing("general", message_id="m3"))
    await hears(bob, "m3")
    if any(data.get("message_id") == "no" for data in bob.of("channel-events")):
        raise Off("a channel that ann is not in to stay silent", "bob heard it")
    return Seen("forbidden, invalid-payload; nothing was sent on")


async def usage_starts(lab: Lab) -> Seen:
    bob = lab.called("bob")
    start = time.perf_counter()
    await bob.call("usage", {"model": "llama"})
    in_use = {"models": ["llama"]}
    heard = await together(
        client.wait("usage", lambda data: data == in_use, what="that llama is in use") for client in lab.usual
    )
    return Seen("everyone was told: llama", max(each.at for each in heard) - start)


async def usage_ends(lab: Lab) -> Seen:
    bob = lab.called("bob")
    marks = [(client, len(client.heard)) for client in lab.usual]
    await asyncio.sleep(1.0)  # Lets time pass, so that this touch does prolong what the one before began.
    start = time.perf_counter()
    await bob.call("usage", {"model": "llama"})
    heard = await together(
        client.wait("usage", lambda data: data == {"models": []}, after=mark, what="that no model is in use")
        for client, mark in marks
    )
    first, last = (pick(each.at for each in heard) - start for pick in (min, max))
    if first < USAGE_SECONDS or last > USAGE_SECONDS + USAGE_SLACK:
        raise Off(
            f"the end {USAGE_SECONDS:g} to {USAGE_SECONDS + USAGE_SLACK:g} s after the last touch",
            f"{first:.2f} to {last:.2f} s",
        )
    for client, mark in marks:
        if (told := client.of("usage", after=mark)) != [{"models": []}]:
            raise Off("only changes to be told", f"{client.name} heard {short(told)}")
    return Seen(f"told {first:.2f} to {last:.2f} s after the last touch", last)


async def emitter(lab: Lab) -> Seen:
    ann = lab.called("ann")
    info = {"user_id": "ann", "session_id": ann.sid, "chat_id": "chat", "message_id": "answer"}
    pieces = ["Once ", "and ", "in order"]
    async with lab.guest("ann", lab.two) as tab:
        await pooled(lab, "ann", 2)
        start = time.perf_counter()
        for piece in pieces:
            await lab.tell("emit", request_info=info, event={"type": "message", "data": {"content": piece}})
        await lab.tell("emit", request_info=info, event={"type": "end", "data": {}})
        ends = await together(
            client.wait("chat-events", lambda data: data["data"]["type"] == "end") for client in (ann, tab)
        )
        for client in (ann, tab):
            events = [data["data"] for data in client.of("chat-events")]
            got = [event["data"]["content"] for event in events if event["type"] == "message"]
            if got != pieces:
                raise Off(f"each piece once, in order, in both tabs of ann: {pieces}", str(got))
    if others := [client.name for client in lab.usual if client is not ann and client.of("chat-events")]:
        raise Off("only ann to hear it", f"{short(others)} heard it")
    taken = (max(end.at for end in ends) - start) / 4
    return Seen("3 pieces, in 2 tabs on 2 instances, once, in order", taken)


async def kept(lab: Lab) -> Seen:
    text = await lab.ask("message", chat_id="chat", message_id="answer")
    if text != "Once and in order":
        raise Off("'Once and in order' in the database", repr(text))
    return Seen(f"in the database: “{text}”")


async def event_call(lab: Lab) -> Seen:
    times = []
    for client in lab.usual:
        start = time.perf_counter()
        told = await lab.tell("call", request_info=info_of(client), event=question(client.name))
        times.append(time.perf_counter() - start)
        if told.get("result") != {"heard": client.name}:
            raise Off(f"{client.name}'s own answer", short(told))
    return Seen(f"each of {len(times)} clients answered; the slowest in", max(times))


async def call_of_a_stranger(lab: Lab) -> Seen:
    bob = lab.called("bob")
    mark = len(bob.heard)
    told = await lab.tell("call", request_info=info_of(bob) | {"user_id": "ann"}, event=question("whose?"))
    if told.get("error") != "forbidden" or bob.of("chat-events", after=mark):
        raise Off("forbidden, and bob not asked", short(told))
    return Seen("forbidden; bob's session was not asked")


async def call_of_the_gone(lab: Lab) -> Seen:
    async with lab.guest("gus", lab.two) as gone:
        await pooled(lab, "gus", 1)
    await pooled(lab, "gus", 0)
    start = time.perf_counter()
    told = await lab.tell("call", request_info=info_of(gone), event=question("still there?"))
    taken = time.perf_counter() - start
    if told.get("error") != "session-gone" or taken > CALL_AT_ONCE_SECONDS:
        raise Off("session-gone at once", f"{short(told)} after {taken:.1f} s")
    return Seen("session-gone; waiting would take 60 s", taken)


async def hears(client: Client, message_id: str) -> Heard:
    """Wait for typing with that message id."""
    return await client.wait(
        "channel-events", lambda data: data.get("message_id") == message_id, what=f"typing ({message_id})"
    )


def info_of(client: Client) -> dict[str, Any]:
    """What a backend module knows of a request."""
    return {"user_id": client.name, "session_id": client.sid, "chat_id": "chat", "message_id": "question"}


def question(text: str) -> dict[str, Any]:
    return {"type": "ask", "data": text}


CHECKS = (
    Check("Typing", "ann types in general", "Every member hears it, on every instance.", typing_reaches),
    Check("Typing", "What is not allowed", "The ack says what is wrong; nothing is sent on.", typing_refused),
    Check("Usage", "bob uses a model", "Who is signed in sees which models are busy.", usage_starts),
    Check("Usage", "bob stops", "A model is in use for 3 s after its last touch.", usage_ends),
    Check("Backend", "Event emitter", "The application streams to all tabs of a user.", emitter),
    Check("Backend", "What was streamed is kept", "A reloaded page finds the whole message.", kept),
    Check("Backend", "Event call", "The application asks one tab and gets its answer.", event_call),
    Check(
        "Backend",
        "A call to a stranger's tab",
        "A request cannot ask another user's browser.",
        call_of_a_stranger,
    ),
    Check(
        "Backend", "A call to a closed tab", "It fails, and does not wait for a time-out.", call_of_the_gone
    ),
)
