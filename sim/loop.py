"""The event loop of a node: asyncio's own selector loop, over sockets of the simulated network and on virtual time.

Everything from transports to servers is asyncio's code. What is ours: the selector, which never waits, and what would
reach out of the process. A turn so goes as asyncio's does: first all I/O that arrived, then all timers that came due,
then one round of callbacks, first in, first out.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from asyncio import selector_events
from collections.abc import Callable, Coroutine, Mapping
from selectors import SelectorKey
from typing import TYPE_CHECKING, Any, TypeVar

from sim.sockets import SimSocket

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from sim.network import Network
    from sim.node import Node

T = TypeVar("T")

RESOLUTION = 1e-9
EXECUTOR_SECONDS = 0.0001
"""How long work for a thread waits before it begins."""


class NumberedFuture(asyncio.Future[T]):
    """A future whose hash is its number on the node: sets of futures iterate alike in every process."""

    def __init__(self, *, loop: NodeLoop) -> None:
        super().__init__(loop=loop)
        self.number = next(loop.numbers)

    def __hash__(self) -> int:
        return self.number


class NumberedTask(asyncio.Task[T]):
    """The same for tasks."""

    def __init__(self, coroutine: Coroutine[Any, Any, T], *, loop: NodeLoop, **options: Any) -> None:
        self.number = next(loop.numbers)
        if options.get("name") is None:
            options["name"] = f"Task-{self.number}"  # asyncio counts through all worlds of a process
        super().__init__(coroutine, loop=loop, **options)

    def __hash__(self) -> int:
        return self.number


class NumberedTransport(selector_events._SelectorSocketTransport):  # type: ignore[name-defined, misc]
    """The same for transports. One that a world leaves open when it ends is no leak, and so not warned about."""

    def __init__(self, loop: NodeLoop, *args: Any, **options: Any) -> None:
        self.number = next(loop.numbers)
        super().__init__(loop, *args, **options)

    def __hash__(self) -> int:
        return self.number

    def __del__(self, *_: Any) -> None:
        return None


class Readiness:
    """Stands where a selector would: says which sockets are ready, in the order in which they became so."""

    def __init__(self, files: dict[int, SimSocket]) -> None:
        self._files = files
        self._keys: dict[int, SelectorKey] = {}
        self._maybe: dict[int, None] = {}

    def touch(self, number: int) -> None:
        self._maybe[number] = None

    def any(self) -> bool:
        """Whether a ``select`` would find something; forgets what turned out not to be ready."""
        while self._maybe:
            number = next(iter(self._maybe))
            if self._events(number):
                return True
            del self._maybe[number]
        return False

    def _events(self, number: int) -> int:
        key, file = self._keys.get(number), self._files.get(number)
        return 0 if key is None or file is None else file.ready() & key.events

    # What asyncio asks of a selector

    def select(self, _timeout: float | None) -> list[tuple[SelectorKey, int]]:
        ready = []
        for number in list(self._maybe):
            if events := self._events(number):
                ready.append((self._keys[number], events))
            else:
                del self._maybe[number]
        return ready

    def get_key(self, number: int) -> SelectorKey:
        return self._keys[number]

    def register(self, number: int, events: int, data: Any = None) -> SelectorKey:
        return self.modify(number, events, data)

    def modify(self, number: int, events: int, data: Any = None) -> SelectorKey:
        key = self._keys[number] = SelectorKey(number, number, events, data)
        self._maybe[number] = None
        return key

    def unregister(self, number: int) -> SelectorKey:
        return self._keys.pop(number)

    def get_map(self) -> dict[int, SelectorKey]:
        return self._keys

    def close(self) -> None:
        self._keys.clear()


class NodeLoop(selector_events.BaseSelectorEventLoop):
    """One for a node; the node runs its turns."""

    _ready: Any
    _scheduled: list[Any]
    _run_once: Callable[[], None]
    _selector: Readiness
    _transports: Mapping[int, Any]

    def __init__(self, node: Node, network: Network) -> None:
        self.node = node
        self.numbers = itertools.count(1)
        self._network = network
        super().__init__(Readiness(node.files))  # type: ignore[arg-type]  # as much of a selector as is asked for
        self._clock_resolution = RESOLUTION
        self._thread_id: int | None = threading.get_ident()  # it is running, as far as its tasks can tell
        self._debug = False
        self.set_task_factory(lambda loop, coro, **options: NumberedTask(coro, loop=self, **options))
        self.set_exception_handler(node.on_loop_error)

    def __del__(self, *_: Any) -> None:
        return None

    def dispose(self) -> None:
        """Nothing can be scheduled on it any more."""
        self._thread_id = None
        self.close()

    def time(self) -> float:
        return self.node.world.now

    def create_future(self) -> asyncio.Future[Any]:
        return NumberedFuture(loop=self)

    def _make_self_pipe(self) -> None:
        return None

    def _close_self_pipe(self) -> None:
        return None

    def _write_to_self(self) -> None:
        self.node.world.wake(self.node)

    def _make_socket_transport(
        self, sock: Any, protocol: Any, waiter: Any = None, *, extra: Any = None, server: Any = None, **_: Any
    ) -> NumberedTransport:
        return NumberedTransport(self, sock, protocol, waiter, extra, server)

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """A real thread would be a source of order: a greenlet of this node takes its place, and may block alone."""
        future = self.create_future()

        def work() -> None:
            try:
                result = func(*args)
            except Exception as error:
                if not future.done():
                    future.set_exception(error)
            else:
                if not future.done():
                    future.set_result(result)

        self.call_later(EXECUTOR_SECONDS, self.node.run_thread, work)
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        return None

    async def create_connection(
        self,
        protocol_factory: Any,
        host: Any = None,
        port: Any = None,
        *,
        ssl: Any = None,
        sock: Any = None,
        **_: Any,
    ) -> Any:
        if ssl:
            raise NotImplementedError("simulated connections have no TLS: use http://, ws:// and redis://")
        if sock is None:
            sock = SimSocket(self.node, self._network)
            sock.setblocking(False)
            try:
                await self.sock_connect(sock, (str(host), int(port)))
            except BaseException:
                sock.close()
                raise
        return await super().create_connection(protocol_factory, sock=sock)

    async def create_unix_connection(self, protocol_factory: Any, path: Any = None, **_: Any) -> Any:
        """``path`` is ``host:port``: the way for clients that would open sockets themselves."""
        host, _colon, port = str(path).rpartition(":")
        return await self.create_connection(protocol_factory, host, port)

    async def create_server(
        self,
        protocol_factory: Any,
        host: Any = None,
        port: Any = None,
        *,
        ssl: Any = None,
        sock: Any = None,
        backlog: int = 100,
        start_serving: bool = True,
        **_: Any,
    ) -> Any:
        if ssl:
            raise NotImplementedError("simulated servers have no TLS")
        if sock is None:
            sock = SimSocket(self.node, self._network)
            sock.bind((str(host), int(port or 0)))
            sock.listen(backlog)
        return await super().create_server(
            protocol_factory, sock=sock, backlog=backlog, start_serving=start_serving
        )

    async def getaddrinfo(self, host: Any, port: Any, **_: Any) -> Any:
        return [(SimSocket.family, SimSocket.type, SimSocket.proto, "", (host, port))]

    async def getnameinfo(self, sockaddr: Any, flags: int = 0) -> Any:
        return sockaddr
