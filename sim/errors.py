"""What can go wrong with the simulator itself, as opposed to what it finds."""

from __future__ import annotations

import traceback
from pathlib import Path


class SimulatorError(Exception):
    """The simulator could not do its work; exit status 3."""


class Stuck(SimulatorError):
    """A run that does not end. ``waiting``: a line per task that says where it waits."""

    def __init__(self, what: str, waiting: str) -> None:
        super().__init__(f"{what}; waiting:\n{waiting or '  nobody'}")
        self.what = what
        self.waiting = waiting


class Unreachable(SimulatorError):
    """This lab cannot do what the scenario asks for: the run says nothing."""


class NotStarted(SimulatorError):
    """Instances did not come to serve, however often they were started."""


class Deadlock(Stuck):
    """A scenario waits, and nothing is left that could happen, or the time it was given is over."""


class Livelock(Stuck):
    """A node goes on for ever while virtual time stands still."""


class HostGone(BaseException):
    """A blocking call in code of a host that is dead: no code of it goes on. No error, and so no ``Exception``."""


def last_line(error: Exception) -> str:
    """What was raised, and where."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"
