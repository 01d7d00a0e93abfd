"""A process from which others are forked: what they need is imported already, so that one starts in milliseconds.

``python -m sim.processes.nursery MODULE…`` imports the modules and waits for orders on its standard input: a line of
JSON ``{"order", "argv", "env", "log"}`` each, answered by ``{"born": pid, "order"}``; ``{"dead": pid, "status"}``
tells of an end. What
begins with this very Python, ``-m`` and one of the modules calls its ``main`` in the fork itself, anything else is
executed there.
When its owner is gone, however that ended, it kills what is left and ends.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import random
import select
import signal
import subprocess
import sys
import threading
import time
import traceback
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

BIRTH_SECONDS = 120.0
"""It may have to be started first, with dozens like it, on a busy machine."""

END_SECONDS = 10.0
POLL_SECONDS = 0.005


class NurseryGone(OSError):
    """The process that forks has ended; the text says how."""


class Child:
    """A process of the nursery's, with what ``subprocess.Popen`` has for its owner."""

    def __init__(self, nursery: Nursery, pid: int, args: Sequence[str]) -> None:
        self.pid = pid
        self.args = args
        self.returncode: int | None = None
        self._nursery = nursery

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self._nursery.status_of(self.pid)
        return self.returncode

    def wait(self, timeout: float) -> int:
        """Raises ``subprocess.TimeoutExpired``."""
        deadline = time.monotonic() + timeout
        while (status := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(self.args, timeout)
            time.sleep(POLL_SECONDS)
        return status

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


class Nursery:
    """One such process, started when it is first needed; ``close`` ends it and all that it forked."""

    def __init__(self, *modules: str) -> None:
        self._modules = modules
        self._process: subprocess.Popen[bytes] | None = None
        self._ended: dict[int, int] = {}
        self._rest = b""
        self._orders = 0
        self._lock = threading.Lock()

    def fork(self, argv: Sequence[str], env: Mapping[str, str] | None, log: Path) -> Child:
        """Raises ``NurseryGone``."""
        with self._lock:
            process = self._running()
            assert process.stdin is not None
            log.touch()
            self._orders += 1
            order = {
                "order": self._orders,
                "argv": list(argv),
                "env": dict(os.environ if env is None else env),
                "log": str(log),
            }
            try:
                process.stdin.write(json.dumps(order).encode() + b"\n")
                process.stdin.flush()
            except OSError as error:
                raise NurseryGone(f"the nursery ended with status {process.poll()}") from error
            deadline = time.monotonic() + BIRTH_SECONDS
            while (born := self._born(POLL_SECONDS)) is None:
                if time.monotonic() > deadline or process.poll() is not None:
                    raise NurseryGone(
                        f"no process within {BIRTH_SECONDS:g} s; the nursery's status is {process.poll()}"
                    )
            return Child(self, born, argv)

    def status_of(self, pid: int) -> int | None:
        """As ``Popen.returncode``; -SIGKILL for all when the nursery itself is gone."""
        with self._lock:
            self._born(0.0)
            if pid not in self._ended and (self._process is None or self._process.poll() is not None):
                return -signal.SIGKILL
            return self._ended.get(pid)

    def close(self) -> None:
        with self._lock:
            if self._process is not None:
                _end(self._process)
                self._process = None

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            # It finds what this process finds. Ctrl-C is for the owner, which ends what it started.
            path = os.pathsep.join(each or os.getcwd() for each in sys.path)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "sim.processes.nursery", *self._modules],
                env={**os.environ, "PYTHONPATH": path},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,
            )
            weakref.finalize(self, _end, self._process)
        return self._process

    def _born(self, seconds: float) -> int | None:
        """Reads what the nursery has to tell; a process id when it has made one."""
        assert self._process is None or self._process.stdout is not None
        if self._process is None or self._process.stdout is None:
            return None
        number, born = self._process.stdout.fileno(), None
        while born is None and select.select([number], [], [], seconds)[0]:
            data = os.read(number, 65536)
            if not data:
                return None
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in lines:
                told: dict[str, int] = json.loads(line)
                if "dead" in told:
                    self._ended[told["dead"]] = told["status"]
                elif told["order"] == self._orders:  # not one that nobody waits for any more
                    born = told["born"]
        return born


def _end(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


# The process itself


def main(modules: Sequence[str]) -> None:
    for module in modules:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()
    _Birthplace(frozenset(modules)).live()


class _Birthplace:
    def __init__(self, modules: frozenset[str]) -> None:
        self._modules = modules
        self._children: set[int] = set()
        self._wakes, self._woken = os.pipe()

    def live(self) -> None:
        os.set_blocking(self._woken, False)
        signal.signal(signal.SIGCHLD, lambda *_: os.write(self._woken, b"."))
        rest = b""
        try:
            while True:
                ready = select.select([0, self._wakes], [], [])[0]
                if self._wakes in ready:
                    os.read(self._wakes, 4096)
                    self._bury()
                if 0 in ready:
                    data = os.read(0, 65536)
                    if not data:
                        return
                    *lines, rest = (rest + data).split(b"\n")
                    for line in lines:
                        self._bear(json.loads(line))
        except BrokenPipeError:
            return
        finally:
            for pid in self._children:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def _bear(self, order: dict[str, Any]) -> None:
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                status = _run(order, self._modules, (self._wakes, self._woken))
            except BaseException:
                _leave_word(order["log"])
            finally:
                os._exit(status)
        self._children.add(pid)
        _tell({"born": pid, "order": order["order"]})

    def _bury(self) -> None:
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            self._children.discard(pid)
            _tell({"dead": pid, "status": os.waitstatus_to_exitcode(status)})


def _tell(what: dict[str, int]) -> None:
    os.write(1, json.dumps(what).encode() + b"\n")


def _leave_word(log: str) -> None:
    """Why a fork did not come to do what it was ordered."""
    with open(log, "a") as out:
        traceback.print_exc(file=out)


def _run(order: dict[str, Any], modules: frozenset[str], pipes: tuple[int, int]) -> int:
    """In the fork: what was ordered; its exit status."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for pipe in pipes:
        os.close(pipe)
    null, log = (
        os.open(os.devnull, os.O_RDONLY),
        os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND),
    )
    for made, number in ((null, 0), (log, 1), (log, 2)):
        os.dup2(made, number)
    os.environ.clear()
    os.environ.update(order["env"])
    argv: list[str] = order["argv"]
    if argv[:2] != [sys.executable, "-m"] or argv[2] not in modules:
        os.execvpe(argv[0], argv, order["env"])
    random.seed()  # else all that are forked draw the same
    sys.argv = argv[2:]
    try:
        sys.modules[argv[2]].main()
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
    except KeyboardInterrupt:
        return 130
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


if __name__ == "__main__":
    main(sys.argv[1:])
