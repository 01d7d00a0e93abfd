"""A random workload: everything about it is drawn from the seed, most seeds lack most things (swarm testing).

Clients of a few users talk, use models, reload, sign in again and vanish, each at its own times, while instances and
Redis fail. Then all faults are healed, whoever lost its connection comes back as real clients do, and what everybody
sees must be the truth, which follows from what was done.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

from sim.client import Client
from sim.evidence import Said, Stay
from sim.lab import Lab
from sim.scenario import scenario

DEEDS = ("say", "touch", "reload", "sign in again", "ask for the list", "be called", "vanish")
FAULTS = (
    "crash", "stall", "cut off from redis", "redis restarts", "redis restarts empty", "redis hangs",
    "redis drops its connections", "clock skew",
)  # fmt: skip
BUSY_SECONDS = 6.0
CALL_SECONDS = 2.0
SETTINGS = {
    # Quick, so that a client which vanished without a word is missed within seconds.
    "websocket_server_ping_interval": 2,
    "websocket_server_ping_timeout": 2,
    "websocket_event_caller_timeout": CALL_SECONDS,
}

LONGEST_FAULT = 8.0
DEAF_SECONDS = 3.0
"""After healing, until every instance hears the others again: messages between them are sent at most once."""

USAGE_SECONDS = 3.0
CHANNEL = "general"
STRANGER = "stranger"


@dataclass(frozen=True)
class Config:
    """What was drawn."""

    instances: int
    clients: tuple[tuple[str, str, str], ...]
    """Of each: name, user, transport."""
    steps: tuple[tuple[float, str, str], ...]
    """When, which client, does what."""
    faults: tuple[tuple[float, str, str, float], ...]
    """When, what, which instance, for how long."""
    stranger: bool
    """Somebody without a token is there, too."""

    def __str__(self) -> str:
        deeds = sorted({deed for _when, _who, deed in self.steps})
        stranger = ", a stranger" if self.stranger else ""
        faults = [f"{what} {host} at {when:.2f}" for when, what, host, _seconds in self.faults]
        polling = sum(transport == "polling" for _name, _user, transport in self.clients)
        users = len({user for _name, user, _transport in self.clients})
        return (
            f"{self.instances} instances, {len(self.clients)} clients of {users} users ({polling} polling){stranger}, "
            f"{len(self.steps)} steps ({', '.join(deeds) or 'none'}), faults: {'; '.join(faults) or 'none'}"
        )


def draw(seed: int) -> Config:
    """The configuration of a seed."""
    dice = random.Random(f"soak {seed}")
    instances = dice.choice((1, 2, 2, 3))
    users = ["ann", "bob", "cat"][: dice.choice((1, 2, 2, 3))]
    polling = dice.choice((0.0, 0.0, 0.3))
    clients = tuple(
        (f"tab-{number}", dice.choice(users), "polling" if dice.random() < polling else "websocket")
        for number in range(1, dice.choice((2, 3, 3, 4)) + 1)
    )
    deeds = [deed for deed in DEEDS if dice.random() < 0.5]
    drawn = sorted(
        (round(dice.uniform(0.0, BUSY_SECONDS), 4), dice.choice(clients)[0], dice.choice(deeds))
        for _ in range(dice.choice((4, 8, 12)) if deeds else 0)
    )
    steps = [step for step in drawn if step[1:] != ("tab-1", "vanish")]  # somebody is left to judge by
    kinds = [kind for kind in FAULTS if dice.random() < 0.4]
    faults = sorted(
        (
            round(dice.uniform(0.0, BUSY_SECONDS), 4),
            dice.choice(kinds),
            f"api-{dice.randint(1, instances)}",
            round(dice.choice((0.1, 1.0, LONGEST_FAULT)) * dice.uniform(0.5, 1.0), 4),
        )
        for _ in range(dice.choice((0, 1, 1, 2, 3)) if kinds else 0)
    )
    return Config(instances, clients, tuple(steps), tuple(faults), dice.random() < 0.3)


@scenario(
    "soak",
    "s",
    "a random workload with random faults; after healing everybody sees the truth",
    reaches=("everybody was back",),
    settings=SETTINGS,
)
async def soak(lab: Lab) -> None:
    config = draw(lab.seed)
    lab.config = str(config)
    await lab.start(*(f"api-{number}" for number in range(1, config.instances + 1)))
    workload = _Workload(lab, config)
    began = lab.now
    work: list[Awaitable[Any]] = [workload.live(name, began) for name, _user, _transport in config.clients]
    work += [workload.harm(began + when, what, host, seconds) for when, what, host, seconds in config.faults]
    if config.stranger:
        await lab.connect(STRANGER, None, "api-1")
    await lab.together(*work)
    await workload.heal()
    await workload.judge()


class _Workload:
    def __init__(self, lab: Lab, config: Config) -> None:
        self._lab = lab
        self._config = config
        self._dice = random.Random(f"soak places {lab.seed}")
        self._tabs = {name: lab.client(name) for name, _user, _transport in config.clients}
        self._users = {name: user for name, user, _transport in config.clients}
        self._transports = {name: transport for name, _user, transport in config.clients}
        self._vanished: set[str] = set()
        self._said: list[Said] = []
        self._stays: list[Stay] = []
        self._answers: dict[str, str] = {}
        for name, tab in self._tabs.items():
            tab.answer = lambda _data, name=name: f"{name} answers"  # type: ignore[misc]

    async def live(self, name: str, began: float) -> None:
        """One client's life: comes, does its steps at their times, and comes back whenever it was cut off."""
        lab, tab = self._lab, self._tabs[name]
        places = random.Random(f"soak {name} {lab.seed}")
        await self._come(name, places)
        deeds: dict[str, Callable[[], Awaitable[object]]] = {
            "say": lambda: self._say(tab),
            "touch": lambda: lab.call(tab, "usage", {"model": places.choice(("m1", "m2"))}),
            "reload": lambda: self._reload(name, places),
            "sign in again": lambda: lab.call(tab, "user-join", {"auth": {"token": self._token(name)}}),
            "ask for the list": lambda: lab.emit(tab, "user-list", {}),
            "be called": lambda: self._call(name, places),
        }
        for when, who, deed in self._config.steps:
            if who != name:
                continue
            await lab.until_time(began + when)
            if deed == "vanish":
                self._vanished.add(name)
                self._ends_stay(name)
                lab.drop(tab, silent=places.random() < 0.5)
                return
            if tab.sid is None:
                await self._come(name, places)
            if tab.sid is not None:
                await deeds[deed]()

    async def harm(self, when: float, what: str, host: str, seconds: float) -> None:
        lab = self._lab
        await lab.until_time(when)
        match what:
            case "crash":
                lab.crash(host)
                await lab.sleep(seconds)
                await lab.start(host)
            case "stall":
                lab.pause(host, seconds)
                await lab.sleep(seconds)
            case "cut off from redis":
                lab.partition(host, "redis")
                await lab.sleep(seconds)
                lab.heal(host, "redis")
            case "redis restarts" | "redis restarts empty":
                lab.restart_redis(keep_data=what == "redis restarts")
            case "redis hangs":
                lab.pause("redis", min(seconds, 4.0))
                await lab.sleep(min(seconds, 4.0))
            case "redis drops its connections":
                lab.drop_redis_connections()
            case "clock skew":
                lab.skew(host, seconds * 100)

    async def heal(self) -> None:
        """Every fault is over by now; whoever was cut off, or finds out only now that it was, comes back."""
        await self._come_back()
        await self._lab.sleep(DEAF_SECONDS)
        await self._come_back()
        if all(self._tabs[name].sid is not None for name in self._present()):
            self._lab.reach("everybody was back")

    async def _come_back(self) -> None:
        lab = self._lab
        for name in self._present():
            places = random.Random(f"soak back {name} {lab.seed}")
            for _attempt in range(20):
                if self._tabs[name].sid is not None:
                    break
                await self._come(name, places)
                await lab.sleep(0.5)

    async def judge(self) -> None:
        lab = self._lab
        present = [self._tabs[name] for name in self._present() if self._tabs[name].sid is not None]
        online = {self._users[tab.name] for tab in present}
        await lab.checks.everyone_sees(present, online, within=10.0)
        for number, tab in enumerate(present):
            await lab.checks.reaches_once(tab, present, f"last {number}")
        lab.checks.nothing_leaks([STRANGER])
        lab.checks.calls_end(self._answers, within=CALL_SECONDS + 0.5 + lab.stalls())
        if not self._config.faults and not self._vanished:
            last = [Said(f"last {number}", tab.name, lab.now) for number, tab in enumerate(present)]
            lab.checks.room_is_right([*self._said, *last], self._stays, event="channel-events")
        if present:
            await lab.call(present[0], "usage", {"model": "last"})
            await lab.checks.models_become(present, {"last"}, within=USAGE_SECONDS + 1.0)
            await lab.checks.models_become(present, set(), within=USAGE_SECONDS + 1.0 + self._late())
        for tab in present:
            shown = await lab.checks.asked_list(tab)
            lab.checks.hold("asked-list-is-right", shown == online, f"{tab.name} is told {sorted(shown)}")

    def _late(self) -> float:
        """A touch that was sent into a partition is carried out when TCP repeats it: as long after the partition as
        that lasted. Whoever sent it was told that its outcome is unknown."""
        cut = [seconds for _when, what, _host, seconds in self._config.faults if what == "cut off from redis"]
        return USAGE_SECONDS + max(cut) if cut else 0.0

    def _present(self) -> list[str]:
        return [name for name in self._tabs if name not in self._vanished]

    async def _come(self, name: str, places: random.Random) -> None:
        running = [host for host, instance in self._lab.instances.items() if instance.running]
        if running:
            transport = self._transports[name]
            host = places.choice(running)
            tab = self._tabs[name]
            if await self._lab.connect_again(tab, self._users[name], host, transport=transport):
                self._stays.append(Stay(name, self._lab.now))
                self._answers[tab.sid or ""] = f"{name} answers"

    async def _reload(self, name: str, places: random.Random) -> None:
        self._ends_stay(name)
        await self._lab.close(self._tabs[name])
        await self._come(name, places)

    async def _say(self, tab: Client) -> None:
        said = Said(f"said {len(self._said) + 1}", tab.name, self._lab.now)
        self._said.append(said)
        payload = {"channel_id": CHANNEL, "data": {"type": "typing", "mark": said.mark}}
        await self._lab.call(tab, "channel-events", payload)

    async def _call(self, name: str, places: random.Random) -> None:
        """Some instance's backend asks the tab something."""
        running = [host for host, instance in self._lab.instances.items() if instance.running]
        if running:
            info = {"user_id": self._users[name], "session_id": self._tabs[name].sid}
            await self._lab.knock(
                places.choice(running), "call", {"request_info": info, "event": {"type": "ask"}}
            )

    def _ends_stay(self, name: str) -> None:
        now = self._lab.now
        self._stays = [
            replace(stay, until=now) if stay.who == name and stay.until > now else stay
            for stay in self._stays
        ]

    def _token(self, name: str) -> str:
        return self._lab.token(self._users[name])
