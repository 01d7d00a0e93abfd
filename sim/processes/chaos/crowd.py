"""A crowd of real clients that talk and use models all the time, come back whenever they were cut off, and see."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

from sim.client import Client
from sim.history import History
from sim.processes.lab import ProcessLab

LOOK_SECONDS = 0.1
AGAIN_SECONDS = 0.5
COME_SECONDS = 12.0
TOUCH_SECONDS = 1.0
TALK_SECONDS = 0.5
MARKS_KEPT = 400
"""Older ones are not waited for any more."""

SHARED = 5
"""Every so-manieth tab belongs to the user of the one before."""


class Latest(History):
    """Keeps of each client only what it saw last of each event, and who heard which mark: hours must fit in memory."""

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[tuple[str, str], Any] = {}
        self.heard: dict[str, Counter[str]] = {}
        self.twice: list[str] = []
        self.strangers: dict[str, list[str]] = {}
        """What was heard by those who should hear nothing."""

    def add(self, at: float, who: str, what: str, name: str = "", data: Any = None) -> None:
        if what != "event":
            return
        if who in self.strangers:
            if name != "closing":
                self.strangers[who].append(name)
            return
        self._last[who, name] = data
        if name == "channel-events":
            mark = data["data"].get("mark", "")
            heard = self.heard.setdefault(mark, Counter())
            heard[who] += 1
            if heard[who] > 1:
                self.twice.append(f"{who} heard {mark} {heard[who]} times")
            while len(self.heard) > MARKS_KEPT:
                del self.heard[next(iter(self.heard))]

    def last(self, who: str, name: str) -> Any:
        return self._last.get((who, name))


@dataclass(eq=False)
class Member:
    """One tab, its user and its instance."""

    tab: Client
    user: str
    home: str


class Crowd:
    """``size`` tabs, spread over the instances. They are expected to be connected, all but those whose instance is
    ``down``."""

    def __init__(self, lab: ProcessLab, instances: list[str], size: int, dice: random.Random) -> None:
        self.lab = lab
        self.history = Latest()
        lab.history = self.history
        self.members: list[Member] = []
        self.down: set[str] = set()
        self.sent: dict[str, list[tuple[float, str]]] = defaultdict(list)
        """Marks by instance, with the time of sending."""
        self._instances = instances
        self._dice = dice
        self._number = 0
        self._marks = 0
        for _ in range(size):
            self._add()

    async def come(self) -> None:
        """All of them, and a stranger without a token; from then on they do their work."""
        stranger = self.lab.client("stranger")
        self.history.strangers[stranger.name] = []
        await self.lab.connect_again(stranger, None, self._instances[0])
        for member in self.members:
            self.lab.background(self._live(member))
        self.lab.background(self._talk())
        self.lab.background(self._touch())

    def replace(self, member: Member) -> None:
        """Another user takes the place of one who has gone for good."""
        self.members.remove(member)
        self.lab.background(self._live(self._add(member.home)))

    def change(self) -> None:
        """Somebody leaves, and somebody else comes."""
        for member in self.some(1):
            self.lab.background(self._leave(member))
            self.replace(member)

    def some(self, number: int) -> list[Member]:
        present = [member for member in self.members[self._workers :] if member.tab.sid]
        return self._dice.sample(present, min(number, len(present)))

    # What is right

    def expected(self) -> list[Member]:
        return [member for member in self.members if member.home not in self.down]

    def presence_is_right(self) -> bool:
        """All are connected, and hold exactly those who are."""
        online = {member.user for member in self.expected()}
        return all(
            member.tab.sid and self._list(member, "user-list", "user_ids") == online
            for member in self.expected()
        )

    def usage_is_right(self) -> bool:
        used = {_model(member) for member in self._touching() if member.home not in self.down}
        return all(self._list(member, "usage", "models") == used for member in self.expected())

    def delivery_is_right(self, since: float) -> bool:
        """From each instance something that was said since then was heard by all."""
        names = {member.tab.name for member in self.expected()}
        return all(
            any(
                names <= self.history.heard.get(mark, Counter()).keys()
                for at, mark in self.sent[home]
                if at >= since
            )
            for home in self._instances
            if home not in self.down
        )

    def ghosts(self) -> set[str]:
        """Users whom somebody still holds for online though they cannot be."""
        online = {member.user for member in self.expected()}
        return {
            user
            for member in self.expected()
            if member.tab.sid
            for user in self._list(member, "user-list", "user_ids") - online
        }

    def wrong(self) -> str:
        """What is not right, in few words."""
        online = {member.user for member in self.expected()}
        gone = [member.tab.name for member in self.expected() if not member.tab.sid]
        lists = [
            member.tab.name
            for member in self.expected()
            if self._list(member, "user-list", "user_ids") != online
        ]
        used = {_model(member) for member in self._touching() if member.home not in self.down}
        usage = {
            member.tab.name: sorted(self._list(member, "usage", "models") ^ used)
            for member in self.expected()
            if self._list(member, "usage", "models") != used
        }
        return (
            f"not connected: {gone[:5]} ({len(gone)}); wrong lists: {lists[:5]} ({len(lists)}); "
            f"wrong usage: {dict(list(usage.items())[:3])} ({len(usage)})"
        )

    # What they do

    @property
    def _workers(self) -> int:
        """The first of the members, as many as there are instances twice: they talk and use models."""
        return 2 * len(self._instances)

    def _talking(self) -> list[Member]:
        return self.members[: len(self._instances)]

    def _touching(self) -> list[Member]:
        return self.members[: self._workers]

    async def _live(self, member: Member) -> None:
        """As a page does: it connects, and connects again when the connection is lost."""
        lab = self.lab
        while member in self.members:
            if member.tab.sid is None and member.home not in self.down:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(COME_SECONDS):
                        await member.tab.close()
                        if await member.tab.connect(member.home, {"token": lab.token(member.user)}):
                            continue
                await lab.sleep(AGAIN_SECONDS * self._dice.uniform(0.5, 1.5))
            await lab.sleep(LOOK_SECONDS)

    async def _leave(self, member: Member) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(COME_SECONDS):
                await member.tab.close()

    async def _talk(self) -> None:
        while True:
            for member in self._talking():
                if member.tab.sid:
                    self._marks += 1
                    mark = f"{member.home} {self._marks}"
                    self.sent[member.home] = [*self.sent[member.home][-50:], (self.lab.now, mark)]
                    says = {"channel_id": "general", "data": {"type": "typing", "mark": mark}}
                    self.lab.background(member.tab.emit("channel-events", says))
            await self.lab.sleep(TALK_SECONDS)

    async def _touch(self) -> None:
        while True:
            for member in self._touching():
                if member.tab.sid:
                    self.lab.background(member.tab.emit("usage", {"model": _model(member)}))
            await self.lab.sleep(TOUCH_SECONDS)

    def _add(self, home: str = "") -> Member:
        self._number += 1
        shares = self.members and not self._number % SHARED and self._number > self._workers
        user = self.members[-1].user if shares else f"user-{self._number}"
        home = home or self._instances[self._number % len(self._instances)]
        member = Member(self.lab.client(f"tab-{self._number}"), user, home)
        self.members.append(member)
        return member

    def _list(self, member: Member, event: str, key: str) -> set[str]:
        seen = self.history.last(member.tab.name, event)
        return set(seen.get(key, ())) if isinstance(seen, dict) else set()


def _model(member: Member) -> str:
    return f"model of {member.tab.name}"
