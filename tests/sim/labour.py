"""Work for worker processes, which find it by its name."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

from sim.errors import Stuck
from sim.workers import serve

STATUS = 7


def double(number: int) -> int:
    return 2 * number


def double_slowly(number: int) -> int:
    """Later ones are done sooner, so that answers come out of order."""
    time.sleep(0.05 if number % 2 == 0 else 0.0)
    return 2 * number


def double_the_first_at_once(number: int) -> int:
    time.sleep(0.0 if number == 100 else 0.3)
    return 2 * number


def fail_at_three(number: int) -> int:
    if number == 3:
        raise Stuck("three", "nobody")
    return number


def die_at_three(number: int) -> int:
    if number == 3:
        os._exit(STATUS)
    return number


def process_of(_number: int) -> int:
    return os.getpid()


def ctrl_c_is_blocked(_number: int) -> bool:
    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def stay(folder: str) -> None:
    """What takes far longer than anybody waits; who is at it, and that it was left in order, stands in the folder."""
    try:
        (Path(folder) / f"{os.getpid()}.at-it").touch()
        time.sleep(300)
    finally:
        (Path(folder) / f"{os.getpid()}.left").touch()


def served_and_told_to_end(work_comes: Connection) -> None:
    """A worker whose owner closed the connection, and is told to end on its way out. Its exit status is ``STATUS``."""
    serve(work_comes, logging.NOTSET)
    os.kill(os.getpid(), signal.SIGTERM)
    sys.exit(STATUS)
