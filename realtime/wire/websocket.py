"""A websocket as a session sees it: how long it may take to move there, how large a message may be, how it ends."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from engineio.async_drivers import asgi  # type: ignore[import-untyped]  # no stubs exist

from .direct import offered
from .line import Line
from .outgoing import Outlet

if TYPE_CHECKING:
    from .engine import WireEngine
    from .session import WireSocket


class WireWebSocket(asgi.WebSocket):  # type: ignore[misc]  # no stubs exist
    """The ASGI driver's websocket, with a limit on how long a session takes to move to it."""

    def __init__(self, handler: Any, server: WireEngine) -> None:
        super().__init__(handler, server)
        self._move_before = asyncio.get_running_loop().time() + server.ping_timeout
        self._waiting: asyncio.Timeout | None = None

    async def __call__(self, environ: dict[str, Any]) -> Any:
        self._outlet = Outlet(environ)
        self._direct = offered(environ)
        return await super().__call__(environ)

    def take_over(self, session: WireSocket) -> Line | None:
        """Have the session read and write the connection itself, where the web server offers that."""
        server = session.server
        if self._direct is None or not server.direct:
            return None
        return self._direct.take_over(session, server.flush, most=server.limits.max_outgoing_bytes)

    async def send(self, message: str | bytes) -> None:
        """Adds to WebSocket.send: the session learns when its packets have gone, and some are not wanted any more."""
        session: WireSocket = self.handler.__self__
        if not session.upgraded:
            await super().send(message)
            return
        queue = session.queue
        if queue.skips():
            return
        queue.outlet = self._outlet
        self._outlet.sender = asyncio.current_task()
        try:
            await super().send(message)
        finally:
            self._outlet.sender = None
            queue.handed_over()

    async def wait(self) -> Any:
        """Adds to WebSocket.wait: until the session has moved here, TimeoutError (which stock takes for a
        client that left) when that takes longer than a ping may, or after `give_up`; afterwards the reason for
        which the session ends, which is a closed transport to stock even if a ping timed out.
        """
        session: WireSocket = self.handler.__self__
        if session.upgraded:
            try:
                return self._fitting(await super().wait())
            except asyncio.CancelledError:  # so it is when nothing came for as long as a ping may take
                session.shut(session.server.reason.PING_TIMEOUT)
                raise
        try:
            async with asyncio.timeout_at(self._move_before) as self._waiting:
                return self._fitting(await super().wait())
        finally:
            self._waiting = None

    def _fitting(self, data: str | bytes) -> str | bytes:
        session: WireSocket = self.handler.__self__
        if session.too_large(data):
            raise OSError("message too large")
        return data

    def give_up(self) -> None:
        """The session is not to move here any more."""
        self._move_before = 0.0
        if self._waiting is not None and not self._waiting.expired():
            self._waiting.reschedule(0.0)

    async def close(self) -> None:
        """Replaces WebSocket.close, which knows neither a close code nor a reason, and waits until the client reads."""
        session: WireSocket = self.handler.__self__
        message = {"type": "websocket.close", "code": session.close_code, "reason": session.close_reason}
        try:
            async with asyncio.timeout(session.linger):
                await self.asgi_send(message)
        except Exception as error:
            session.server.logger.debug(
                "%s: closing a closed websocket: %r", session.sid, error, extra=session.about()
            )
