"""One timer that looks at all connections of an instance: who does not read, who never says CONNECT."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from .connection import Connection
from .limits import Limits

LOOKS = 5
"""How often it looks within the shorter of the two times."""


class Watch:
    """Counts looks instead of reading the clock: after a stall of this process one look has passed, not the
    time that its clients, which were not heard, seem to have wasted.
    """

    def __init__(
        self,
        connections: Mapping[str, Connection],
        limits: Limits,
        *,
        silent: Callable[[Connection], None],
        slow: Callable[[Connection], None],
    ) -> None:
        """`silent` and `slow` are called with connections that have to be closed."""
        self._connections = connections
        self._limits = limits
        self._silent = silent
        self._slow = slow
        self._period = min(limits.slow_seconds, limits.handshake_seconds) / LOOKS
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Look from now on, until nobody is there."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._period, self._look)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        if self._connections:
            self.start()
        for connection in list(self._connections.values()):
            if connection.socket.closing:
                continue
            if not self._gets_on(connection):
                self._silent(connection)
            elif not self._reads(connection):
                self._slow(connection)

    def _gets_on(self, connection: Connection) -> bool:
        if connection.joined or any(member.gone is None for member in connection.members.values()):
            return True
        connection.silent_looks += 1
        return not self._over(connection.silent_looks, self._limits.handshake_seconds)

    def _reads(self, connection: Connection) -> bool:
        queue = connection.socket.queue
        waiting = queue.waiting
        delivered = queue.delivered
        if waiting == 0:
            queue.allowance = 0
        if waiting == 0 or delivered > connection.delivered:
            connection.delivered = delivered
            connection.stuck_looks = 0
        else:
            connection.stuck_looks += 1
        return waiting <= self._limits.max_outgoing_bytes + queue.allowance and not self._over(
            connection.stuck_looks, self._limits.slow_seconds
        )

    def _over(self, looks: int, seconds: float) -> bool:
        return (looks - 1) * self._period >= seconds  # the first look may come right after the beginning
