"""`python -m sim cluster`: real processes to point something at, and none of them left afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from sim.processes.balancers import find_binary
from sim.processes.redis import RedisServer
from tests.e2e.clients import Kind
from tests.e2e.conftest import Visit
from tests.e2e.pages import ROOT, blocks

pytestmark = pytest.mark.e2e

START_SECONDS = 50.0
LAST_LINE = "Ctrl-C stops all of it."


class Cluster:
    """The command as somebody at a terminal has it: what it printed, and all the processes below it."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        python = str(Path(sys.executable).parent)
        self.environment = os.environ | {
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "PATH": os.pathsep.join([python, os.environ["PATH"]]),
        }
        self._output = folder / "output.txt"
        with self._output.open("wb") as output:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "sim", "cluster", *arguments],
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env=self.environment,
                process_group=0,
            )

    @property
    def said(self) -> str:
        return self._output.read_text()

    def url(self, name: str) -> str:
        found = re.search(rf"^  {name} +(http://\S+)", self.said, re.MULTILINE)
        assert found is not None, self.said
        return found[1]

    def token(self) -> str:
        """By the recipe that it prints."""
        recipe = self.said.partition("a token for ann: ")[2].partition("\n")[0]
        command = ["env", *shlex.split(recipe)]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def processes(self) -> list[psutil.Process]:
        return psutil.Process(self.popen.pid).children(recursive=True)

    def with_argument(self, text: str) -> list[psutil.Process]:
        """Those whose command line has it."""
        found = []
        for process in self.processes():
            with contextlib.suppress(psutil.Error):  # it may end just now
                if text in process.cmdline():
                    found.append(process)
        return found

    async def until(self, what: str, true: Callable[[], object]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not true():
            assert time.monotonic() < deadline, (
                f"{what}: not within {START_SECONDS:g} s; it said: {self.said}"
            )
            await asyncio.sleep(0.02)

    async def serves(self) -> None:
        await self.until("serving", lambda: LAST_LINE in self.said or self.popen.poll() is not None)
        assert self.popen.poll() is None, self.said

    async def ended(self) -> int | None:
        await self.until("the end", lambda: self.popen.poll() is not None)
        return self.popen.returncode


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Callable[..., Cluster]]:
    """Starts the command with these arguments."""
    with contextlib.ExitStack() as ends:

        def start(*arguments: str) -> Cluster:
            made = Cluster(tmp_path, *arguments)
            ends.callback(made.popen.wait, START_SECONDS)
            ends.callback(made.popen.kill)
            return made

        yield start


async def all_gone(cluster: Cluster, processes: list[psutil.Process]) -> None:
    await cluster.until("no process left", lambda: not any(process.is_running() for process in processes))


async def test_the_cluster_shown_serves_behind_its_balancer_and_ctrl_c_stops_all_of_it(
    cluster: Callable[..., Cluster], visit: Visit
) -> None:
    command = blocks()["cluster"].partition("#")[0].split()
    assert command == ["python", "-m", "sim", "cluster", "--instances", "3", "--balancer"]
    running = cluster(*command[4:])
    await running.serves()
    assert ("nginx" if find_binary("nginx") else "the small one") in running.said
    token = await asyncio.to_thread(running.token)
    for place in ("balancer", "instance-1", "instance-3"):
        client = visit(Kind("python", "polling"))
        await client.connect(running.url(place), {"token": token})
        await client.wait_for("user-list", lambda data: data == {"user_ids": ["ann"]})
    processes = running.processes()
    assert len(processes) >= 6, "redis, three instances, a balancer and the guard"
    os.killpg(running.popen.pid, signal.SIGINT)  # a terminal tells all of the group
    told = await client.wait_for("closing")
    assert told["code"] == 4010, "clients are let go as by any orderly shutdown"
    assert await running.ended() == 0
    await all_gone(running, processes)
    assert running.said.endswith(f"{LAST_LINE}\nstopping\n")


async def test_any_target_is_served_on_a_redis_that_is_there_and_the_redis_stays(
    cluster: Callable[..., Cluster], visit: Visit, redis_server: RedisServer
) -> None:
    running = cluster("--target", "naive", "--redis-url", redis_server.url)
    await running.serves()
    assert f"2 instances of naive over {redis_server.url}" in running.said
    token = await asyncio.to_thread(running.token)
    for name in ("instance-1", "instance-2"):
        client = visit(Kind("python", "websocket"))
        await client.connect(running.url(name), {"token": token})
        await client.wait_for("user-list", lambda data: data == {"user_ids": ["ann"]})
    processes = running.processes()
    running.popen.terminate()
    assert await running.ended() == 0
    await all_gone(running, processes)
    assert redis_server.execute("PING") == "PONG"


async def test_an_instance_that_ends_is_told_of_and_when_the_command_is_killed_nothing_is_left(
    cluster: Callable[..., Cluster],
) -> None:
    running = cluster("--balancer", "--instances", "1")
    await running.serves()
    processes = running.processes()
    (victim,) = running.with_argument(running.url("instance-1")[-5:])
    victim.kill()
    await running.until("the news", lambda: "instance-1 ended with status -9" in running.said)
    assert running.popen.poll() is None
    running.popen.kill()
    await all_gone(running, processes)


async def test_ctrl_c_while_it_starts_is_not_kept_waiting_and_leaves_nothing(
    cluster: Callable[..., Cluster], tmp_path: Path
) -> None:
    # It is looked at whether it can be loaded; an instance that loads it takes longer than anybody waits.
    lines = "import sys, time", "if 'sim.cli' not in sys.modules: time.sleep(1000)", "def make(context): ..."
    (tmp_path / "slow.py").write_text("\n".join(lines))
    running = cluster("--instances", "2", "--target", "slow:make")
    await running.until("two instances that start", lambda: len(running.with_argument("slow:make")) == 2)
    await asyncio.sleep(1.0)
    processes = running.processes()
    os.killpg(running.popen.pid, signal.SIGINT)
    assert await running.ended() == 0
    await all_gone(running, processes)
    assert running.said == "starting\nstopping\n"


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (("--target", "nothing"), 2, "no target 'nothing'"),
        (("--instances", "1", "--redis-url", "redis://127.0.0.1:1/0"), 3, "instance-1 ended while starting"),
    ],
    ids=["target", "redis"],
)
async def test_what_cannot_be_served_is_refused_with_a_sentence(
    cluster: Callable[..., Cluster], arguments: tuple[str, ...], status: int, told: str
) -> None:
    running = cluster(*arguments)
    assert await running.ended() == status
    assert told in running.said
    assert "sim/" not in running.said, "no traceback of ours"
