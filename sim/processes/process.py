"""One child process: started, watched, frozen and ended by its id, its output kept in a file."""

from __future__ import annotations

import asyncio
import http.client
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import psutil

LOOPBACK = "127.0.0.1"
START_SECONDS = 30.0
"""How long anything may take to start; generous, because a busy machine is no fault."""

_LOG_TAIL = 4000
_POLL_SECONDS = 0.01
_PORT_TRIES = 5
_T = TypeVar("_T")
_DICE = random.SystemRandom()
"""Several processes look for ports at once, maybe with ``random`` in the same state."""


class ProcessError(Exception):
    """A process did not do in time what it was asked; the text carries the end of its output."""


class PortTaken(ProcessError):
    """Somebody else took the port between its choice and the server's start."""


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on.

    Taken from below the range that Linux and macOS use for outgoing connections, so that a server which is killed and
    started again finds its port still free.
    """
    for _ in range(200):
        port = _DICE.randint(15_000, 31_999)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
            return port
    raise ProcessError("no free port between 15000 and 31999 on 127.0.0.1: end some of what listens there")


def wait_until(what: str, check: Callable[[], _T], *, timeout: float) -> _T:
    """Ask `check` until it answers something true, and return that; `ProcessError` after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        if answer := check():
            return answer
        if time.monotonic() > deadline:
            raise ProcessError(f"{what}: not within {timeout:g} s")
        time.sleep(_POLL_SECONDS)


def is_ready(port: int) -> bool:
    """Whether ``GET /ready`` is answered with 200 there; at most 2 s are waited for the answer."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=2)
    try:
        connection.request("GET", "/ready")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


class Resource(ABC):
    """Something to start and to close, usable with `with` and with `async with`."""

    @abstractmethod
    def start(self) -> None:
        """Start, and wait until it can be used. Raises `ProcessError`."""

    @abstractmethod
    def close(self) -> None:
        """End every process of it and remove its files. Harmless when repeated."""

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.close)


class Process(Resource):
    """A child process with a temporary folder; what subclasses start, this watches and ends.

    Closed at the latest when the object goes away or the interpreter ends.
    """

    group: int | None = None
    """The process group it is started in: None is this process' own, 0 a new one, all of which is killed with it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.folder = Path(tempfile.mkdtemp(prefix=f"{name}-"))
        self._popen: subprocess.Popen[bytes] | None = None
        self._end: weakref.finalize[..., Process] | None = None
        self._remove = weakref.finalize(self, shutil.rmtree, str(self.folder), ignore_errors=True)
        self._last_log = ""

    @property
    def pid(self) -> int:
        """The process id; of the last process, if that has ended."""
        return self._started().pid

    @property
    def running(self) -> bool:
        """Whether the process lives (a paused one does)."""
        return self._popen is not None and self._popen.poll() is None

    @property
    def returncode(self) -> int | None:
        """Exit status, negative for the signal that ended it; None while it runs."""
        return None if self._popen is None else self._popen.poll()

    @property
    def log(self) -> str:
        """Everything the process and its predecessors here wrote; the end of it after `close`."""
        try:
            return self._log_path.read_text(errors="replace")
        except FileNotFoundError:
            return self._last_log

    def kill(self) -> None:
        """SIGKILL: the process gets no chance to do anything. Waits for its end."""
        if self._popen is not None:
            _kill(self._popen, self.group == 0)

    def terminate(self, timeout: float = 15.0) -> int:
        """SIGTERM, then wait for the exit status; raises `ProcessError` (and kills) after `timeout` seconds."""
        popen = self._started()
        popen.terminate()
        self.resume()  # A stopped process takes its SIGTERM only when it continues.
        return self.wait(timeout)

    def wait(self, timeout: float) -> int:
        """Wait for the process to end by itself; raises `ProcessError` (and kills) after `timeout` seconds."""
        popen = self._started()
        try:
            return popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise self._failure(f"did not end within {timeout:g} s") from None

    def pause(self) -> None:
        """SIGSTOP: the process stands still, its connections stay open. Returns when it does."""
        watched = psutil.Process(self.pid)
        watched.send_signal(signal.SIGSTOP)
        wait_until(f"{self.name} stopped", lambda: watched.status() == psutil.STATUS_STOPPED, timeout=5)

    def resume(self) -> None:
        """SIGCONT: go on after a pause; harmless otherwise."""
        if self.running:
            self._started().send_signal(signal.SIGCONT)

    def cpu_seconds(self) -> float:
        """CPU time used so far, user and system, in seconds."""
        times = psutil.Process(self.pid).cpu_times()
        return float(times.user + times.system)

    def close(self) -> None:
        self.kill()
        self._last_log = self.log[-_LOG_TAIL:]
        self._remove()

    def _launch(self, command: Sequence[str], environment: Mapping[str, str] | None) -> None:
        if self.running:
            raise ProcessError(f"{self.name} runs already, as process {self.pid}")
        if not self._remove.alive:
            raise ProcessError(f"{self.name} is closed: make a new one")
        with self._log_path.open("ab") as log:
            popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                process_group=self.group,
            )
        self._popen = popen
        self._end = weakref.finalize(self, _kill, popen, self.group == 0)

    def _failure(self, what: str) -> ProcessError:
        log = self.log[-_LOG_TAIL:].strip() or "(nothing)"
        text = f"{self.name} {what}; exit status {self.returncode}; the end of its output:\n{log}"
        return PortTaken(text) if "address already in use" in log.lower() else ProcessError(text)

    def _await(self, ready: Callable[[], bool], timeout: float) -> None:
        """Wait until `ready` says so; raises `ProcessError` at once when the process ends before."""
        deadline = time.monotonic() + timeout
        while not ready():
            if not self.running:
                raise self._failure("ended while starting")
            if time.monotonic() > deadline:
                raise self._failure(f"was not ready within {timeout:g} s")
            time.sleep(_POLL_SECONDS)

    def _started(self) -> subprocess.Popen[bytes]:
        if self._popen is None:
            raise ProcessError(f"{self.name} was not started")
        return self._popen

    @property
    def _log_path(self) -> Path:
        return self.folder / "output.txt"


