"""Blocking clients on a node: their sockets are simulated, and a call that waits stops its node alone.

Work that an application gives to threads runs as a simulated thread of its node, which may block by itself.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import selectors
import socket
from collections.abc import Callable
from typing import Any

import anyio.to_thread
import redis._parsers.hiredis
import redis.connection

from sim.ownership import Replacements, current_node, owner
from sim.sockets import SimSocket


def replace_blocking(replacements: Replacements) -> None:
    replacements.on_node(socket, "create_connection", create_connection)
    replacements.on_node(anyio.to_thread, "run_sync", run_sync)
    # The parser written in C asks the system about a descriptor.
    parser = redis._parsers.hiredis
    replacements.on_node(parser, "_socket_can_read", _can_read)
    replacements.on_node(parser, "_socket_is_closed", _is_closed)
    connect: Callable[[Any], Any] = redis.connection.Connection._connect

    def connect_anywhere(self: redis.connection.Connection) -> Any:
        if current_node() is None:
            return connect(self)
        return create_connection(
            (self.host, self.port), self.socket_connect_timeout, after=self.socket_timeout
        )

    redis.connection.Connection._connect = connect_anywhere  # type: ignore[method-assign]


def create_connection(
    address: tuple[str, int],
    timeout: Any = None,
    _source_address: Any = None,
    *,
    after: float | None = None,
    **_: Any,
) -> SimSocket:
    """As ``socket.create_connection``; ``after`` is the time-out of the open socket, where it is another."""
    assert owner.world is not None
    node = current_node()
    assert node is not None
    seconds = timeout if isinstance(timeout, int | float) else None
    sock = SimSocket(node, node.network)
    try:
        sock.settimeout(seconds)
        sock.connect(address)
    except BaseException:
        sock.close()
        raise
    sock.settimeout(seconds if after is None else after)
    return sock


async def run_sync(func: Callable[..., Any], *args: Any, **_: Any) -> Any:
    """As ``anyio.to_thread.run_sync``, which starlette uses for handlers that are not coroutines."""
    context = contextvars.copy_context()
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(None, functools.partial(context.run, func, *args))


def _can_read(sock: SimSocket, timeout: float | None) -> bool:
    before = sock.gettimeout()
    sock.settimeout(timeout)
    try:
        sock.recv(1, socket.MSG_PEEK)
    except (BlockingIOError, TimeoutError):
        return False
    except OSError:
        return True
    finally:
        sock.settimeout(before)
    return True


def _is_closed(sock: SimSocket) -> bool:
    if not sock.ready() & selectors.EVENT_READ:
        return False
    try:
        return sock.recv(1, socket.MSG_PEEK) == b""
    except OSError:
        return True
