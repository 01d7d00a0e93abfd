"""A process group that does not outlive its owner, however that ends."""

from __future__ import annotations

import subprocess
import sys

_PROGRAM = "import os, signal, sys; sys.stdin.buffer.read(); os.killpg(0, signal.SIGKILL)"


class Guard:
    """Whoever holds it holds the one end of a pipe; when that closes, all that is in `group` is killed.

    Ctrl-C at a terminal does not reach the group.
    """

    def __init__(self) -> None:
        self._popen = subprocess.Popen(
            [sys.executable, "-ISc", _PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            process_group=0,
        )

    @property
    def group(self) -> int:
        """For `Process.group`."""
        return self._popen.pid

    def close(self) -> None:
        """Kills what is left in the group."""
        assert self._popen.stdin is not None
        self._popen.stdin.close()
        self._popen.wait(10)
