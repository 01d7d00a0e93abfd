"""What this instance tells its clients of the models in use."""

from __future__ import annotations

from typing import Any

from realtime.pacing import Pacer
from realtime.presence import SIGNED_IN, LocalRooms, size
from realtime.replica import Difference, Replica

MOST_MODELS = 1000
"""The longest list: models are named by clients, and each name goes to all who are signed in."""


class UsageAudience:
    """Which models are in use, told to all who are signed in whenever the set changes."""

    def __init__(self, replica: Replica, rooms: LocalRooms, *, rate: float) -> None:
        self._replica = replica
        self._rooms = rooms
        self._told: dict[str, Any] | None = {"models": []}
        self.pacer = Pacer(self._broadcast, interval=0.05, bytes_per_second=rate)

    async def greet(self, sid: str) -> None:
        """Sends the models in use to one socket."""
        payload = self._list()
        self._rooms.emit_local("usage", payload, sid)
        if self._told != payload:
            self._told = None  # not everybody was told the same: the next time tells all

    def on_difference(self, difference: Difference) -> None:
        if difference.models_changed:
            self.pacer.nudge()

    async def _broadcast(self) -> int:
        payload = self._list()
        if payload == self._told:
            return 0
        recipients = self._rooms.emit_local("usage", payload, SIGNED_IN)
        self._told = payload
        return recipients * size(payload)

    def _list(self) -> dict[str, Any]:
        models = sorted(self._replica.models)
        if len(models) > MOST_MODELS:
            return {"models": models[:MOST_MODELS], "truncated": True}
        return {"models": models}
