"""Programs that use the raw client, each a process: `python -m tests.load.programs NAME URL TRANSPORT`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import jwt

from loadtests import _clock
from loadtests._client import Client, Handler
from loadtests._errors import Disconnected, LoadError, Refused
from loadtests._http import parse_target
from sim.processes.instances import SECRET_KEY


def client(url: str, transport: str, handlers: dict[str, Handler] | None = None) -> Client:
    made = Client(parse_target(url), transport, handlers or {})
    made.open()
    made.join({"token": jwt.encode({"id": "ann", "iat": _clock.now()}, SECRET_KEY, algorithm="HS256")})
    return made


def talk(url: str, transport: str) -> Any:
    """Types in general on a real instance; returns the ack and what was heard."""
    heard: list[Any] = []
    ann = client(url, transport, {"channel-events": lambda arguments: heard.extend(arguments)})
    ack = ann.call("channel-events", {"channel_id": "general", "data": {"type": "typing"}})
    refused = ann.call("channel-events", {"channel_id": "board", "data": {"type": "typing"}})
    ann.pump_until(lambda: bool(heard), "the own event")
    ann.close()
    return {"ack": ack, "refused": refused["error"]["code"], "heard": heard}


def binary(url: str, transport: str) -> Any:
    """Bytes there and back, as an event, in an ack, and in an answer to the server."""
    answered: list[Any] = []
    ann = client(
        url,
        transport,
        {
            "question": lambda arguments: {"got": arguments[0]["bytes"]},
            "answered": lambda arguments: answered.append(arguments[0]),
        },
    )
    data = bytes(range(256)) * 300
    back = ann.call("echo", {"bytes": data, "more": [data[:1], "text ü"]})
    ann.call("ask", {"bytes": b"\x00\xff"})
    ann.pump_until(lambda: bool(answered), "what the server got")
    ann.close()
    return {
        "echo": back == {"bytes": data, "more": [data[:1], "text ü"]},
        "answer": answered == [{"got": b"\x00\xff"}],
    }


def stay(url: str, transport: str) -> Any:
    """Lives through several pings, then still gets an ack."""
    ann = client(url, transport)
    assert ann.handshake is not None
    ann.pump(_clock.now() + 4 * ann.handshake.ping_interval)
    return {"echo": ann.call("echo", "still here"), "sid": ann.sid != ""}


def kicked(url: str, transport: str) -> Any:
    """The server closes; the error says why."""
    ann = client(url, transport)
    try:
        ann.emit("kick", None)
        ann.pump(_clock.now() + 20)
    except Disconnected as error:
        return str(error)
    return "still connected"


def denied(url: str, transport: str) -> Any:
    """The server lets nobody in of that name; the error says what it said."""
    nobody = Client(parse_target(url), transport, {})
    nobody.open()
    try:
        nobody.join("nobody")
    except Refused as error:
        return str(error)
    return "let in"


def deaf(url: str, transport: str) -> Any:
    """Does not read for longer than the server waits for a pong."""
    ann = client(url, transport)
    assert ann.handshake is not None
    ann._silent_after = _clock.now()
    try:
        ann.pump(_clock.now() + 20)
    except LoadError as error:
        return str(error)
    return "noticed nothing"


PROGRAMS: dict[str, Callable[[str, str], Any]] = {
    each.__name__: each for each in (talk, binary, stay, kicked, denied, deaf)
}

if __name__ == "__main__":
    print(json.dumps(PROGRAMS[sys.argv[1]](*sys.argv[2:])))
