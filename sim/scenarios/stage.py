"""What most scenarios begin with and are judged by: two instances, a watcher, and who is really there.

What is expected follows from the tabs that are open at that moment, so that a scenario means something whatever a
plan does to its hosts: a tab whose instance was killed is gone until it comes back. What is done here only to judge,
or because something failed, is no action of the scenario: shrinking does not leave it out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sim.client import Client
from sim.lab import Lab

STAGGER = 0.03
"""Seconds between two things that happen at once for a person: longer than either takes if nothing is in its way."""

AGAIN_SECONDS = 1.0
ATTEMPTS = 12
GHOST_SECONDS = 10.0
"""How long the users of an instance that was killed may be shown."""

REST_SECONDS = 2.0
"""How long what nothing disturbs may take to be seen everywhere; holds of up to a second are no disturbance."""


class Stage:
    """The tabs of one lab, each with its user and the instance that it was let in by."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self._users: dict[Client, str] = {}
        self._homes: dict[Client, str] = {}
        self._hosts: dict[Client, str] = {}
        self._left: set[Client] = set()
        self._said = 0

    @classmethod
    async def of(cls, lab: Lab, *instances: str) -> Stage:
        """Starts them (``api-1`` and ``api-2`` if none are named); somebody watches at the first."""
        names = instances or ("api-1", "api-2")
        await lab.start(*names)
        stage = cls(lab)
        await stage.come("watcher", "wat", names[0])
        return stage

    @property
    def watcher(self) -> Client:
        return self.lab.client("watcher")

    async def come(self, name: str, user: str, at: str, *, after: float = 0.0) -> Client:
        """A tab is opened, as pages do: sent away, it tries again, at another instance if its own is gone."""
        lab, tab = self.lab, self.lab.client(name)
        self._users[tab] = user
        self._homes[tab] = at
        await lab.sleep(after)
        host, actions = await self._serving(at), len(lab.actions)
        if await lab.connect_again(tab, user, host):
            self._hosts[tab] = host
        elif len(lab.actions) > actions:
            await lab.sleep(AGAIN_SECONDS)
            await self._come_back(tab, at)
        else:
            self._left.add(tab)
        await lab.sleep(STAGGER)
        return tab

    async def leave(self, tab: Client, *, after: float = 0.0) -> None:
        await self.lab.sleep(after)
        self._left.add(tab)
        await self.lab.close(tab)

    async def restore(self) -> None:
        """As supervisors and pages do: whoever crashed is started again, stalls end, every tab is back in its place."""
        await self.lab.until_time(self.lab.healed_at)
        gone = [name for name, instance in self.lab.instances.items() if not instance.running]
        if gone:
            await self.lab.start(*gone)
        for tab, home in self._homes.items():
            if tab in self._left or (tab.sid and self._hosts[tab] == home):
                continue
            await self.lab.do(tab, tab.close())
            await self._come_back(tab, home)

    async def calm(self, seconds: float) -> None:
        """Waits until nothing has been disturbed for so long."""
        since = self.lab.now
        while (until := max(since, self.lab.healed_at) + seconds) > self.lab.now:
            await self.lab.until_time(until)

    def open(self, *, since: float | None = None) -> list[Client]:
        """Tabs that are connected now; with ``since``, at instances that nothing disturbed since then."""
        return [
            tab
            for tab, host in self._hosts.items()
            if tab.sid and (since is None or self.lab.steady(host, since))
        ]

    def online(self, *, since: float | None = None) -> set[str]:
        return {self._users[tab] for tab in self.open(since=since)}

    async def agree(self, *, within: float = GHOST_SECONDS, ask: bool = False) -> None:
        """Every open tab comes to hold exactly those who have one, ``within`` seconds after the last fault; with
        ``ask``, whoever asks is told so too."""
        await self._somebody_watches()

        def evidence() -> str:
            online, held = self.online(), {tab.name: self.lab.checks.online(tab) for tab in self.open()}
            wrong = [f"{name} holds {sorted(seen or ())}" for name, seen in held.items() if seen != online]
            return f"{'; '.join(wrong)}; online are {sorted(online)}"

        await self._becomes(
            "presence-converges",
            lambda: all(self.lab.checks.online(tab) == self.online() for tab in self.open()),
            evidence,
            within=within,
        )
        if ask:
            await self._agree_when_asked(within)

    async def hear_each_other(self, *, within: float = 10.0) -> None:
        """What a tab says reaches all open tabs, once; what is said while something is broken may be lost."""
        await self._somebody_watches()
        lab, asked_at = self.lab, self.lab.now
        while True:
            self._said += 1
            speaker, hearers, mark = self.open()[-1], self.open(), f"said {self._said}"
            began = lab.now
            await self._emit(speaker, "channel-events", says(mark))
            await lab.sleep(0.5)
            heard = {tab.name: lab.checks.heard(tab, "channel-events", is_marked(mark)) for tab in hearers}
            lab.checks.hold("at-most-once", max(heard.values()) <= 1, f"{mark} was heard {heard}")
            if all(heard.values()) or lab.now >= self._deadline(asked_at, within):
                break
            await lab.until_time(began + AGAIN_SECONDS)
            await self._somebody_watches()
        lab.checks.hold("message-reaches-members", all(heard.values()), f"{mark} of {speaker.name}: {heard}")

    async def talk(self, times: int = 8) -> None:
        """The watcher types for a while: something goes through Redis, at which faults may come."""
        for _ in range(times):
            self._said += 1
            await self.lab.emit(self.watcher, "channel-events", says(f"said {self._said}"))
            await self.lab.sleep(0.1)

    async def look(self, instance: str, door: str) -> Any:
        """What a target's door says; None where there is no such door, or the instance cannot answer."""
        lab = self.lab
        try:
            status, body = await lab.peek(instance, door, timeout=1.0)
        except (OSError, TimeoutError, EOFError, IndexError):
            return None
        lab.reach(f"looked at {door}")
        return body["result"] if status == 200 and isinstance(body, dict) else None

    async def _agree_when_asked(self, within: float) -> None:
        asked_at = self.lab.now
        while True:
            await self._somebody_watches()
            asked = self.open()[0]
            before = self.lab.checks.heard(asked, "user-list")
            await self._emit(asked, "user-list", {})
            await self.lab.sleep(0.5)
            shown = self.lab.checks.online(asked) or set()
            answered = self.lab.checks.heard(asked, "user-list") > before
            right = answered and shown == self.online()
            if right or self.lab.now >= self._deadline(asked_at, within):
                break
        self.lab.checks.hold(
            "asked-list-is-right",
            right,
            f"{asked.name} is told {sorted(shown) if answered else 'nothing'}, online are {sorted(self.online())}",
        )

    async def _somebody_watches(self) -> None:
        if not self.open():
            await self._come_back(self.watcher, self._homes[self.watcher])

    async def _come_back(self, tab: Client, at: str) -> None:
        lab = self.lab
        for _attempt in range(ATTEMPTS):
            host = await self._serving(at)
            auth = {"token": lab.token(self._users[tab])}
            if await lab.do(tab, tab.connect(host, auth)):
                self._hosts[tab] = host
                return
            await lab.sleep(AGAIN_SECONDS)

    async def _emit(self, tab: Client, event: str, data: Any) -> None:
        await self.lab.do(tab, tab.emit(event, data))

    async def _serving(self, wanted: str) -> str:
        """The wanted instance, another one where it is gone, or the wanted one started again where all are."""
        running = [name for name, instance in self.lab.instances.items() if instance.running]
        if not running:
            await self.lab.start(wanted)
        return wanted if wanted in running or not running else running[0]

    def _deadline(self, asked_at: float, within: float) -> float:
        if not all(instance.running for instance in self.lab.instances.values()):
            within = max(within, GHOST_SECONDS)
        return max(asked_at + self.lab.bound(REST_SECONDS), self.lab.healed_at + self.lab.bound(within))

    async def _becomes(
        self, invariant: str, true: Callable[[], bool], evidence: Callable[[], str], *, within: float
    ) -> None:
        lab, asked_at = self.lab, self.lab.now
        while not true() and lab.now < self._deadline(asked_at, within):
            await lab.sleep(0.01)
        lab.checks.hold(invariant, true(), evidence)


def says(mark: str) -> dict[str, Any]:
    """A channel message that can be told from others."""
    return {"channel_id": "general", "data": {"type": "typing", "mark": mark}}


def is_marked(mark: str) -> Callable[[Any], bool]:
    return lambda data: isinstance(data, dict) and data["data"].get("mark") == mark
