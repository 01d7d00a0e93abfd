"""Asks at a target's doors: one HTTP request over asyncio's streams, on a simulated host or a real one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from sim import http


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
    method = "GET" if payload is None else "POST"
    async with asyncio.timeout(timeout):
        reader, writer = await asyncio.open_connection(host, port)
        try:
            writer.write(http.request(method, host, path, body, {"Content-Type": "application/json"}))
            answer = await http.response(reader)
        finally:
            writer.close()
    try:
        return answer.status, json.loads(answer.body)
    except ValueError:
        return answer.status, answer.body.decode(errors="replace")
