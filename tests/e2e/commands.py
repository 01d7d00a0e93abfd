"""Commands of the documents, run as a newcomer would run them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sim.processes.process import LOOPBACK, Server, clean_environment
from tests.e2e.pages import ROOT

SETTINGS = ("WEBUI_", "WEBSOCKET_", "REALTIME_", "REDIS_", "DATABASE_", "CORS_", "ENABLE_WEBSOCKET")


class Command(Server):
    """A command of the README that serves until it is ended; `text` says which port with `{port}`."""

    def __init__(self, text: str, *, name: str = "readme") -> None:
        super().__init__(name, None)
        self._text = text

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def _command(self, port: int) -> tuple[Sequence[str], Mapping[str, str]]:
        *before, last = self._text.replace("{port}", str(port)).strip().splitlines()
        # exec: so that the process which is ended is the one that serves.
        script = "\n".join([f"cd {self.folder}", *before, f"exec env {last}"])
        return ["bash", "-ec", script], environment(PYTHONPATH=f"{ROOT}{os.pathsep}{self.folder}")

    def _ready_on(self, port: int) -> bool:
        try:
            with urllib.request.urlopen(f"http://{LOOPBACK}:{port}/socket.io-is-elsewhere", timeout=2):
                return True
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False


def environment(**extra: str) -> dict[str, str]:
    """As on a newcomer's machine, with this Python as `python`."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return clean_environment(without=SETTINGS, extra={"PATH": path, "PYTHONUNBUFFERED": "1"} | extra)


def run(command: Sequence[str], *, folder: Path) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment(PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def said_by(block: str, *, folder: Path, status: int) -> str:
    """What the commands of a block print, the last of which ends with the status."""
    done = subprocess.run(
        ["bash", "-c", block],
        cwd=folder,
        env=environment(PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


def without_numbers(text: str) -> str:
    """Other versions of the libraries send other messages before the interesting one."""
    return re.sub(r"\d+(?:\.\d+)?", "0", text)


def post(url: str) -> Any:
    with urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=5) as answer:
        return json.load(answer)
