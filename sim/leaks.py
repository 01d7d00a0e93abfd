"""Ten ways in which a run can depend on more than its seed, planted: ``python -m sim determinism`` must find each.

None of them is in what the simulator owns; each puts what leaked into bytes that a host sends.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable

from sim.directory_node import PORT
from sim.lab import Lab
from sim.scenario import Scenario
from sim.targets.directory import Directory

MANY = 3000
"""Objects whose addresses decide an order: with few of them chance may give the same one twice."""

DATABASE = ("db", PORT)

LEAKS: dict[str, Scenario] = {}
_left_behind: list[int] = []


def leak(name: str, about: str) -> Callable[[Callable[[], str]], Callable[[], str]]:
    """Registers a scenario that sends what ``leaks`` returns to the database host."""

    def register(leaks: Callable[[], str]) -> Callable[[], str]:
        async def run(lab: Lab) -> None:
            await Directory(*DATABASE).login(leaks())

        LEAKS[name] = Scenario(name, "r", about, run)
        return leaks

    return register


class _Thing:
    def __init__(self, number: int) -> None:
        self.number = number


@leak("set-of-objects", "a set of objects is walked through: its order is that of their addresses")
def _set_of_objects() -> str:
    return " ".join(str(thing.number) for thing in {_Thing(number) for number in range(MANY)})


@leak("set-of-strings", "a set of strings is walked through: its order is another one in every process")
def _set_of_strings() -> str:
    return " ".join({f"word-{number}" for number in range(20)})


@leak("object-address", "an object without a name is put into a text")
def _object_address() -> str:
    return repr(object())


@leak("file-clock", "the wall clock, by way of a file's time")
def _file_clock() -> str:
    with tempfile.TemporaryFile() as file:
        file.write(b"x")
        file.flush()
        return str(os.fstat(file.fileno()).st_mtime_ns)


@leak("processor-time", "the time that the processor took")
def _processor_time() -> str:
    return str(time.process_time_ns())


@leak("system-entropy", "random bytes straight from the system")
def _system_entropy() -> str:
    with open("/dev/urandom", "rb") as device:
        return device.read(8).hex()


@leak("process-id", "the number of the process")
def _process_id() -> str:
    return str(os.getpid())


@leak("thread-identity", "the identity of the thread, which is an address")
def _thread_identity() -> str:
    return str(threading.get_ident())


@leak("state-left-behind", "a global that the run before has changed")
def _state_left_behind() -> str:
    _left_behind.append(1)
    return str(len(_left_behind))


async def _thread(lab: Lab) -> None:
    """A thread of the system works beside the loop, and virtual time passes for as long as it takes."""
    thread = threading.Thread(target=lambda: sum(number * number for number in range(2_000_000)))
    thread.start()
    while thread.is_alive():
        await lab.sleep(0.001)
    await Directory(*DATABASE).login("done")


LEAKS["thread"] = Scenario("thread", "r", "a thread of the system ends when it likes", _thread)
