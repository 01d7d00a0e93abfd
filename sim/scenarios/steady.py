"""What keeps a scenario going under faults that are not its own: instances are started again, clients come back.

As process managers and clients do. So a plan's crash or stall changes when a scenario gets to what it is about, and not
whether; and what is judged at the end is the healed world.
"""

from __future__ import annotations

from typing import Any

from sim.client import Client, Raw
from sim.lab import Lab

LOOK_SECONDS = 0.25
AGAIN_SECONDS = 0.5
COME_SECONDS = 30.0


async def serve(lab: Lab, *names: str) -> None:
    """Starts instances and keeps them up: one that ends is started again."""
    await lab.start(*names)
    lab.background(_keep_up(lab, names))


async def _keep_up(lab: Lab, names: tuple[str, ...]) -> None:
    while True:
        await lab.sleep(LOOK_SECONDS)
        ended = [name for name in names if lab.instances[name].ended]
        if ended:
            await lab.start(*ended)


async def come(
    lab: Lab, client: Client, user: str | None, at: str, *, reconnection: bool = True, **options: Any
) -> Client:
    """Connects, again and again until let in, and from then on comes back by itself unless it shall not."""
    deadline = lab.now + COME_SECONDS
    while not await lab.connect_again(client, user, at, reconnection=reconnection, **options):
        lab.checks.hold(
            "who-comes-is-let-in",
            lab.now < deadline,
            f"{client.name} was turned away for {COME_SECONDS:g} s",
        )
        await lab.sleep(AGAIN_SECONDS)
    return client


async def watch(lab: Lab, name: str, user: str, at: str) -> Client:
    """A client that is on the list which it holds: one that is not connects again, as a user would reload."""
    client = lab.client(name)
    deadline = lab.now + COME_SECONDS
    while True:
        await come(lab, client, user, at)
        for _look in range(10):
            if user in (lab.checks.online(client) or ()):
                return client
            await lab.sleep(0.1)
        lab.checks.hold("who-comes-is-shown", lab.now < deadline, f"{user} is connected and not online")
        await lab.close(client)


async def come_raw(lab: Lab, raw: Raw, user: str, at: str) -> Raw:
    """The same for a raw client, which does not come back."""
    deadline = lab.now + COME_SECONDS
    while not await lab.connect_raw(raw, user, at):
        lab.checks.hold(
            "who-comes-is-let-in",
            lab.now < deadline,
            f"{raw.name} was turned away for {COME_SECONDS:g} s",
        )
        await lab.sleep(AGAIN_SECONDS)
    return raw


async def join(lab: Lab, client: Client, first: str, then: str, at: str) -> None:
    """Connects as one user and joins as another, or as the same again; from the beginning if that fails.

    It does not come back later: it would come as the first.
    """
    deadline = lab.now + COME_SECONDS
    while True:
        await come(lab, client, first, at, reconnection=False)
        ack = await lab.call(client, "user-join", {"auth": {"token": lab.token(then)}})
        if isinstance(ack, dict) and ack.get("id") == then:
            return
        lab.checks.hold("who-comes-is-let-in", lab.now < deadline, f"user-join as {then} got {ack}")
        await lab.close(client)


async def door_becomes(lab: Lab, invariant: str, at: str, door: str, result: Any, **query: str) -> None:
    """Asks at a door until it answers with this result."""
    seen: list[Any] = [None]

    async def ask() -> None:
        while seen[-1] != {"result": result}:
            await lab.sleep(0.05)
            seen.append((await lab.knock(at, door, None, **query))[1])

    asking = lab.background(ask())
    await lab.checks.becomes(
        invariant,
        lambda: seen[-1] == {"result": result},
        lambda: f"{at} answers {seen[-1]}, expected {result!r}",
        within=10.0,
        after_faults=True,
    )
    asking.cancel()
