"""HTTP/1.1 over asyncio's streams, one request a connection: what doors and ill-mannered clients need of it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Response:
    """``headers`` by their names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def request(
    method: str, host: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
) -> bytes:
    """The bytes of a request, after which the server closes unless ``headers`` say otherwise."""
    fields = {"Host": host, "Connection": "close", "Content-Length": str(len(body)), **(headers or {})}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def response(reader: asyncio.StreamReader) -> Response:
    """Reads one. Raises ``ConnectionError`` when the connection ends before it is whole."""
    status, headers = await head(reader)
    try:
        if headers.get("transfer-encoding") == "chunked":
            return Response(status, headers, await _chunks(reader))
        return Response(status, headers, await reader.readexactly(int(headers.get("content-length", 0))))
    except asyncio.IncompleteReadError:
        raise ConnectionResetError("the connection ended within a response") from None


async def head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    """Status and headers; the body is left unread. Raises as ``response``."""
    first = await reader.readline()
    if not first.endswith(b"\n"):
        raise ConnectionResetError("the connection ended instead of a response")
    headers = {}
    while (line := await reader.readline()).strip():
        name, _colon, value = line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    return int(first.split()[1]), headers


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    """RFC 9112, section 7.1, without trailers."""
    body = b""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readuntil(b"\r\n")
    return body
