"""A Redis host of the simulated world: fakeredis behind simulated TCP.

The only module that knows fakeredis' private parts (its per-connection socket and its RESP encoder); the version is
pinned in pyproject.toml.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import redis.asyncio
from fakeredis import FakeServer
from fakeredis._clients._tcp_server import encode_reply
from fakeredis._commands import command
from fakeredis.aioredis import AsyncFakeSocket

from sim.network import Network
from sim.node import Node
from sim.world import World

PORT = 6379
INFO = (
    b"# Server\r\nredis_version:7.0.0\r\nredis_mode:standalone\r\n"
    b"# Memory\r\nmaxmemory_policy:noeviction\r\n"
    b"# Replication\r\nrole:master\r\n"
)

_PUBLISHED = frozenset(f"{prefix}message".encode() for prefix in ("", "p", "s"))
_PUSHES = frozenset(
    f"{prefix}{kind}".encode()
    for kind in ("message", "subscribe", "unsubscribe")
    for prefix in ("", "p", "s")
)


@dataclass(frozen=True, slots=True)
class Backup:
    """Keys and values of every database at one moment; no scripts, connections or subscriptions."""

    databases: dict[int, dict[bytes, Any]]


class _Lua:
    """A Lua runtime that compiles each script once; fakeredis compiles, and collects all garbage, at each call."""

    def __init__(self, runtime: Any) -> None:
        self._runtime = runtime
        self._compiled: dict[bytes | str, Any] = {"collectgarbage()": lambda: None}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runtime, name)

    def execute(self, script: bytes | str) -> Any:
        found = self._compiled.get(script)
        if found is None:
            found = self._compiled[script] = self._runtime.compile(script)
        return found()


class _Socket(AsyncFakeSocket):
    """One client's connection inside fakeredis; replies go out at once instead of into a queue."""

    reply: Callable[[Any], None]
    number: int

    def __hash__(self) -> int:
        """fakeredis keeps subscribers in a set and publishes in its order."""
        return self.number

    def _get_server_runtime(self, server: FakeServer) -> Any:
        runtime = super()._get_server_runtime(server)
        if not isinstance(runtime, _Lua):
            runtime = _Lua(runtime)
            server._lua_runtime = runtime  # type: ignore[attr-defined]
        return runtime

    @command(name="INFO", fixed=(), repeat=(bytes,))
    def answer_info(self, *_sections: bytes) -> bytes:
        """fakeredis has no INFO, which clients ask for the version and the policy."""
        return INFO

    def put_response(self, msg: Any) -> None:
        self.reply(msg)


class _Connection(asyncio.Protocol):
    """Feeds what arrives to fakeredis and writes its replies back."""

    def __init__(self, host: RedisNode) -> None:
        self._host = host
        self._client = ""
        self._socket: _Socket | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._client = transport.get_extra_info("peername")[0]
        address = "{}:{}".format(*transport.get_extra_info("peername"))
        self._host.accepted += 1
        self._socket = _Socket(
            self._host.data,
            0,
            client_class=redis.asyncio.Redis,
            lua_modules=None,
            client_info={"addr": address},
        )
        self._socket.number = self._host.accepted
        self._socket.reply = self._reply
        self._host.connections[self] = None

    def data_received(self, data: bytes) -> None:
        if self._socket is not None:
            self._host.commands += 1
            self._socket.sendall(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._host.connections.pop(self, None)
        if self._socket is not None:
            self._socket._cleanup(self._host.data)
            self._socket = None

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _reply(self, message: Any) -> None:
        if self._transport is None or self._socket is None:
            return
        if self._client in self._host.deaf and isinstance(message, list) and message[0] in _PUBLISHED:
            self._host.deaf[self._client] += 1
            return
        protocol = self._socket._client_info.protocol_version
        encoded = encode_reply(message, protocol)
        if protocol == 3 and isinstance(message, list) and message and message[0] in _PUSHES:
            encoded = b">" + encoded[1:]
        self._transport.write(encoded)


class RedisNode:
    """The host and its data. ``restart`` brings it back on the same address, with its data or empty."""

    def __init__(self, world: World, network: Network, name: str = "redis") -> None:
        self.name = name
        self._world = world
        self._network = network
        self.data = self._empty()
        self.connections: dict[_Connection, None] = {}
        self.deaf: dict[str, int] = {}
        """Hosts whose subscriptions get nothing, each with the number of messages that it was not sent."""
        self.commands = 0
        self.accepted = 0
        self.node = self._boot()

    @property
    def url(self) -> str:
        return f"redis://{self.name}:{PORT}/0"

    def crash(self) -> None:
        self._network.crash(self.node)

    def restart(self, *, keep_data: bool, back_to: Backup | None = None) -> None:
        """Comes back on the same address; every connection is gone, and the data too unless it is kept, or is as it
        was once."""
        self.crash()
        if not keep_data:
            self.data = self._empty()
        if back_to is not None:
            for number, items in copy.deepcopy(back_to.databases).items():
                for key, item in items.items():
                    self.data.dbs[number][key] = item
        self.connections.clear()
        self.node = self._boot()

    def keep(self) -> Backup:
        """A copy of the data that later changes leave as it is."""
        return Backup({number: copy.deepcopy(dict(base.items())) for number, base in self.data.dbs.items()})

    def hang(self, seconds: float) -> None:
        """Accepts and takes everything, and answers nothing."""
        self.node.pause(seconds)

    def kill_connections(self) -> int:
        """As ``CLIENT KILL`` of them all; how many there were."""
        connections = list(self.connections)
        for connection in connections:
            self.node.deliver(connection.close)
        return len(connections)

    def _empty(self) -> FakeServer:
        data = FakeServer(server_type="redis", version=(7,))
        self._world.on_close(lambda: _forget_lua(data))
        return data

    def _boot(self) -> Node:
        node = Node(self._world, self._network, self.name)
        node.serve(lambda: _Connection(self), PORT)
        return node


def _forget_lua(data: FakeServer) -> None:
    """Lua holds the server and the server holds Lua, which the garbage collector cannot see."""
    for name in [name for name in vars(data) if name.startswith("_lua")]:
        delattr(data, name)
