"""Where the time of our server goes while it fans out: the kernel's share, and the functions that are busiest.

py-spy samples it from outside; where that is missing or may not look, the server runs under cProfile, which makes
calls of Python functions dearer than they are.
"""

from __future__ import annotations

import pstats
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.bench.wire.fan_out import Audience
from tests.bench.wire.machine import LOAD_CORE, on_core, user_and_system
from tests.bench.wire.peers import DoorKey, Ours, auth, running, user
from tests.bench.wire.swarm import Swarm

SAMPLES_A_SECOND = 400
SHOWN = 12


def profile(*, clients: int, seconds: float = 5.0) -> str:
    """A sentence and a table, in Markdown."""
    with tempfile.TemporaryDirectory(prefix="profile-") as folder:
        path = Path(folder) / "profile"
        kernel = _under_load(clients, seconds, lambda pid: _start_sampling(pid, seconds, path))
        if path.exists():
            how, shares = "py-spy", _sampled(path)
        else:
            _under_load(clients, seconds, lambda _pid: None, traced_to=path)
            how, shares = "cProfile", _traced(path)
    total = sum(shares.values())
    busiest = sorted(shares.items(), key=lambda it: -it[1])[:SHOWN]
    return "\n".join(
        [
            f"Where our time goes: while single events go to {clients} clients, {kernel:.0%} of the server's CPU time "
            f"is the kernel's. Shares of functions, their system calls included ({how}):",
            "",
            "| function | share |",
            "|---|--:|",
            *(f"| `{name}` | {share / total:.0%} |" for name, share in busiest),
        ]
    )


def _under_load(
    clients: int,
    seconds: float,
    watch: Callable[[int], subprocess.Popen[bytes] | None],
    *,
    traced_to: Path | None = None,
) -> float:
    """Events for so long, one after the other, to clients that offered compression; the kernel's share of the time."""
    peer = Ours(users=[user(number) for number in range(clients)], traced_to=traced_to)
    with running([peer]), on_core(LOAD_CORE):
        swarm = Swarm([peer.port], deflate=True, auth=auth)
        door = DoorKey(peer.folder)
        watcher = None
        try:
            swarm.connect(clients)
            swarm.settle(1.0, limit=120)
            watcher = watch(peer.pid)
            audience = Audience([peer], swarm, door)
            user_before, system_before = user_and_system(peer.pid)
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                audience.emit(1)
            user_after, system_after = user_and_system(peer.pid)
            if watcher is not None:
                watcher.wait(30)
        finally:
            if watcher is not None and watcher.poll() is None:
                watcher.kill()
            door.close()
            swarm.close()
        if traced_to is not None:
            peer.terminate()
    system = system_after - system_before
    return system / max(system + user_after - user_before, 0.01)


def _start_sampling(pid: int, seconds: float, path: Path) -> subprocess.Popen[bytes] | None:
    found = _sampler()
    if found is None:
        return None
    command = [found, "record", "--pid", str(pid), "--duration", str(max(1, round(seconds)))]
    command += ["--rate", str(SAMPLES_A_SECOND), "--format", "raw", "--function", "--output", str(path)]
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def _sampler() -> str | None:
    beside = Path(sys.executable).with_name("py-spy")
    return str(beside) if beside.exists() else shutil.which("py-spy")


def _sampled(path: Path) -> Mapping[str, float]:
    """Lines are stacks, outermost first, and how often each was seen; those of the loop's thread count."""
    shares: Counter[str] = Counter()
    for line in path.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        if (
            "_bootstrap" not in stack.partition(";")[0]
        ):  # a database thread that waits looks busy from outside
            shares[stack.rpartition(";")[2]] += int(count)
    return shares


def _traced(path: Path) -> Mapping[str, float]:
    stats = pstats.Stats(str(path)).get_stats_profile().func_profiles
    return {f"{name} ({Path(it.file_name).name}:{it.line_number})": it.tottime for name, it in stats.items()}
