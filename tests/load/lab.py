"""Starts the servers that load tests run against, and Locust itself, as processes: gevent stays out of pytest."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sim.processes.instances import SECRET_KEY
from sim.processes.process import LOOPBACK, Server
from tests.load.__main__ import FOLDER, environment, locust

BOUND = 45.0
"""Seconds after which a run is given up."""
BUSY = ("--typing-every", "0.3", "--usage-every", "0.5", "--late-after", "0.5", "--max-lag", "30")
"""Users who act often, and a generator that may be late: test machines are."""


class FalseServer(Server):
    """`tests.load.false_server` as a process."""

    def __init__(self, fault: str = "none") -> None:
        super().__init__("false-server", None)
        self._fault = fault

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def _command(self, port: int) -> tuple[Sequence[str], Mapping[str, str]]:
        command = [
            sys.executable,
            "-m",
            "tests.load.false_server",
            "--port",
            str(port),
            "--fault",
            self._fault,
        ]
        return command, environment()

    def _ready_on(self, port: int) -> bool:
        try:
            urllib.request.urlopen(
                f"http://{LOOPBACK}:{port}/ws/socket.io/?EIO=4&transport=polling", timeout=2
            ).close()
        except OSError:
            return False
        return True


@dataclass(frozen=True, slots=True)
class Run:
    """How a run of Locust ended: `figures` are its JSON report, `locust` Locust's own."""

    status: int
    output: str
    figures: dict[str, Any]
    locust: list[dict[str, Any]]

    def seconds(self, metric: str, percentile: str) -> float:
        """The largest over the transports."""
        return max(
            float(times[percentile])
            for key, times in self.figures["times"].items()
            if key.partition("|")[0] == metric
        )


def run(
    folder: Path, *arguments: str, secret: str = SECRET_KEY, variables: Mapping[str, str] | None = None
) -> Run:
    """Runs Locust to its end. The report is empty when it did not come to that."""
    return ended(folder, started(folder, *arguments, secret=secret, variables=variables))


def started(
    folder: Path, *arguments: str, secret: str = SECRET_KEY, variables: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """Locust, in a process group of its own as a terminal would start it."""
    report, own = folder / "load.json", folder / "locust"
    return subprocess.Popen(
        locust([*arguments, "--report-json", str(report), "--json-file", str(own)]),
        env=environment(secret) | dict(variables or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        process_group=0,
    )


def ended(folder: Path, process: subprocess.Popen[str]) -> Run:
    """Waits for what `started` began."""
    report, own = folder / "load.json", folder / "locust.json"
    try:
        output, _ = process.communicate(timeout=BOUND)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    figures = json.loads(report.read_text()) if report.exists() else {}
    requests = json.loads(own.read_text()) if own.exists() else []
    return Run(process.returncode, output, figures, requests)


def from_the_web_page(
    folder: Path, forms: Sequence[Mapping[str, object]], seconds: float, *arguments: str
) -> Run:
    """A test for each form that is sent, of so many seconds, then Ctrl-C."""
    web = free_port()

    def post(path: str, fields: Mapping[str, object]) -> None:
        data = urllib.parse.urlencode(fields).encode()
        urllib.request.urlopen(f"http://127.0.0.1:{web}/{path}", data, timeout=30).close()

    page = ("--headful", "--web-host", "127.0.0.1", "--web-port", str(web))
    process = started(folder, *page, *BUSY, *arguments, "WebsocketUser")
    try:
        wait_for_port(web)
        for form in forms:
            post("swarm", form)
            time.sleep(seconds)
            post("stop", {})
    finally:
        os.killpg(process.pid, signal.SIGINT)
    return ended(folder, process)


def wait_for_port(port: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"nobody listens on {port}")


def free_port() -> int:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        return int(reserved.getsockname()[1])


def two_workers() -> tuple[str, ...]:
    port = str(free_port())
    return ("--processes", "2", "--master-bind-port", port, "--master-port", port)


def most_connected(done: Run) -> float:
    return float(max(row["connected"] for row in done.figures["rows"]))


def own_requests(done: Run, name: str) -> int:
    return sum(each["num_requests"] - each["num_failures"] for each in done.locust if each["name"] == name)


def lines_of(done: Run, mark: str) -> list[str]:
    return [line.partition(": ")[2] for line in done.output.splitlines() if mark in line]


def drive(program: str, *arguments: str) -> Any:
    """Runs a program of `tests.load.programs` under gevent; what it prints is JSON."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.load.programs", program, *arguments],
        env=environment() | {"PYTHONPATH": os.pathsep.join([str(FOLDER.parent)])},
        stdout=subprocess.PIPE,
        text=True,
        timeout=BOUND,
        check=True,
    )
    return json.loads(done.stdout)
