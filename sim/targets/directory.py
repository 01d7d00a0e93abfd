"""How a target asks the simulated database host: a connection for every look-up, so that none waits for another."""

from __future__ import annotations

import asyncio
import json
from typing import Any

LOOK_UP_SECONDS = 2.0


class DirectoryError(Exception):
    """The database host could not be asked."""


class Directory:
    """Users and channels as plain values."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port

    async def login(self, user_id: str) -> dict[str, Any] | None:
        """``{"id", "name", "role", "profile_image_url", "channels"}``; None for an unknown user."""
        found = await self.ask("login", user_id)
        if found is None:
            return None
        name, channels = found
        return {
            "id": user_id,
            "name": name,
            "role": "user",
            "profile_image_url": "/user.png",
            "channels": channels,
        }

    async def ask(self, verb: str, argument: str) -> Any:
        """Raises ``DirectoryError``."""
        try:
            async with asyncio.timeout(LOOK_UP_SECONDS):
                reader, writer = await asyncio.open_connection(self._host, self._port)
                try:
                    writer.write(json.dumps([verb, argument]).encode() + b"\n")
                    return json.loads(await reader.readline())
                finally:
                    writer.close()
        except (OSError, TimeoutError, ValueError) as error:
            raise DirectoryError(f"{self._host}:{self._port}: {error!r}") from error
