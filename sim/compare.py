"""Every scenario on the naive target, which it breaks, and on ``realtime``, which holds: what shows that scenarios and
exploring are worth something.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import TypeVar

from sim.explore import Report, Undisturbed, search, shrunk_of, undisturbed_of
from sim.run import Outcome, Result
from sim.scenario import Scenario, scenarios
from sim.strategies import strategy
from sim.workers import Workers

NAIVE, REALTIME = "naive", "realtime"
NAIVE_SECONDS = 5.0
MOST_DISTURBANCES = 3
SOAK_SCHEDULES = 2000
LEAST_SHARE_SECONDS = 0.2
"""However slow the machine and however little is left: a scenario of which nothing was tried says nothing."""


Item = TypeVar("Item")
Answer = TypeVar("Answer")


@dataclass
class Row:
    """What came of one scenario; None: not tried. ``naive``: the search for a schedule that breaks it."""

    scenario: Scenario
    naive_undisturbed: Result | None = None
    naive: Report | None = None
    realtime: Report | None = None

    @property
    def on_naive(self) -> bool:
        return self.scenario.kind in "rd" and not self.scenario.waits

    @property
    def outcome(self) -> Outcome:
        """Held if all is as it has to be; a scenario that waits is let pass."""
        if self.realtime is not None and self.realtime.outcome is not Outcome.HELD:
            return self.realtime.outcome
        return Outcome.FAILED if self.problems() else Outcome.HELD

    def problems(self) -> list[str]:
        """Sentences on what is not as it has to be."""
        found = [*self._naive_problems()] if self.on_naive and self.naive_undisturbed else []
        report = self.realtime
        if report is not None and report.outcome is Outcome.VIOLATED and report.first is not None:
            found.append(f"realtime broke: {report.first.message} ({report.first.plan})")
        elif report is not None and report.outcome is Outcome.FAILED:
            found.append(f"the simulator failed on realtime: {report.failures[0]}")
        elif report is not None and report.outcome is Outcome.INCONCLUSIVE:
            found.append(f"{report.inconclusive} of {report.runs} runs of realtime were inconclusive")
        return found

    def _naive_problems(self) -> Iterator[str]:
        assert self.naive_undisturbed is not None
        calm, message = self.naive_undisturbed.outcome, self.naive_undisturbed.message
        if self.scenario.kind == "d":
            if calm is not Outcome.VIOLATED:
                yield f"a fault of the design has to break naive at once, but it {calm} {message}".rstrip()
            return
        if calm is not Outcome.HELD:
            yield f"naive has to hold undisturbed, but: {calm} {message}".rstrip()
        elif self.naive is None:
            return
        elif self.naive.first is None:
            yield f"no schedule broke naive ({self.naive.schedules} of {self.naive.possible} tried)"
        elif len(self.naive.first.plan) > MOST_DISTURBANCES:
            yield f"breaking naive took more than {MOST_DISTURBANCES} holds or faults: {self.naive.first.plan}"


@dataclass
class Comparison:
    """``seconds``: what a bounded comparison may spend; None: it was exhaustive."""

    seconds: float | None
    rows: list[Row]
    interrupted: bool = False
    wall_seconds: float = 0.0

    @property
    def outcomes(self) -> list[Outcome]:
        found = [row.outcome for row in self.rows]
        return [*found, Outcome.FAILED] if self.silent_safeguards() else found

    def evaluated(self, target: str) -> Counter[str]:
        """How often each invariant was evaluated."""
        total: Counter[str] = Counter()
        for row in self.rows:
            for report in self._of(row, target):
                total.update(report.evaluated)
        return total

    def marks(self) -> Counter[str]:
        """How often each safeguard of ``realtime`` acted."""
        total: Counter[str] = Counter()
        for row in self.rows:
            for report in self._of(row, REALTIME):
                total.update(report.marks)
        return total

    def silent_safeguards(self) -> list[str]:
        """Those that no run ever reached; only the whole comparison knows."""
        return [name for name, times in self.marks().items() if not times] if self.whole else []

    @property
    def whole(self) -> bool:
        """Whether it was exhaustive, over all scenarios, and came to its end."""
        tried = {row.scenario.name for row in self.rows}
        return self.seconds is None and not self.interrupted and tried == set(scenarios())

    @staticmethod
    def _of(row: Row, target: str) -> list[Report]:
        report = row.naive if target == NAIVE else row.realtime
        return [] if report is None else [report]


Watch = Callable[[str, int, int | None], None]
"""What is being done, how much of it is done, and of how much; it may raise ``KeyboardInterrupt``."""


@dataclass
class Comparing:
    """Compares ``scenarios``: all runs go through ``workers``. ``seconds``: for all of it together, shared out over the
    scenarios; None: every single disturbance of each, and random schedules of the random workloads.
    """

    scenarios: Sequence[Scenario]
    workers: Workers
    seconds: float | None
    watch: Watch = lambda _what, _done, _total: None
    _calm: dict[tuple[str, str], Undisturbed] = field(default_factory=dict)

    def run(self) -> Comparison:
        began = time.perf_counter()
        done = Comparison(self.seconds, [Row(scenario) for scenario in self.scenarios])
        rows = [row for row in done.rows if not row.scenario.waits]
        try:
            self._undisturbed(rows)
            for row in rows:
                self._break_naive(row)
            self._shrink([report for row in rows if (report := row.naive) is not None])
            for number, row in enumerate(rows):
                share = None
                if self.seconds is not None:
                    left = self.seconds - (time.perf_counter() - began)
                    share = max(LEAST_SHARE_SECONDS, left / (len(rows) - number))
                self._try_realtime(row, share)
            self._shrink([report for row in rows if (report := row.realtime) is not None])
        except KeyboardInterrupt:
            done.interrupted = True
        done.wall_seconds = time.perf_counter() - began
        return done

    def _undisturbed(self, rows: Sequence[Row]) -> None:
        wanted = [(row.scenario.name, REALTIME) for row in rows]
        wanted += [(row.scenario.name, NAIVE) for row in rows if row.on_naive]
        found = self._each(undisturbed_of, wanted, "undisturbed runs")
        self._calm = dict(zip(wanted, found, strict=True))
        for row in rows:
            if row.on_naive:
                row.naive_undisturbed = self._calm[row.scenario.name, NAIVE].result

    def _break_naive(self, row: Row) -> None:
        if row.on_naive:
            # What breaks undisturbed is not explored, the search ends with that run; a fault of the design has to.
            explored = None if row.scenario.kind == "r" else 0
            row.naive = self._search(row.scenario, NAIVE, seconds=NAIVE_SECONDS, schedules=explored)
            self._unless_interrupted(row.naive)

    def _try_realtime(self, row: Row, seconds: float | None) -> None:
        schedules = SOAK_SCHEDULES if row.scenario.derived else None
        row.realtime = self._search(row.scenario, REALTIME, seconds=seconds, schedules=schedules)
        self._unless_interrupted(row.realtime)

    def _search(
        self, scenario: Scenario, target: str, *, seconds: float | None, schedules: int | None = None
    ) -> Report:
        return search(
            scenario,
            target,
            strategy("random" if scenario.derived else "single-fault"),
            schedules=schedules,
            seconds=seconds,
            workers=self.workers,
            watch=lambda report: self.watch(
                f"{scenario.name} on {target}", report.schedules, schedules or report.possible
            ),
            begin=self._calm[scenario.name, target],
        )

    def _shrink(self, reports: Sequence[Report]) -> None:
        broken = [report for report in reports if report.first is not None and report.found_after]
        wanted = [(each.scenario, each.target, each.first) for each in broken if each.first is not None]
        for report, smaller in zip(broken, self._each(shrunk_of, wanted, "shrinking"), strict=True):
            report.first = smaller

    def _each(self, work: Callable[[Item], Answer], items: Sequence[Item], what: str) -> list[Answer]:
        found: list[Answer] = []
        with closing(self.workers.map(work, items)) as answers:
            for answer in answers:
                found += [] if answer is None else [answer]
                self.watch(what, len(found), len(items))
        return found

    @staticmethod
    def _unless_interrupted(report: Report) -> None:
        if report.interrupted:
            raise KeyboardInterrupt
