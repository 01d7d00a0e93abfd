"""Asks at a target's doors: one HTTP request over asyncio's streams, on a simulated host or a real one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode


async def knock(
    host: str,
    port: int,
    door: str,
    payload: Mapping[str, Any] | None = None,
    *,
    query: Mapping[str, str] | None = None,
    timeout: float = 120.0,
) -> tuple[int, Any]:
    """Status and JSON body. ``door``: ``emit``, ``call``, ``pools``, …; a payload makes it a POST.

    Raises ``OSError``, and ``TimeoutError`` after ``timeout`` seconds.
    """
    body = b"" if payload is None else json.dumps(payload).encode()
    path = f"/lab/{door}" + (f"?{urlencode(query)}" if query else "")
    head = (
        f"{'GET' if payload is None else 'POST'} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    async with asyncio.timeout(timeout):
        reader, writer = await asyncio.open_connection(host, port)
        try:
            writer.write(head.encode() + body)
            status = int((await reader.readline()).split()[1])
            size = 0
            while (line := await reader.readline()).strip():
                name, _colon, value = line.partition(b":")
                if name.lower() == b"content-length":
                    size = int(value)
            content = await reader.readexactly(size)
        finally:
            writer.close()
    try:
        return status, json.loads(content)
    except ValueError:
        return status, content.decode(errors="replace")
