"""The tour's first half hour: clients come in, learn of each other, and stand in rooms."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

from sim.processes.tour.clients import CONNECTED, Client, Off, PythonClient, short, token_for
from sim.processes.tour.lab import Lab, together
from sim.processes.tour.node import NodeClient
from sim.processes.tour.report import Check, NotRun, Seen


async def servers(lab: Lab) -> Seen:
    down = [server.name for server in lab.servers if not server.ready()]
    if down:
        raise Off("all servers ready", f"{short(down)} not ready")
    return Seen(f"{lab.redis_name} and 3 processes: ready", lab.started_in)


def connects(
    name: str, mode: str, number: int, *, library: type[Client] = PythonClient, diffs: bool = False
) -> Callable[[Lab], Awaitable[Seen]]:
    """Client `name` connects to instance `number` and stays."""

    async def run(lab: Lab) -> Seen:
        if library is NodeClient and lab.no_node:
            raise NotRun(lab.no_node)
        start = time.perf_counter()
        client = lab.client(name, lab.servers[number - 1], mode, library=library, diffs=diffs)
        await client.open()
        lab.usual.append(client)
        first = await client.wait("user-list")
        if name not in first.data["user_ids"]:
            raise Off(f"{name} on its own first list", short(first.data))
        usage = await client.wait("usage")
        if usage.data != {"models": []}:
            raise Off("no model in use yet", short(usage.data))
        taken = max(first.at, usage.at) - start
        wanted = "polling" if mode == "polling" else "websocket"
        await lab.until(f"{name} on {wanted}", client.transport, lambda transport: transport == wanted)
        return Seen(f"{name} on instance-{number}; list: {short(first.data['user_ids'])}", taken)

    return run


async def stranger(lab: Lab) -> Seen:
    """What everyone else hears meanwhile must pass it by; its own ack comes after that would have come."""
    ann, bob = lab.called("ann"), lab.called("bob")
    async with lab.guest("stranger", lab.one, token=token_for("ann") + "forged") as outsider:
        before = len(ann.heard)
        await lab.tell("tell", event="notice", data={"to": "everyone"})
        await bob.call("channel-events", typing("general", message_id="overheard"))
        await ann.wait("notice", after=before)
        await ann.wait("channel-events", lambda data: data.get("message_id") == "overheard", after=before)
        ack = await outsider.call("usage", {"model": "llama"})
        heard = [each.event for each in outsider.heard if each.event != CONNECTED]
    code = error_code(ack)
    if heard or code != "not-authenticated":
        raise Off("silence, and not-authenticated for what it sends", f"{short(heard)}; {short(ack)}")
    return Seen("heard nothing; was answered not-authenticated")


async def same_list(lab: Lab) -> Seen:
    names = [client.name for client in lab.usual]
    await lab.all_online(names, lab.usual)
    return Seen(f"{len(names)} clients on 2 instances hold {short(sorted(names))}")


async def newcomer(lab: Lab) -> Seen:
    names = [client.name for client in lab.usual]
    async with lab.guest("dan", lab.two) as dan:
        start = dan.heard[0].at
        arrived = max(0.0, await lab.all_online([*names, "dan"], [*lab.usual, dan]) - start)
    start = time.perf_counter()
    left = await lab.all_online(names, lab.usual) - start
    return Seen(f"dan: seen coming, and going after {left * 1000:.0f} ms", arrived)


async def two_tabs(lab: Lab) -> Seen:
    marks = {client: len(client.heard) for client in lab.usual}
    async with lab.guest("ann", lab.two):
        await pooled(lab, "ann", 2)
    await pooled(lab, "ann", 1)
    # A client that comes and goes moves the list, so that what the closed tab did to it has been told, too.
    names = [client.name for client in lab.usual]
    async with lab.guest("probe", lab.two):
        await lab.all_online([*names, "probe"], lab.usual)
    await lab.all_online(names, lab.usual)
    for client, mark in marks.items():
        lists = [set(data["user_ids"]) for data in client.of("user-list", after=mark)]
        left = [data for data in client.of("presence-diff", after=mark) if "ann" in data["leaves"]]
        if left or any("ann" not in users for users in lists):
            raise Off("ann online all the time", f"{client.name} heard that ann left")
    return Seen("ann closed one, and was on every list all the time")


async def differences(lab: Lab) -> Seen:
    cleo = lab.called("cleo")
    lists, diffs = cleo.of("user-list"), cleo.of("presence-diff")
    first, versions = lists[0]["version"], [diff["version"] for diff in diffs]
    if len(lists) != 1 or not diffs or versions != sorted(set(versions)) or versions[0] < first:
        raise Off(
            "one list, then differences with growing versions",
            f"{len(lists)} lists, the first of version {first}; differences of versions {versions}",
        )
    return Seen(f"1 list, then {len(diffs)} differences, up to version {versions[-1]}")


async def channel(lab: Lab) -> Seen:
    acks = await together(client.call("join-channels", {"auth": client.auth}) for client in lab.usual)
    wrong = [ack for ack in acks if ack != {"channels": ["general"]}]
    if wrong:
        raise Off("{'channels': ['general']} for each", short(wrong[0]))
    names = sorted(client.name for client in lab.usual)
    await lab.until(
        f"{short(names)} in channel:general",
        lambda: lab.ask("room", name="channel:general"),
        lambda users: users == names,
    )
    return Seen(f"the application counts {len(names)} users in it, on both instances")


async def private_room(lab: Lab) -> Seen:
    ann, bob, cleo = (lab.called(name) for name in ("ann", "bob", "cleo"))
    await lab.tell("enter", room="project", user_ids=["ann", "bob"])
    await lab.until(
        "ann and bob in the room project",
        lambda: lab.ask("room", name="project"),
        lambda users: users == ["ann", "bob"],
    )
    start = time.perf_counter()
    await lab.tell("tell", event="plan", data={"n": 1}, room="project")
    last = max(heard.at for heard in await together([ann.wait("plan"), bob.wait("plan")]))
    await lab.tell("tell", event="after", data={"n": 2}, user_ids=["cleo"])
    await cleo.wait("after")
    if any(client.of("plan") for client in lab.usual if client not in (ann, bob)):
        raise Off("only ann and bob to hear the room", "others heard it, too")
    return Seen("ann and bob heard it, on two instances; nobody else", last - start)


async def pooled(lab: Lab, user: str, sessions: int) -> None:
    """Wait until the shared state has that many sessions of the user."""

    async def count() -> int:
        return len((await lab.ask("pools"))["users"].get(user, ()))

    await lab.until(f"{user}'s sessions in the pool: {sessions}", count, lambda counted: counted == sessions)


def typing(channel_id: str, *, message_id: str) -> dict[str, Any]:
    return {"channel_id": channel_id, "message_id": message_id, "data": {"type": "typing", "typing": True}}


def error_code(ack: Any) -> str:
    """The code of an ack `{"error": {"code", "message"}}`; "no error" for any other."""
    error = ack.get("error") if isinstance(ack, dict) else None
    return str(error.get("code")) if isinstance(error, dict) else "no error"


CHECKS = (
    Check("Start", "Two instances, one Redis", "Each instance is `python -m realtime`, a process.", servers),
    Check(
        "Connect", "Python, websocket", "A signed token signs the socket in.", connects("ann", "websocket", 1)
    ),
    Check(
        "Connect",
        "Python, polling",
        "Long-polling, for networks without websocket.",
        connects("bob", "polling", 2),
    ),
    Check(
        "Connect",
        "Python, polling then websocket",
        "The transport is changed while connected.",
        connects("cleo", "upgrade", 2, diffs=True),
    ),
    Check(
        "Connect",
        "Node, websocket",
        "socket.io-client, as browsers run it.",
        connects("nina", "websocket", 2, library=NodeClient),
    ),
    Check("Connect", "Node, polling", "The same client.", connects("nico", "polling", 1, library=NodeClient)),
    Check(
        "Connect",
        "Node, polling then websocket",
        "What browsers do unless told otherwise.",
        connects("nora", "upgrade", 1, library=NodeClient),
    ),
    Check("Connect", "A forged token", "It must not hear who is here or what is said.", stranger),
    Check("Presence", "One list for all", "Instances share who is online.", same_list),
    Check("Presence", "Somebody comes and goes", "Everyone is told, on both instances.", newcomer),
    Check("Presence", "Two tabs of one user", "Closing one of them is no leaving.", two_tabs),
    Check("Presence", "Differences", "cleo asked for changes, not whole lists.", differences),
    Check("Rooms", "A channel on two instances", "Members are joined by themselves.", channel),
    Check("Rooms", "A room of the application", "What is sent to a room stays in it.", private_room),
)
