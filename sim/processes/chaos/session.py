"""One fault after the other, each with the times until presence, usage and delivery were right again."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sim.processes.chaos.crowd import Crowd
from sim.processes.chaos.faults import KINDS, OF_THE_SERVER, SIGKILL, Scene
from sim.processes.lab import ProcessLab

COME_WITHIN = 60.0
GHOSTS_WITHIN = 10.0
RIGHT_WITHIN = 15.0
"""After a fault: clients notice the loss of a connection within some seconds, and come back then."""

POLL_SECONDS = 0.05
CHANGE_SECONDS = 0.5
"""While a fault lasts, somebody leaves and somebody else comes so often; before and after it once."""

STAYS_SECONDS = 1.0
"""What was right for so long after a fault is taken to stay right: an effect that is still to come shows by then."""

SETTINGS = {
    # Quick, so that a client which vanished without a word is missed within seconds.
    "websocket_server_ping_interval": 2,
    "websocket_server_ping_timeout": 2,
}
MEASURES = PRESENCE, USAGE, DELIVERY = ("presence", "usage", "delivery")


@dataclass
class Struck:
    """One fault. ``at``: when it struck, seconds since the beginning; ``lasted``: seconds until it was healed;
    ``right``: seconds from then until presence, usage and delivery were right to stay; ``ghosts``: from a SIGKILL until
    nobody held its users for online, if it came to that in time."""

    number: int
    kind: str
    what: str
    at: float
    lasted: float = 0.0
    right: dict[str, float] = field(default_factory=dict)
    ghosts: float | None = None


class _Looks:
    """Looks at what clients see, again and again, from the end of a fault on, and knows when it was last wrong."""

    def __init__(self, crowd: Crowd) -> None:
        self._crowd = crowd
        self.since = crowd.lab.now
        self.last: dict[str, float] = {}

    def look(self) -> list[str]:
        """What is wrong just now."""
        crowd, now = self._crowd, self._crowd.lab.now
        wrong = [] if crowd.presence_is_right() else [PRESENCE]
        wrong += [] if crowd.usage_is_right() else [USAGE]
        if not crowd.delivery_is_right(self.since):
            wrong.append(DELIVERY)
        self.last.update(dict.fromkeys(wrong, now))
        return wrong

    @property
    def right_for(self) -> float:
        """Seconds for which nothing has been wrong."""
        return self._crowd.lab.now - max(self.since, *self.last.values(), 0.0)

    def took(self) -> dict[str, float]:
        return {name: round(max(0.0, self.last.get(name, 0.0) - self.since), 3) for name in MEASURES}


@dataclass
class Session:
    """``broken``: a sentence for each invariant that did not hold."""

    faults: int
    instances: int
    clients: int
    seed: int
    struck: list[Struck] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    interrupted: bool = False
    left_out: list[str] = field(default_factory=list)
    """Kinds of faults."""
    failed: str = ""
    """Why the lab could not go on."""
    seconds: float = 0.0

    async def run(
        self,
        *,
        redis_url: str | None = None,
        redis_binary: Path | None = None,
        watch: Callable[[Session], None] = lambda _session: None,
    ) -> None:
        """``watch`` is called after each fault and now and then; what it raises ends the session. Raises
        ``SimulatorError`` or ``ProcessError`` when the lab itself cannot go on."""
        dice = random.Random(self.seed)
        lab = ProcessLab("realtime", settings=SETTINGS, redis_url=redis_url, redis_binary=redis_binary)
        self.left_out = sorted(OF_THE_SERVER) if redis_url else []
        kinds = [kind for kind in KINDS if kind not in self.left_out]
        names = [f"api-{number}" for number in range(1, self.instances + 1)]
        async with lab.opened(), self._timed(lab):
            await lab.start(*names)
            crowd = Crowd(lab, names, self.clients, dice)
            await crowd.come()
            looks = _Looks(crowd)
            if await self._all_right(crowd, looks, COME_WITHIN, "at the beginning", lambda: watch(self)):
                for number, kind in enumerate(itertools.islice(drawn(dice, kinds), self.faults), start=1):
                    scene = Scene(lab, crowd, dice.choice(names), dice)
                    await self._strike(number, kind, scene, lambda: watch(self))
                    watch(self)
            self._judge(crowd)

    @contextlib.asynccontextmanager
    async def _timed(self, lab: ProcessLab) -> AsyncIterator[None]:
        try:
            yield
        finally:
            self.seconds = round(lab.now, 1)

    async def _strike(self, number: int, kind: str, scene: Scene, watch: Callable[[], None]) -> None:
        lab, crowd = scene.lab, scene.crowd
        began = lab.now
        crowd.change()
        striking = asyncio.ensure_future(KINDS[kind](scene))
        try:
            while not striking.done():
                watch()
                await asyncio.wait([striking], timeout=CHANGE_SECONDS)
                crowd.change()
            what = striking.result()
        finally:
            striking.cancel()
        struck = Struck(number, kind, what, round(began, 3))
        if kind == SIGKILL:
            await self._ghosts_go(struck, scene, watch)
        struck.lasted = round(lab.now - began, 3)
        looks = _Looks(crowd)
        await self._all_right(crowd, looks, RIGHT_WITHIN, f"after #{number}, {kind}: {what}", watch)
        struck.right = looks.took()
        self.struck.append(struck)

    async def _ghosts_go(self, struck: Struck, scene: Scene, watch: Callable[[], None]) -> None:
        lab, crowd = scene.lab, scene.crowd
        while crowd.ghosts() and lab.now < struck.at + lab.bound(GHOSTS_WITHIN):
            watch()
            await asyncio.sleep(POLL_SECONDS)
        if not (ghosts := crowd.ghosts()):
            struck.ghosts = round(lab.now - struck.at, 3)
        else:
            self.broken.append(
                f"#{struck.number}: {len(ghosts)} ghosts {GHOSTS_WITHIN:g} s after a SIGKILL: {sorted(ghosts)[:5]}"
            )
        await lab.start(scene.instance)
        crowd.down.discard(scene.instance)

    async def _all_right(
        self, crowd: Crowd, looks: _Looks, within: float, when: str, watch: Callable[[], None]
    ) -> bool:
        """Waits until all is right and stays so; whether it came to that."""
        lab = crowd.lab
        while True:
            wrong = looks.look()
            if not wrong and looks.right_for >= STAYS_SECONDS:
                return True
            if wrong and lab.now > looks.since + lab.bound(within):
                self.broken.append(
                    f"{when}: {', '.join(wrong)} not right after {within:g} s; {crowd.wrong()}"
                )
                return False
            watch()
            await asyncio.sleep(POLL_SECONDS)

    def _judge(self, crowd: Crowd) -> None:
        """What must hold all the time."""
        self.broken += [f"heard twice: {said}" for said in crowd.history.twice[:5]]
        self.broken += [
            f"{who} has no token and heard {sorted(set(heard))}"
            for who, heard in crowd.history.strangers.items()
            if heard
        ]


def drawn(dice: random.Random, kinds: Sequence[str]) -> Iterator[str]:
    """Kinds in random order: all of them, then all of them again in another."""
    while True:
        yield from dice.sample(kinds, len(kinds))
