"""A server host of the simulated world: an ASGI application under the real uvicorn."""

from __future__ import annotations

import asyncio
from typing import Any

import uvicorn

from sim.errors import last_line
from sim.network import Network
from sim.node import Node
from sim.targets import Context, Factory, websocket_protocol
from sim.world import World

PORT = 80


class InstanceNode:
    """``start`` boots it; after ``crash`` it may be started again under the same name, as a new process would."""

    def __init__(self, world: World, network: Network, context: Context, factory: Factory) -> None:
        self.name = context.name
        self.app: Any = None
        self._world = world
        self._network = network
        self._context = context
        self._factory = factory
        self._server: uvicorn.Server | None = None
        self.node: Node | None = None
        self.former: list[Any] = []
        """The applications of earlier lives."""
        self.trouble = ""
        """Why it ended the last time, where it did not even start."""
        self.started_at = 0.0
        self._serving: asyncio.Task[None] | None = None

    @property
    def address(self) -> str:
        return f"{self.name}:{PORT}"

    @property
    def running(self) -> bool:
        return self.node is not None and self.node.alive and self._server is not None and self._server.started

    @property
    def ended(self) -> bool:
        """Whether it died, or gave up."""
        return (
            self.node is None or not self.node.alive or (self._serving is not None and self._serving.done())
        )

    def start(self) -> Node:
        if self.app is not None:
            self.former.append(self.app)
        self._server = None
        self.started_at = self._world.now
        self._world.nodes.pop(self.name, None)
        node = self.node = Node(self._world, self._network, self.name)
        self._serving = node.spawn(self._serve(), name="uvicorn")
        return node

    def crash(self, *, silent: bool = False) -> None:
        """As ``kill -9``; ``silent``: as a host that loses its power."""
        assert self.node is not None
        self._network.crash(self.node, silent=silent)

    def terminate(self) -> None:
        """As SIGTERM."""
        assert self._server is not None
        self._server.should_exit = True

    async def _serve(self) -> None:
        """What ``Server.serve`` does, but for the signal handlers of the process; and its end."""
        node = self.node
        assert node is not None
        try:
            self.app = self._factory(self._context)
        except Exception as error:
            self.trouble = f"its factory raised {last_line(error)}"
            raise
        config = uvicorn.Config(
            self.app,
            host=self.name,
            port=PORT,
            log_config=None,
            access_log=False,
            ws=websocket_protocol(self.app),
            ws_ping_interval=None,
            timeout_graceful_shutdown=5,
        )
        config.load()
        server = self._server = uvicorn.Server(config)
        server.lifespan = config.lifespan_class(config)
        try:
            await server.startup()
        finally:  # some versions of uvicorn raise SystemExit, others only set should_exit
            if server.lifespan.should_exit:
                self.trouble = "its lifespan failed (python -m sim --verbose … shows its log)"
        if not server.should_exit:
            await server.main_loop()
        if server.started:
            await server.shutdown()
        self._network.exit(node)
