"""The servers that are compared, each a process of its own, started and ended by its id."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from realtime.auth import create_token
from realtime.directory.sql import SqlDirectory
from sim.processes.instances import SECRET_KEY, Instance
from sim.processes.process import LOOPBACK, Server
from tests.bench.wire import event
from tests.bench.wire.machine import SERVER_CORE, on_core
from tests.support.node import FOLDER, node_binary

ROOT = Path(__file__).resolve().parents[3]


class Peer(Protocol):
    """A server under test: where it listens, and the door behind which it emits."""

    name: str
    folder: Path

    @property
    def pid(self) -> int: ...

    @property
    def port(self) -> int: ...

    def start(self) -> None: ...

    def close(self) -> None: ...


class Plain(Server):
    """A server in Python that is not ours: ``stock`` or ``bare``, of the module of that name.

    ``users``: stock looks them up in a database, as ours does, registers sessions and says who is online.
    """

    def __init__(self, name: str, *, redis_url: str | None = None, users: Sequence[str] = ()) -> None:
        super().__init__(name, None)
        self._redis_url = redis_url
        self._users = users
        self._database_url = f"sqlite+aiosqlite:///{self.folder}/realtime.db"

    def start(self) -> None:
        if self._users:
            asyncio.run(_write_users(self._database_url, self._users))
        super().start()

    def _command(self, port: int) -> tuple[Sequence[str], Mapping[str, str]]:
        module = f"tests.bench.wire.{self.name}_app"
        command = [sys.executable, "-m", module, "--host", LOOPBACK, "--port", str(port)]
        if self._redis_url:
            command += ["--redis-url", self._redis_url]
        if self._users:
            command += ["--database-url", self._database_url]
        return command, _environment(self.folder)

    def _ready_on(self, port: int) -> bool:
        return _listens(self.folder, port)


class Node(Server):
    """Node's socket.io. Raises ``NodeMissing`` when started without Node."""

    def __init__(self, *, redis_url: str | None = None) -> None:
        super().__init__("node", None)
        self._redis_url = redis_url

    def _command(self, port: int) -> tuple[Sequence[str], Mapping[str, str]]:
        command = [str(node_binary()), str(FOLDER / "wire_server.mjs"), str(port)]
        return [*command, *([self._redis_url] if self._redis_url else [])], _environment(self.folder)

    def _ready_on(self, port: int) -> bool:
        return _listens(self.folder, port)


class Ours(Instance):
    """One instance with its defaults but for ``settings``; ``users`` stand in its database, members of one channel.

    ``traced_to``: run under cProfile, and leave there what it saw when terminated.
    """

    def __init__(
        self,
        *,
        users: Sequence[str],
        redis_url: str | None = None,
        database_url: str | None = None,
        settings: Mapping[str, str] | None = None,
        traced_to: Path | None = None,
    ) -> None:
        super().__init__(
            redis_url=redis_url,
            database_url=database_url,
            settings=settings,
            name="ours",
            module="tests.bench.wire.ours_app",
        )
        self._settings["WIRE_DOOR"] = str(door_path(self.folder))
        if traced_to is not None:
            self._settings["WIRE_TRACE"] = str(traced_to)
        self._users = users

    def start(self) -> None:
        if self._users:
            asyncio.run(_write_users(self.database_url, self._users))
        super().start()


class DoorKey:
    """A connection to a server's door; to another than the first by its ``name``."""

    def __init__(self, folder: Path, name: str = "door") -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.connect(str(folder / name))
        except OSError:
            self._socket.close()
            raise

    def emit(self, first: int, count: int, text: str = event.TEXT) -> None:
        """Has the server emit these events to the room, one call after the other."""
        self._socket.send(f"{first} {count} {text}\n".encode())

    def close(self) -> None:
        self._socket.close()


@contextlib.contextmanager
def running(peers: Sequence[Peer]) -> Iterator[None]:
    """Starts them on the servers' core, and ends them."""
    try:
        with on_core(SERVER_CORE):
            for peer in peers:
                peer.start()
        yield
    finally:
        for peer in peers:
            peer.close()


def user(number: int) -> str:
    return f"user-{number:05d}"


def auth(number: int) -> bytes:
    """What the client of this number says in CONNECT."""
    token = create_token(user(number), SECRET_KEY, expires_in=24 * 3600)
    return b'{"token":"' + token.encode() + b'"}'


def door_path(folder: Path) -> Path:
    return folder / "door"


async def _write_users(database_url: str, users: Sequence[str]) -> None:
    # A demo's directory makes up whom it sees: the shortest way to thousands of rows.
    directory = SqlDirectory(database_url, demo=True, timeout=60)
    await directory.start()
    try:
        await asyncio.gather(*(directory.login(user_id) for user_id in users))
    finally:
        await directory.close()


def _environment(folder: Path) -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return os.environ | {
        "PYTHONPATH": path,
        "WEBUI_SECRET_KEY": SECRET_KEY,
        "WIRE_DOOR": str(door_path(folder)),
        "WIRE_ROOM": event.ROOM,
    }


def _listens(folder: Path, port: int) -> bool:
    try:
        DoorKey(folder).close()
        with socket.create_connection((LOOPBACK, port), timeout=1):
            return True
    except OSError:
        return False
