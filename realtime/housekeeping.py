"""The end of models' use: announced soon after it happens, by one instance if all goes well, by any if not.

``RedisLock`` decides who goes first; correctness does not hang on it, since the script that ends a model's use checks
its expiry itself. Whoever does not hold the lock follows a moment later, and mostly finds nothing to do.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable

from realtime.errors import RealtimeError
from realtime.state import State

log = logging.getLogger(__name__)

LEAD_SECONDS = 0.005
FOLLOW_SECONDS = 0.1
"""How long after the expiry an instance without the lock looks; the end must be known within 250 ms."""

LOOK_SECONDS = 0.15
"""While a model is in use it may become due earlier than it was: whoever used it longest may leave."""


class RedisLock:
    """A lock in the shared state. ``fence`` grows with every change of hands: what the holder writes may carry it."""

    def __init__(self, state: State, name: str, timeout: float) -> None:
        """``timeout``: seconds after which the lock frees itself unless renewed."""
        self._state = state
        self._name = name
        self._ttl_ms = round(timeout * 1000)
        self._owner = secrets.token_hex(8)
        self.fence: int | None = None

    async def acquire(self) -> bool:
        """True if the lock is held now. Raises ``StateUnavailable``."""
        self.fence = await self._state.lock_acquire(self._name, self._owner, self._ttl_ms)
        return self.fence is not None

    async def renew(self) -> bool:
        """False, and the lock is not held, if it expired or changed hands. Raises ``StateUnavailable``."""
        held = await self._state.lock_renew(self._name, self._owner, self._ttl_ms)
        if not held:
            self.fence = None
        return held

    async def release(self) -> bool:
        """False if there was nothing to release: it expired or changed hands. Raises ``StateUnavailable``."""
        self.fence = None
        return await self._state.lock_release(self._name, self._owner)


class UsageCleanup:
    """Ends the use of models in time. ``usage_seconds``: how long a touch lasts; looks come more often than that.
    ``in_use``: whether any model is, as far as this instance has heard; while none is, Redis is left in peace (what was
    not heard, the next renewal of the lease tells in time)."""

    def __init__(
        self,
        state: State,
        lock: RedisLock,
        *,
        lock_timeout: float,
        usage_seconds: float,
        in_use: Callable[[], object] = lambda: True,
    ) -> None:
        self._state = state
        self._lock = lock
        self._lock_timeout = lock_timeout
        self._longest_sleep = min(1.0, usage_seconds / 2)
        self._in_use = in_use
        self._leading = False
        self._next_look = float("-inf")

    @property
    def leading(self) -> bool:
        """Whether the lock was held when it was last asked about."""
        return self._leading

    @property
    def fence(self) -> int | None:
        """The fencing token of the lock while it is held."""
        return self._lock.fence if self._leading else None

    async def run(self) -> None:
        """Sweeps until cancelled; no failure of the state ends it."""
        try:
            while True:
                await self._look_at_lock()
                await asyncio.sleep(await self._sweep())
        finally:
            if self._leading:
                await self._give_up_lock()

    async def _look_at_lock(self) -> None:
        now = asyncio.get_running_loop().time()
        if now < self._next_look:
            return
        try:
            self._leading = await (self._lock.renew() if self._leading else self._lock.acquire())
            self._next_look = now + self._lock_timeout / 3
        except Exception as error:
            self._leading = False
            _say("the cleanup lock is not to be had", error)

    async def _sweep(self) -> float:
        """Returns how long to sleep."""
        if not self._in_use():
            return self._longest_sleep
        try:
            due_ms = await self._state.sweep()
        except Exception as error:
            _say("models' use could not be cleaned up, trying again", error)
            return self._longest_sleep
        if due_ms is None:
            return self._longest_sleep
        due = due_ms / 1000 + (LEAD_SECONDS if self._leading else FOLLOW_SECONDS)
        return min(self._longest_sleep, LOOK_SECONDS, due)

    async def _give_up_lock(self) -> None:
        try:
            async with asyncio.timeout(1.0):
                await self._lock.release()
        except Exception as error:
            _say("the cleanup lock was left to expire", error)


def _say(what: str, error: Exception) -> None:
    log.warning("%s: %s", what, error, exc_info=not isinstance(error, RealtimeError | TimeoutError))
