"""An instance's copy of who is online and which models are in use, kept by versions.

Changes are applied in the order of their versions. A gap, a reconnect, another epoch, or a renewal that shows a later
version than the copy's leads to a snapshot. A version that went back (a replica of Redis took over without the last
writes) begins a new epoch.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from realtime.errors import StateUnavailable
from realtime.histogram import Histogram
from realtime.state import Change, Snapshot, State

log = logging.getLogger(__name__)

MOST_PENDING = 10_000
PRESENCE_LAGS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SETTLE_SECONDS = 0.2
"""How long a change may be under way on the subscription before its absence counts as a loss."""


@dataclass(frozen=True, slots=True)
class Difference:
    """What became different, from one change or from a snapshot. ``fresh``: the epoch is new, or it is the first."""

    joins: frozenset[str] = frozenset()
    leaves: frozenset[str] = frozenset()
    models_changed: bool = False
    rooms_changed: bool = False
    reaped: tuple[str, ...] = ()
    revoked_tokens: tuple[str, ...] = ()
    revoked_users: tuple[str, ...] = ()
    fresh: bool = False
    missed: bool = False
    """Changes were missed: revocations and reaped leases among them are unknown."""


class Replica:
    """``on_difference`` is called, synchronously, after each step that changed the copy. ``now``: the state's time, in
    seconds."""

    def __init__(
        self,
        state: State,
        on_difference: Callable[[Difference], None],
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._state = state
        self._on_difference = on_difference
        self._now = now
        self.epoch = ""
        self.version = 0
        self.users: set[str] = set()
        self.models: set[str] = set()
        self.counts: Counter[str] = Counter()
        """How often a safeguard worked: stale, gap, snapshot, rollback."""
        self.lag = Histogram(PRESENCE_LAGS)
        """Seconds from each change of who is online, of any instance, until it was applied here."""
        self._pending: dict[int, Change] = {}
        self._wanted = asyncio.Event()
        self._adopted = asyncio.Event()
        self._waiting: dict[int, asyncio.Event] = {}
        self._heard = ("", 0)
        state.listen(self.apply, self._missed_some)

    async def run(self) -> None:
        """Takes a snapshot whenever one is wanted, until cancelled."""
        failures = 0
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            try:
                await self._synchronise()
                failures = 0
            except StateUnavailable as error:
                log.log(
                    logging.DEBUG if failures else logging.WARNING,
                    "no snapshot of the shared state: %s",
                    error,
                )
                failures += 1
                self._wanted.set()
                await asyncio.sleep(random.uniform(0.1, 0.3))
            except BaseException:
                self._wanted.set()
                raise

    def want_snapshot(self) -> None:
        self._wanted.set()

    def _missed_some(self) -> None:
        self._heard = ("", 0)
        self._wanted.set()

    def apply(self, change: Change) -> None:
        """Takes in one change from the subscription."""
        before, self._heard = self._heard, (change.epoch, change.version)
        if before[0] == change.epoch and change.version <= before[1]:
            self._wanted.set()  # versions went back, though they may have caught up before anybody looked
        if change.epoch == self.epoch and change.version <= self.version:
            self.counts["stale"] += 1
        elif change.epoch == self.epoch and change.version == self.version + 1:
            self._advance(change)
            self._drain()
        else:
            if self.epoch:
                self.counts["gap"] += 1
            if len(self._pending) >= MOST_PENDING:
                self._pending.clear()
            self._pending[change.version] = change
            self._wanted.set()

    def check(self, epoch: str, version: int, *, asked_at: tuple[str, int]) -> None:
        """Holds the copy against what a renewal returned. ``asked_at`` is ``position`` when it was sent."""
        if epoch != self.epoch or (epoch == asked_at[0] and version < asked_at[1]):
            self._wanted.set()
        elif version > self.version:
            asyncio.get_running_loop().call_later(SETTLE_SECONDS, self._check_arrived, epoch, version)

    @property
    def position(self) -> tuple[str, int]:
        return self.epoch, self.version

    async def synchronised(self, within: float) -> bool:
        """Waits for the first snapshot; False if that took longer than ``within`` seconds."""
        try:
            async with asyncio.timeout(within):
                await self._adopted.wait()
        except TimeoutError:
            return False
        return True

    async def wait_for(self, epoch: str, version: int, within: float) -> bool:
        """Waits until the copy has reached a version; False if that took longer than ``within`` seconds."""
        if epoch == self.epoch and version <= self.version:
            return True
        try:
            async with asyncio.timeout(within):
                while epoch != self.epoch or version > self.version:
                    await self._waiting.setdefault(version, asyncio.Event()).wait()
        except TimeoutError:
            return False
        return True

    async def _synchronise(self) -> None:
        newest = {self.epoch: self.version}
        for change in self._pending.values():
            newest[change.epoch] = max(change.version, newest.get(change.epoch, 0))
        snapshot = await self._state.snapshot()
        if snapshot.epoch and snapshot.version < (seen := newest.get(snapshot.epoch, 0)):
            self.counts["rollback"] += 1
            log.warning(
                "the shared state went back from version %d to %d: a new epoch", seen, snapshot.version
            )
            await self._state.new_epoch(snapshot.epoch)
            snapshot = await self._state.snapshot()
        if not snapshot.epoch:
            return  # nobody holds a lease, as after a restart; whoever takes one asks again
        if snapshot.epoch == self.epoch and snapshot.version < self.version:
            return  # later changes came in, without a gap, while this was under way
        self._adopt(snapshot)
        self._drain()

    def _adopt(self, snapshot: Snapshot) -> None:
        self.counts["snapshot"] += 1
        same = snapshot.epoch == self.epoch
        difference = Difference(
            joins=frozenset(snapshot.users - self.users),
            leaves=frozenset(self.users - snapshot.users),
            models_changed=snapshot.models != self.models,
            rooms_changed=not same or snapshot.version != self.version,
            fresh=not same,
            missed=not same or snapshot.version != self.version,
        )
        self.epoch, self.version = snapshot.epoch, snapshot.version
        self.users, self.models = set(snapshot.users), set(snapshot.models)
        self._adopted.set()
        for version in list(self._waiting):
            self._reached(version)
        self._on_difference(difference)

    def _advance(self, change: Change) -> None:
        self.version = change.version
        if change.joins or change.leaves:
            self.lag.observe(max(0.0, self._now() - change.at_ms / 1000))
        self.users.update(change.joins)
        self.users.difference_update(change.leaves)
        before = len(self.models), bool(change.started)
        self.models.update(change.started)
        self.models.difference_update(change.ended)
        self._reached(change.version)
        self._on_difference(
            Difference(
                joins=frozenset(change.joins),
                leaves=frozenset(change.leaves),
                models_changed=before != (len(self.models), False),
                rooms_changed=change.rooms_changed,
                reaped=change.reaped,
                revoked_tokens=change.revoked_tokens,
                revoked_users=change.revoked_users,
            )
        )

    def _drain(self) -> None:
        """Applies what waited for the copy to catch up, and asks again if something is still missing between."""
        for version in sorted(self._pending):
            change = self._pending[version]
            if change.epoch == self.epoch and version == self.version + 1:
                self._advance(change)
            if version <= self.version or change.epoch != self.epoch:
                del self._pending[version]
        if self._pending:
            self._wanted.set()

    def _check_arrived(self, epoch: str, version: int) -> None:
        if epoch == self.epoch and version > self.version:
            self.counts["lost"] += 1
            self._wanted.set()

    def _reached(self, version: int) -> None:
        if (reached := self._waiting.pop(version, None)) is not None:
            reached.set()
