"""What Linux says of a process: CPU time to the nanosecond, memory of its own; and which core runs what."""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import psutil


def cpu_seconds(pid: int) -> float:
    """User and system time of all threads so far, as /proc/PID/stat has it, but finer than its hundredths."""
    return time.clock_gettime(~pid << 3 | 2)  # the process's clock: what clock_getcpuclockid(3) makes of it


def user_and_system(pid: int) -> tuple[float, float]:
    """CPU seconds so far, in hundredths."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user), float(times.system)


def memory_bytes(pid: int) -> int:
    """Proportional set size: pages shared with other processes count in part."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise LookupError(f"the kernel tells no Pss of process {pid}")


CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
SERVER_CORE, LOAD_CORE = CORES[0], CORES[-1]


@contextlib.contextmanager
def on_core(core: int) -> Iterator[None]:
    """This thread, and what it starts meanwhile, on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def many_files() -> Iterator[None]:
    """As many open files as the machine allows, for this process and its children."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@contextlib.contextmanager
def no_collections() -> Iterator[None]:
    """The load's own garbage waits, so that it keeps no server waiting."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
