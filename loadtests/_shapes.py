"""How the number of users goes over time, when `--shape` asks for it. -u is the peak, -r the rate, -t the length."""

from __future__ import annotations

import logging
import os
import signal
from typing import Any, ClassVar

from locust import LoadTestShape

from loadtests import _clock
from loadtests._lab import Lab
from loadtests._objectives import COUNTS, TIMES, Objective, parse_objective, seconds_at

DEFAULT_USERS = 100
DEFAULT_BOUND = "fan-out-p99<=0.5"
"""The objective of the shape steps when none is given."""
FRESH_SECONDS = 4.0
"""Workers report every 3 s: a step is judged by what is surely here."""
PRESENT_SHARE = 0.95
"""Of a step's users: fewer that are connected, or idle between two connections, and it did not hold."""
log = logging.getLogger("load")

Tick = tuple[int, float] | None


class Shape(LoadTestShape):
    """Base: `notes` are lines for the report."""

    abstract = True
    use_common_options: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.begin()

    def reset_time(self) -> None:
        """Locust calls it when a test starts: from a web page that may be the second."""
        super().reset_time()  # type: ignore[no-untyped-call]
        self.begin()

    def begin(self) -> None:
        """As if nothing had been yet."""
        self.notes: list[str] = []

    @property
    def options(self) -> Any:
        assert self.runner is not None
        return self.runner.environment.parsed_options

    @property
    def users(self) -> int:
        return int(self.options.num_users or DEFAULT_USERS)

    @property
    def seconds(self) -> float:
        return float(self.options.run_time or self.options.shape_seconds)

    def rate(self, default: float) -> float:
        return float(self.options.spawn_rate or max(1.0, default))

    @property
    def elapsed(self) -> float:
        """Seconds since the run began."""
        return float(self.get_run_time())  # type: ignore[no-untyped-call]

    def over(self) -> bool:
        return self.elapsed >= self.seconds


class Ramp(Shape):
    """Evenly from one user to the peak, until the end."""

    def tick(self) -> Tick:
        if self.over():
            return None
        return max(1, round(self.users * min(1.0, self.elapsed / self.seconds))), self.rate(self.users)


class Steps(Shape):
    """More users at each step until an objective breaks: how many connections hold within the bound."""

    def begin(self) -> None:
        super().begin()
        self._step = 0
        self._began = 0.0
        self._began_at = 0.0
        self._held = 0

    def tick(self) -> Tick:
        size, limit = int(self.options.step_users), int(self.options.num_users or 0)
        step = self._coming + float(self.options.step_seconds) + FRESH_SECONDS
        if not self._step or self.elapsed - self._began >= step:
            if self._step:
                if broken := self._broken():
                    return self._end(f"at {self._step * size} users broke: {broken}")
                self._held = self._step * size
                log.info("%d users held", self._held)
                if limit and self._held >= limit:
                    return self._end("none broke up to -u")
            self._step += 1
            self._began, self._began_at = self.elapsed, _clock.now()
        if self.options.run_time and self.over():
            return self._end("time was up")
        return self._step * size, self.rate(size)

    @property
    def _coming(self) -> float:
        """Seconds until a step's users are all there."""
        size = int(self.options.step_users)
        return size / self.rate(size)

    def _end(self, why: str) -> Tick:
        line = f"{self._held} users held within the bound; {why}"
        self.notes.append(line)
        log.info("%s", line)
        return None

    def _broken(self) -> str:
        """What the second half of the step broke, and by what; empty if nothing."""
        lab = Lab.current()
        seconds, here = float(self.options.step_seconds), self._began_at + self._coming
        since, until = here + seconds / 2, here + seconds + 1
        wanted = self._step * int(self.options.step_users)
        present = sum(lab.collector.gauge(name, since, until) for name in ("connected", "idle"))
        if present < PRESENT_SHARE * wanted:
            return f"only {present:.4g} of them could connect"
        for objective in lab.options.objectives or (parse_objective(DEFAULT_BOUND),):
            value = measured(lab, objective, since, until)
            if value is None or value > objective.limit:
                return f"{objective.text} ({'nothing was measured' if value is None else f'{value:.4g}'})"
        return ""


class Spike(Shape):
    """A tenth of the peak; in the middle third all of it at once; then a tenth again."""

    def tick(self) -> Tick:
        if self.over():
            return None
        third = self.seconds / 3
        peak = third <= self.elapsed < 2 * third
        return (self.users if peak else max(1, self.users // 10)), self.rate(self.users)


class Storm(Shape):
    """All users all the time; in the middle `--kill-pid` is killed, and its users come back elsewhere."""

    def begin(self) -> None:
        super().begin()
        self._killed = False

    def tick(self) -> Tick:
        if self.over():
            return None
        if not self._killed and self.elapsed >= self.seconds / 2:
            self._killed = True
            self._kill(int(self.options.kill_pid))
        return self.users, self.rate(self.users)

    def _kill(self, pid: int) -> None:
        if not pid:
            line = "nothing was killed: give --kill-pid"
        else:
            try:
                os.kill(pid, signal.SIGKILL)
                line = f"the process {pid} was killed after {self.elapsed:.0f} s"
            except OSError as error:
                line = f"the process {pid} could not be killed: {error.strerror}"
        self.notes.append(line)
        log.info("%s", line)


class Soak(Shape):
    """The peak slowly, within a tenth of the time, then held."""

    def tick(self) -> Tick:
        if self.over():
            return None
        share = min(1.0, self.elapsed / (self.seconds / 10))
        return max(1, round(self.users * share)), self.rate(self.users)


SHAPES: dict[str, type[Shape]] = {
    "ramp": Ramp,
    "steps": Steps,
    "spike": Spike,
    "storm": Storm,
    "soak": Soak,
}


def measured(lab: Lab, objective: Objective, since: float, until: float) -> float | None:
    """The objective's figure of a part of the run; None where nothing was measured."""
    if objective.percentile is None:
        assert objective.name in COUNTS
        return float(lab.collector.counted(objective.name, since, until))
    return seconds_at(lab.collector.between(TIMES[objective.name], since, until), objective.percentile)
