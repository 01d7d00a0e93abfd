"""The end of models' use: announced soon after it happens, by one instance if all goes well, by any if not.

``RedisLock`` decides who goes first; correctness does not hang on it, since the script that ends a model's use checks
its expiry itself. Whoever does not hold the lock follows a moment later, and mostly finds nothing to do.
"""

from __future__ import annotations

import asyncio
import logging
import secrets

from realtime.errors import RealtimeError
from realtime.state import State

log = logging.getLogger(__name__)

FOLLOW_SECONDS = 0.1
"""How long after the expiry an instance without the lock looks; the end must be known within 250 ms."""


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
    """Ends the use of models in time. ``usage_seconds``: how long a touch lasts; looks come more often than that."""

    def __init__(self, state: State, lock: RedisLock, *, lock_timeout: float, usage_seconds: float) -> None:
        self._state = state
        self._lock = lock
        self._lock_timeout = lock_timeout
        self._longest_sleep = min(1.0, usage_seconds / 2)

    async def run(self) -> None:
        """Sweeps until cancelled; no failure of the state ends it."""
        loop = asyncio.get_running_loop()
        look_at_lock = loop.time()
        leading = False
        try:
            while True:
                pause = self._longest_sleep
                try:
                    if loop.time() >= look_at_lock:
                        leading = await (self._lock.renew() if leading else self._lock.acquire())
                        look_at_lock = loop.time() + self._lock_timeout / 3
                    due_ms = await self._state.sweep()
                    if due_ms is not None:
                        pause = min(pause, due_ms / 1000 + (0.005 if leading else FOLLOW_SECONDS))
                except RealtimeError as error:
                    leading = False
                    log.warning("models' use could not be cleaned up, trying again: %s", error)
                await asyncio.sleep(pause)
        finally:
            if leading:
                await self._give_up_lock()

    async def _give_up_lock(self) -> None:
        try:
            async with asyncio.timeout(1.0):
                await self._lock.release()
        except (RealtimeError, TimeoutError) as error:
            log.debug("the cleanup lock was left to expire: %s", error)
