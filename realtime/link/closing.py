"""Closing what may be broken already: within a bound, and without a word."""

from __future__ import annotations

import asyncio
from typing import Protocol

from redis.exceptions import RedisError


class Closable(Protocol):
    async def aclose(self) -> None: ...


async def close_quietly(closable: Closable | None, timeout: float) -> None:
    """Closes it, for ``timeout`` seconds at most; that it was broken is known already."""
    if closable is None:
        return
    try:
        async with asyncio.timeout(timeout):
            await closable.aclose()
    except (RedisError, OSError, TimeoutError):
        pass


def described(error: BaseException) -> str:
    """What an error says, or at least what it is."""
    return str(error) or type(error).__name__
