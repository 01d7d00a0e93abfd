"""What waits for one client, in bytes, and where it waits."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Mapping
from typing import Any, Protocol

from .packets import cost


class Drain(Protocol):
    """Where packets go that have left the queue."""

    sent: int
    """Bytes that went there past the queue."""

    def buffered(self) -> int:
        """Bytes that are on their way and that the kernel did not take yet."""

    def give_up(self) -> None:
        """End the connection at once if something is unwritten."""

    def drop(self) -> None:
        """Forget what can be forgotten."""


class Outlet:
    """The connection under a websocket, or under the answer to a poll, as far as the web server shows it.

    uvicorn does: ASGI's `receive` is a method of its protocol or of its request, and both know their transport.
    Behind a middleware that wraps `receive`, or under another server, nothing is seen: then nothing counts as
    buffered, and instead of the connection only the task that waits for it is ended.
    """

    __slots__ = ("_owner", "_transport", "sender", "sent")

    def __init__(self, environ: Mapping[str, Any]) -> None:
        self._owner = getattr(environ["asgi.receive"], "__self__", None)
        transport = getattr(self._owner, "transport", None)
        self._transport: Any = transport if hasattr(transport, "get_protocol") else None
        self.sent = 0
        self.sender: asyncio.Task[Any] | None = None
        """Who waits until the connection takes more."""

    def buffered(self) -> int:
        """Bytes that the web server took and that the kernel did not take yet."""
        return int(self._transport.get_write_buffer_size()) if self._is_ours() else 0

    def give_up(self) -> None:
        """End the connection at once if something is unwritten."""
        if self.buffered():
            self._transport.abort()
        elif self.sender is not None:
            self.sender.cancel()

    def drop(self) -> None:
        """Nothing: what the web server has is out of reach."""

    def _is_ours(self) -> bool:
        # A connection that was kept alive may carry the request of somebody else by now.
        if self._transport is None:
            return False
        protocol = self._transport.get_protocol()
        return protocol is self._owner or getattr(protocol, "cycle", None) is self._owner


class Outgoing:
    """The queue of an Engine.IO session, which knows how many bytes wait for the client. Replaces asyncio.Queue, which
    keeps four kilobytes for the packets and tasks that might wait: here they are made when something does.

    Counted are packets in the queue, packets that were taken and not yet handed to the web server, and what the
    web server has buffered (`Outlet`); each packet with something for its own weight in memory. Not counted is
    what the kernel, a proxy or the network hold.
    """

    def __init__(self) -> None:
        self.total = 0
        """Bytes that were ever put."""
        self.allowance = 0
        """Bytes that may wait beyond the bound: of a message that alone is larger, until nothing waits any more."""
        self.outlet: Drain | None = None
        self.dropped = False
        self._queue: deque[Any] | None = None
        self._kept = 0
        self._taken: deque[int] | None = None
        self._skip = 0
        self._filled: asyncio.Event | None = None

    @property
    def waiting(self) -> int:
        """Bytes that wait for the client."""
        return self._kept if self.outlet is None else self._kept + self.outlet.buffered()

    @property
    def delivered(self) -> int:
        """Bytes that have gone to the client since the session began."""
        return self.total + (0 if self.outlet is None else self.outlet.sent) - self.waiting

    def qsize(self) -> int:
        return len(self._queue) if self._queue else 0

    def empty(self) -> bool:
        return not self._queue

    def put_nowait(self, item: Any) -> None:
        """A packet, or None for the end of the session."""
        size = 0 if item is None else cost(item)
        self.total += size
        self._kept += size
        if self._queue is None:
            self._queue = deque()
        self._queue.append(item)
        if self._filled is not None:
            self._filled.set()
            self._filled = None

    async def put(self, item: Any) -> None:
        """As `put_nowait`; upstream awaits it."""
        self.put_nowait(item)

    def get_nowait(self) -> Any:
        """The first; raises asyncio.QueueEmpty if there is none."""
        if not self._queue:
            raise asyncio.QueueEmpty
        item = self._queue.popleft()
        if not self._queue:
            self._queue = None
        if item is not None:
            if self._taken is None:
                self._taken = deque()
            self._taken.append(cost(item))
        return item

    async def get(self) -> Any:
        while not self._queue:
            if self._filled is None:
                self._filled = asyncio.Event()
            await self._filled.wait()
        return self.get_nowait()

    async def take(self, most: int, count: int) -> list[Any]:
        """What waits, once there is something: up to about `most` bytes and `count` packets; nothing at the end of the
        session.
        """
        first = await self.get()
        if first is None:
            return []
        packets = [first]
        size = cost(first)
        while self._queue and size < most and len(packets) < count and self._queue[0] is not None:
            packets.append(self.get_nowait())
            size += cost(packets[-1])
        return packets

    def skips(self) -> bool:
        """Whether the packet that was taken first has been dropped meanwhile."""
        if not self._skip:
            return False
        self._skip -= 1
        return True

    def handed_over(self, count: int = 1) -> None:
        """The web server has so many of the packets that were taken first."""
        while self._taken and count:
            self._kept -= self._taken.popleft()
            count -= 1
        if not self._taken:
            self._taken = None

    def drop(self) -> None:
        """Forget all that waits here, but for the one packet that somebody is handing over just now."""
        self.dropped = True
        self._queue = None
        taken = self._taken or ()
        self._skip += max(0, len(taken) - 1)
        self._taken = deque(itertools.islice(taken, 1)) or None
        self._kept = sum(self._taken or ())
        if self.outlet is not None:
            self.outlet.drop()
