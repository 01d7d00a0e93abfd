"""What this instance tells its clients of the models in use."""

from __future__ import annotations

from realtime.pacing import Pacer
from realtime.presence import SIGNED_IN, LocalRooms, size
from realtime.replica import Difference, Replica


class UsageAudience:
    """Which models are in use, told to all who are signed in whenever the set changes."""

    def __init__(self, replica: Replica, rooms: LocalRooms, *, rate: float) -> None:
        self._replica = replica
        self._rooms = rooms
        self._told: frozenset[str] | None = frozenset()
        self.pacer = Pacer(self._broadcast, interval=0.05, bytes_per_second=rate)

    async def greet(self, sid: str) -> None:
        """Sends the models in use to one socket."""
        self._rooms.emit_local("usage", {"models": sorted(self._replica.models)}, sid)
        if self._told != frozenset(self._replica.models):
            self._told = None  # not everybody was told the same: the next time tells all

    def on_difference(self, difference: Difference) -> None:
        if difference.models_changed:
            self.pacer.nudge()

    async def _broadcast(self) -> int:
        models = frozenset(self._replica.models)
        if models == self._told:
            return 0
        payload = {"models": sorted(models)}
        recipients = self._rooms.emit_local("usage", payload, SIGNED_IN)
        self._told = models
        return recipients * size(payload)