class Server(Process):
    """A process that listens on a port of 127.0.0.1.

    With `port=None` a free one is chosen at the first start and kept for later ones, so that clients find the server
    again after a `kill` and a `start`.
    """

    def __init__(self, name: str, port: int | None) -> None:
        super().__init__(name)
        self._port = port

    @property
    def port(self) -> int:
        """The port; known from the first start on unless it was given."""
        if self._port is None:
            raise ProcessError(f"{self.name} was not started")
        return self._port

    def start(self) -> None:
        if self._port is not None:
            self._start_on(self._port)
            return
        for left in reversed(range(_PORT_TRIES)):
            port = free_port()
            try:
                self._start_on(port)
            except PortTaken:
                if not left:
                    raise
            else:
                self._port = port
                return

    def _start_on(self, port: int) -> None:
        self._launch(*self._command(port))
        try:
            self._await(lambda: self._ready_on(port), START_SECONDS)
        except BaseException:
            self.kill()
            raise

    @abstractmethod
    def _command(self, port: int) -> tuple[Sequence[str], Mapping[str, str] | None]:
        """What to run, and its environment (None: this process's)."""

    @abstractmethod
    def _ready_on(self, port: int) -> bool:
        """Whether this very process serves there now."""


def _kill(popen: subprocess.Popen[bytes], whole_group: bool) -> None:
    if popen.poll() is not None:
        return
    if whole_group:
        os.killpg(popen.pid, signal.SIGKILL)
    else:
        popen.kill()
    popen.wait(10)


def clean_environment(*, without: Sequence[str], extra: Mapping[str, str]) -> dict[str, str]:
    """This process's environment less the names that start with one of `without`, plus `extra`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(tuple(without))}
    return kept | dict(extra)
