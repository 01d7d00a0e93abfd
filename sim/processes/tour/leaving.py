"""The tour's end: clients leave, tokens run out, instances are stopped and killed, and nothing is left behind."""

from __future__ import annotations

import asyncio
import signal
import time

from sim.processes.instances import Instance
from sim.processes.tour.clients import CONNECTED, DISCONNECTED, Client, Off, PythonClient, short, token_for
from sim.processes.tour.lab import Lab, together
from sim.processes.tour.node import NodeClient
from sim.processes.tour.report import Check, Seen

TOKEN_SECONDS = 2.5
"""Enough for a client in Node.js to start and to connect."""
DRAIN_SECONDS = 4.0
"""Much less than a lease: who is drained must not be left to expire."""
GHOST_SECONDS = 10.0
BACK_SECONDS = 5.0


async def leaves(lab: Lab) -> Seen:
    names = [client.name for client in lab.usual]
    async with lab.guest("eve", lab.one, "polling") as eve:
        await lab.all_online([*names, "eve"], lab.usual)
        await eve.call("usage", {"model": "mistral"})
        await together(
            client.wait("usage", lambda data: "mistral" in data["models"], what="that mistral is in use")
            for client in lab.usual
        )
        marks = [(client, len(client.heard)) for client in lab.usual]
        start = time.perf_counter()
    last = await lab.all_online(names, lab.usual)
    ends = await together(
        client.wait("usage", lambda data: data == {"models": []}, after=mark, what="that no model is in use")
        for client, mark in marks
    )
    late = max(each.at for each in ends) - start
    if late > 2.0:
        raise Off("the model that eve used to be free at once", f"only after {late:.1f} s")
    return Seen("off every list; eve's model is free, too", max(last, *(each.at for each in ends)) - start)


async def token_ends(lab: Lab) -> Seen:
    libraries: list[type[Client]] = [PythonClient] if lab.no_node else [PythonClient, NodeClient]
    ends = time.perf_counter() + TOKEN_SECONDS
    short_lived = [
        lab.client(
            "tim", lab.one, "websocket", library=library, token=token_for("tim", expires_in=TOKEN_SECONDS)
        )
        for library in libraries
    ]
    await together(client.open() for client in short_lived)
    closed = await together(
        client.wait("closing", lambda data: data["code"] == 4001, what="closing 4001")
        for client in short_lived
    )
    await together(client.wait(DISCONNECTED, what="its own disconnect") for client in short_lived)
    late = max(each.at for each in closed) - ends
    await asyncio.sleep(0.7)  # Twice the longest delay after which these clients would come back.
    back = [client for client in short_lived if len(client.of(CONNECTED)) > 1]
    await together(client.close() for client in short_lived)
    if back:
        raise Off("clients that stay away", f"{len(back)} came back with a token that is over")
    return Seen(
        f"closing {closed[0].data['code']}, “{closed[0].data['reason']}”; nobody came back", max(0.0, late)
    )


async def drains(lab: Lab) -> Seen:
    return await _stops(lab, lab.one, lab.two)


async def _stops(lab: Lab, instance: Instance, other: Instance) -> Seen:
    going, staying = lab.at(instance), lab.at(other)
    marks = [(client, len(client.heard)) for client in going]
    start = time.perf_counter()
    stopping = asyncio.create_task(asyncio.to_thread(instance.terminate))
    try:
        last = await lab.all_online([client.name for client in staying], staying, within=DRAIN_SECONDS)
        await together(
            client.wait("closing", lambda data: data["code"] == 4010, after=mark, what="closing 4010")
            for client, mark in marks
        )
    finally:
        status = await stopping
    if status not in (0, -signal.SIGTERM):
        raise Off(f"exit status 0 or {-signal.SIGTERM}", str(status))
    names = short([client.name for client in going])
    return Seen(f"{names}: told why (4010), off every list", last - start)


async def returns_to_one(lab: Lab) -> Seen:
    return await _comes_back(lab, lab.one)


async def returns_to_two(lab: Lab) -> Seen:
    return await _comes_back(lab, lab.two)


async def _comes_back(lab: Lab, instance: Instance) -> Seen:
    """Starts it again on its port; its clients come by themselves."""
    counts = [(client, len(client.of(CONNECTED))) for client in lab.at(instance)]
    await asyncio.to_thread(instance.start)
    start = time.perf_counter()
    for client, count in counts:
        await lab.until(
            f"{client.name} connected again",
            lambda client=client: _connections(client),  # type: ignore[misc]
            lambda connections, count=count: connections > count,  # type: ignore[misc]
            within=BACK_SECONDS,
        )
    last = await lab.all_online([client.name for client in lab.usual], lab.usual, within=BACK_SECONDS)
    names = short([client.name for client, _ in counts])
    return Seen(f"{names} came by themselves; lists are whole", max(0.0, last - start))


async def _connections(client: Client) -> int:
    return len(client.of(CONNECTED))


async def killed(lab: Lab) -> Seen:
    survivors = lab.at(lab.one)
    ghosts = short([client.name for client in lab.at(lab.two)])
    start = time.perf_counter()
    await asyncio.to_thread(lab.two.kill)
    last = await lab.all_online([client.name for client in survivors], survivors, within=GHOST_SECONDS)
    return Seen(f"{ghosts}: off every list once its lease ended", last - start)


async def pools(lab: Lab) -> Seen:
    names = {client.sid: client.name for client in lab.usual}

    async def wrong() -> list[str]:
        """What the pools have too much or too little."""
        pools = await lab.ask("pools")
        held = [sid for sids in pools["users"].values() for sid in sids]
        told = [f"{names.get(sid, 'an unknown session')} {held.count(sid)} times" for sid in {*names, *held}]
        told = [each for each in told if not each.endswith(" 1 times") or each.startswith("an unknown")]
        told += ["sessions of no user"] if sorted(pools["sessions"]) != sorted(held) else []
        return told + [f"{model} in use" for model in pools["usage"]]

    await lab.until("one session of each client and no model in use", wrong, lambda found: not found)
    return Seen(f"{len(names)} users with one session each, no model in use")


async def logs(lab: Lab) -> Seen:
    lines = [(server.name, line) for server in lab.servers for line in server.log.splitlines()]
    for name, line in lines:
        if " ERROR " in line or " CRITICAL " in line or "Traceback" in line:
            raise Off("no error in any log", f"{name}: {line}")
    return Seen(f"{len(lines)} lines, no error, no traceback")


CHECKS = (
    Check("Leave", "A client leaves", "List and models in use follow at once.", leaves),
    Check("Leave", "A token runs out", "The socket is closed, and told not to come back.", token_ends),
    Check("Instances", "SIGTERM to instance-1", "It lets its clients go gently before it ends.", drains),
    Check(
        "Instances",
        "instance-1 is started again",
        "Its clients reconnect; nobody is counted twice.",
        returns_to_one,
    ),
    Check("Instances", "kill -9 of instance-2", "Nobody says goodbye; its lease runs out.", killed),
    Check("Instances", "instance-2 is started again", "The same, after a crash.", returns_to_two),
    Check("At the end", "The shared state", "What Redis holds is who is connected.", pools),
    Check("At the end", "The logs", "Nothing went wrong unnoticed.", logs),
)
