"""uvicorn as ``python -m realtime`` runs it: with our settings, and with a shutdown that lets clients go gently.

uvicorn closes its sockets before it runs the lifespan's shutdown; draining has to come first.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import socket
from collections.abc import Generator

import uvicorn
from fastapi import FastAPI

from realtime.app import SocketsFirst
from realtime.server import RealtimeServer
from realtime.wire import DirectProtocol

log = logging.getLogger(__name__)

LAST_SECONDS = 1.0
"""What responses that are still being written get, at least, after the clients were let go."""


COLLECTION_THRESHOLDS = (20_000, 20, 20)
"""In this process, which is the server's own (defaults of Python: 700, 10, 10)."""


class DrainingServer(uvicorn.Server):
    """Ends gently on SIGTERM and SIGINT, within the grace time, with exit status 0; a second SIGINT ends it at once."""

    def __init__(self, config: uvicorn.Config, realtime: RealtimeServer) -> None:
        super().__init__(config)
        self._realtime = realtime

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Adds to Server.startup: says where it listens, for whoever started it with port 0."""
        await super().startup(sockets)
        _collect_less_often()
        for server in self.servers:
            for listener in server.sockets:
                host, port = listener.getsockname()[:2]
                print(f"listening on http://{f'[{host}]' if ':' in host else host}:{port}", flush=True)  # noqa: T201

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Adds to Server.shutdown: not ready, no new connections, every client let go; then what uvicorn does."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self._realtime.settings.realtime_shutdown_grace_seconds
        for server in self.servers:
            server.close()
        draining = asyncio.create_task(self._realtime.drain(), name="drain")
        while not draining.done() and not self.force_exit:
            await asyncio.wait({draining}, timeout=0.1)
        if not draining.done():
            draining.cancel()
        elif not draining.cancelled() and (failure := draining.exception()) is not None:
            log.error("the clients could not be let go gently", exc_info=failure)
        self.config.timeout_graceful_shutdown = round(max(LAST_SECONDS, end - loop.time()))
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Adds to Server.capture_signals, which raises the signal again afterwards: whoever asked for an orderly end
        and got it would be told of a process that was killed."""
        with super().capture_signals():
            yield
            if self.force_exit:  # and so without waiting for the tasks that are left
                signal.signal(signal.SIGINT, signal.SIG_DFL)
                signal.raise_signal(signal.SIGINT)
            self._captured_signals.clear()


def _collect_less_often() -> None:
    """What was made until now stays for good, and thousands of connections make objects by the thousand that stay for
    a while: looking through all of them at the default rate costs a fifth of a connect storm."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTION_THRESHOLDS)


def make_server(app: FastAPI, *, host: str, port: int, log_level: str = "info") -> DrainingServer:
    """A server for an application made by ``create_app``."""
    realtime: RealtimeServer = app.state.realtime
    logging.getLogger("realtime.websocket").setLevel("INFO" if log_level == "debug" else "WARNING")
    settings = realtime.settings
    config = uvicorn.Config(
        SocketsFirst(app),
        host=host,
        port=port,
        log_level=log_level,
        log_config=None,
        access_log=False,
        lifespan="on",
        ws=DirectProtocol,
        ws_max_size=settings.realtime_max_payload_bytes,
        # Engine.IO has pings of its own, and lists of ids are sent to thousands: compressing each costs too much.
        ws_ping_interval=None,
        ws_ping_timeout=None,
        ws_per_message_deflate=False,
    )
    return DrainingServer(config, realtime)
