"""A python-socketio application with nothing of its own: what a simulated run costs at least."""

from __future__ import annotations

import socketio

from sim.targets import Context


def make_app(_context: Context) -> socketio.ASGIApp:
    server = socketio.AsyncServer(async_mode="asgi")
    return socketio.ASGIApp(server, socketio_path="/ws/socket.io")
