"""Requests of Engine.IO before a session sees them: which are refused, and with which answer."""

from __future__ import annotations

import enum
import json
import urllib.parse
from collections.abc import Callable, Collection
from typing import Any


class Flaw(enum.Enum):
    """What is wrong with a request: the reference server's code and message, answered with status 400."""

    UNKNOWN_TRANSPORT = (0, "Transport unknown")
    UNKNOWN_SESSION = (1, "Session ID unknown")
    BAD_METHOD = (2, "Bad handshake method")
    BAD_REQUEST = (3, "Bad request")
    UNSUPPORTED_VERSION = (5, "Unsupported protocol version")


class ClientLeftError(Exception):
    """A request ended before its body came."""


class RefusedError(Exception):
    """A request that no session is to see."""

    def __init__(self, flaw: Flaw, environ: dict[str, Any]) -> None:
        super().__init__(flaw.value[1])
        self.flaw = flaw
        self.environ = environ


def find_flaw(
    environ: dict[str, Any], transports: Collection[str], is_open: Callable[[str], bool]
) -> Flaw | None:
    """The first flaw of a request, if any, by the query parameters that are mandatory (Engine.IO protocol 4,
    "HTTP long-polling" and "WebSocket") and by the kind of connection on which it came.
    """
    query = urllib.parse.parse_qs(environ.get("QUERY_STRING", ""))
    transport, sid = query.get("transport", [""])[0], query.get("sid", [None])[0]
    by_websocket = environ["asgi.scope"]["type"] == "websocket"
    if transport not in transports:
        return Flaw.UNKNOWN_TRANSPORT
    if sid is not None and not is_open(sid):
        return Flaw.UNKNOWN_SESSION
    if environ["REQUEST_METHOD"] not in (("GET",) if sid is None else ("GET", "POST")):
        return Flaw.BAD_METHOD
    if by_websocket != (transport == "websocket"):
        return Flaw.BAD_REQUEST
    return None if query.get("EIO") == ["4"] else Flaw.UNSUPPORTED_VERSION


def session_asked_for(environ: dict[str, Any]) -> str | None:
    """The session id in a request's query, if any."""
    query = urllib.parse.parse_qs(environ.get("QUERY_STRING", ""))
    return query["sid"][0] if "sid" in query else None


def refusal(flaw: Flaw, message: str | None = None) -> dict[str, Any]:
    """The answer, as Engine.IO's server writes it down; a websocket is closed before it is accepted instead."""
    code, text = flaw.value
    return {
        "status": "400 BAD REQUEST",
        "headers": [("Content-Type", "application/json")],
        "response": json.dumps({"code": code, "message": message or text}).encode(),
    }
