"""uvicorn as ``python -m realtime`` runs it: with our settings, and with a shutdown that lets clients go gently.

uvicorn closes its sockets before it runs the lifespan's shutdown; draining has to come first.
"""

from __future__ import annotations

import logging
import socket

import uvicorn
from fastapi import FastAPI

from realtime.server import RealtimeServer

log = logging.getLogger(__name__)


class DrainingServer(uvicorn.Server):
    """Adds to ``Server.shutdown``: not ready, no new connections, every client let go; then what uvicorn does."""

    def __init__(self, config: uvicorn.Config, realtime: RealtimeServer) -> None:
        super().__init__(config)
        self._realtime = realtime

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        await self._realtime.drain()
        await super().shutdown(sockets)


def make_server(app: FastAPI, *, host: str, port: int, log_level: str = "info") -> DrainingServer:
    """A server for an application made by ``create_app``."""
    realtime: RealtimeServer = app.state.realtime
    settings = realtime.settings
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_level=log_level,
        log_config=None,
        access_log=False,
        lifespan="on",
        ws="websockets-sansio",
        ws_max_size=settings.realtime_max_payload_bytes,
        # Engine.IO has pings of its own, and lists of ids are sent to thousands: compressing each costs too much.
        ws_ping_interval=None,
        ws_ping_timeout=None,
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=max(1, round(settings.realtime_shutdown_grace_seconds)),
    )
    return DrainingServer(config, realtime)
