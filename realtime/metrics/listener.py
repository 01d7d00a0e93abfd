"""A port of its own for ``/metrics``: the public one is for clients."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route

from realtime.errors import SettingsError

from .page import metrics_page

if TYPE_CHECKING:
    from realtime.server import RealtimeServer


class MetricsListener:
    """Serves the metrics of one instance, in its loop."""

    def __init__(self, realtime: RealtimeServer, *, host: str, port: int) -> None:
        """``port`` 0: any free one."""
        self._host = host
        self._port = port
        app = Starlette(routes=[Route("/metrics", metrics_page(realtime))])
        config = uvicorn.Config(
            app,
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,  # nobody runs `main_loop`, which would keep it right
            timeout_graceful_shutdown=1,
        )
        config.load()
        self._web = uvicorn.Server(config)
        self._web.lifespan = config.lifespan_class(config)
        self._socket: socket.socket | None = None

    async def start(self) -> str:
        """Listens, and returns where. Raises ``SettingsError`` if it cannot."""
        try:
            self._socket = _listening(self._host, self._port)
        except OSError as error:
            raise SettingsError(
                f"REALTIME_METRICS_PORT: cannot listen on port {self._port} of {self._host!r} ({error.strerror}):"
                " give each instance a free one, or 0 for no metrics"
            ) from None
        # Not `serve()`, which takes over the process' signals.
        await self._web.startup(sockets=[self._socket])
        host, port = self._socket.getsockname()[:2]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}/metrics"

    async def close(self) -> None:
        if self._socket is not None:
            sockets, self._socket = [self._socket], None
            await self._web.shutdown(sockets=sockets)


def _listening(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except BaseException:
        listening.close()
        raise
    return listening
