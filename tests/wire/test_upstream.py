"""What the wire replaces of python-socketio and python-engineio is still what it was written against."""

from __future__ import annotations

import inspect
from typing import Any

import engineio
import pytest
import socketio
from engineio.async_drivers.asgi import WebSocket
from engineio.async_socket import AsyncSocket
from engineio.packet import Packet
from engineio.payload import Payload
from socketio.async_pubsub_manager import AsyncPubSubManager

from realtime.wire import WireManager, WireServer, upstream
from realtime.wire.engine import WireEngine
from realtime.wire.packets import SharedPacket, WirePayload
from realtime.wire.session import WireSocket
from realtime.wire.websocket import WireWebSocket


def test_no_upstream_function_that_is_overridden_or_leaned_on_has_changed() -> None:
    assert upstream.changed() == [], "read what changed upstream, adapt the override, then pin the new hash"


def test_a_changed_or_vanished_upstream_function_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def emit(self: Any) -> None:
        return None

    monkeypatch.setattr(socketio.AsyncServer, "emit", emit)
    monkeypatch.delattr(socketio.AsyncServer, "call")
    assert upstream.changed() == [
        "socketio.async_server:AsyncServer.call",
        "socketio.async_server:AsyncServer.emit",
    ]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (WireServer, socketio.AsyncServer),
        (WireManager, AsyncPubSubManager),
        (WireEngine, engineio.AsyncServer),
        (WireSocket, AsyncSocket),
        (WireWebSocket, WebSocket),
        (SharedPacket, Packet),
        (WirePayload, Payload),
    ],
)
def test_every_override_is_pinned_and_says_what_it_replaces(ours: type, theirs: type) -> None:
    for own in (c for c in ours.__mro__ if c.__module__.startswith("realtime.wire")):
        for name, function in vars(own).items():
            if not inspect.isfunction(function) or name.startswith("__"):
                continue
            base = next((b for b in theirs.__mro__ if name in vars(b)), None)
            if base is not None:
                pin = f"{base.__module__}:{base.__name__}.{name}"
                assert pin in upstream.PINNED, pin
                documented = (function.__doc__ or "") + (own.__doc__ or "")
                assert "Replaces" in documented or "Adds to" in documented, f"{own.__name__}.{name}"
