"""aiosqlite's threads: one that ends after its event loop was closed would disturb whichever test runs then."""

from __future__ import annotations

import asyncio
import threading


async def until_sqlite_threads_ended() -> None:
    """Wait for the thread of a connection that failed to open: aiosqlite stops it without waiting for it."""
    async with asyncio.timeout(10):
        while any("_connection_worker_thread" in thread.name for thread in threading.enumerate()):
            await asyncio.sleep(0.001)
