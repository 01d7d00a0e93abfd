"""The database host of a simulated world: users and channels behind a connection, so that a look-up can be held.

The protocol is one line of JSON each way: ``["login", user]`` → ``[user, channels]`` or ``null``;
``["members", channel]`` → users.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from sim.network import Network
from sim.node import Node
from sim.targets import CHANNEL
from sim.world import World

PORT = 5432


class Users:
    """They exist on first sight and are members of ``general``, unless ``outside`` or ``unknown`` say otherwise."""

    def __init__(self) -> None:
        self.channels: dict[str, set[str]] = {CHANNEL: set()}
        self.outside: set[tuple[str, str]] = set()
        """Pairs of channel and user that are not members, against the rule."""
        self.unknown: set[str] = set()

    def answer(self, request: list[str]) -> Any:
        verb, argument = request
        if verb == "login":
            if argument in self.unknown:
                return None
            self.channels[CHANNEL].add(argument)
            mine = [name for name, members in self.channels.items() if argument in members]
            return [argument, sorted(name for name in mine if (name, argument) not in self.outside)]
        members = self.channels.get(argument, set())
        return sorted(user for user in members if (argument, user) not in self.outside)


class DirectoryNode(Users):
    """The host that serves them."""

    def __init__(self, world: World, network: Network, name: str = "db") -> None:
        super().__init__()
        self.address = (name, PORT)
        self.node = Node(world, network, name)
        self.node.serve(lambda: Lines(self), PORT)


class Lines(asyncio.Protocol):
    """One connection to them."""

    def __init__(self, users: Users) -> None:
        self._users = users
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            assert self._transport is not None
            self._transport.write(json.dumps(self._users.answer(json.loads(line))).encode() + b"\n")
