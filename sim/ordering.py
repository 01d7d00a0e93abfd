"""Numbers in the place of addresses: objects that libraries keep in sets and walk through.

An object's hash is its address otherwise, which is another one in every run.
"""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

from sim.ownership import Replacements

_numbers = itertools.count(1)


def begin() -> None:
    """A world begins: its numbers do not depend on what ran before."""
    global _numbers
    _numbers = itertools.count(1)


def number_hashes() -> None:
    from aiohttp.client_proto import ResponseHandler
    from anyio import CancelScope
    from anyio._backends._asyncio import CancelScope as AsyncioCancelScope
    from redis.asyncio.connection import AbstractConnection
    from redis.connection import AbstractConnection as BlockingConnection
    from uvicorn.protocols.http.h11_impl import H11Protocol
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
    from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
    from uvicorn.protocols.websockets.wsproto_impl import WSProtocol

    for scope in (AsyncioCancelScope, CancelScope):
        scope.__hash__ = _the_same  # type: ignore[assignment, method-assign]
    for kind in (
        AbstractConnection,
        BlockingConnection,
        H11Protocol,
        HttpToolsProtocol,
        ResponseHandler,
        WSProtocol,
        WebSocketsSansIOProtocol,
    ):
        kind.__hash__ = _number  # type: ignore[method-assign]


def order_tasks(replacements: Replacements) -> None:
    """``asyncio.all_tasks`` fills its set from one that is older than the world."""
    original = asyncio.all_tasks

    def all_tasks(loop: Any = None) -> set[asyncio.Task[Any]]:
        tasks = sorted(original(loop), key=lambda task: getattr(task, "number", 0))
        return set(tasks)

    replacements.in_world(asyncio, "all_tasks", all_tasks)


def _number(self: Any) -> int:
    try:
        return int(self._sim_number)
    except AttributeError:
        number = next(_numbers)
        object.__setattr__(self, "_sim_number", number)
        return number


def _the_same(_self: Any) -> int:
    """For what has no room for a number: in a set, few of them stay in the order in which they came."""
    return 1
