"""Tries the schedules of a strategy on one scenario and target, and reports what was tried and what broke."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from sim.baseline import Baseline, Recorder
from sim.coverage import Coverage
from sim.likeness import Names, names_of
from sim.plan import Plan
from sim.processes.run import Places, run_on_processes, undisturbed_on_processes
from sim.run import Outcome, Result, make_lab, run
from sim.scenario import Scenario, find
from sim.shrink import shrink
from sim.strategies import Strategy
from sim.targets import load
from sim.workers import Inline, Workers

MOST_INCONCLUSIVE = 0.05


@dataclass(frozen=True, slots=True)
class Attempt:
    """One run to be made, wherever."""

    scenario: str
    target: str
    seed: int
    plan: Plan
    places: Places | None = None
    """Of real processes; None: simulated."""
    names: Names | None = None
    """Of the messages of the simulated run, on processes."""
    after: Mapping[str, str] | None = None
    """See ``sim.likeness.after``."""

    def __str__(self) -> str:
        return f"{self.scenario} on {self.target}, seed {self.seed}: {self.plan}"


@dataclass(frozen=True, slots=True)
class Undisturbed:
    """The run without a hold or a fault, and its messages: what schedules are made of."""

    result: Result
    baseline: Baseline
    names: Names = field(default_factory=dict)
    """Of the messages of the simulated run, on processes."""


@dataclass
class Report:
    """What came of exploring one scenario. Results are added in the order of the plans, so that it is the same
    wherever they were run. ``schedules`` counts plans; the undisturbed run is one more run.
    """

    scenario: str
    target: str
    strategy: str
    possible: int | None = None
    """How many plans the strategy has; None: no end of them."""
    schedules: int = 0
    inconclusive: int = 0
    failed: int = 0
    violations: int = 0
    first: Result | None = None
    """The first violation, shrunk unless that was interrupted."""
    found_after: int = 0
    """How many schedules it took to find the first violation."""
    found_seconds: float = 0.0
    undisturbed: Result | None = None
    steps: int = 0
    messages: int = 0
    virtual_seconds: float = 0.0
    wall_seconds: float = 0.0
    evaluated: Counter[str] = field(default_factory=Counter)
    marks: Counter[str] = field(default_factory=Counter)
    coverage: Coverage = field(default_factory=Coverage)
    failures: list[str] = field(default_factory=list)
    interrupted: bool = False

    @property
    def runs(self) -> int:
        return self.schedules + (self.undisturbed is not None)

    @property
    def outcome(self) -> Outcome:
        """Of all runs: violated or failed if one was, inconclusive if too many were."""
        if self.violations:
            return Outcome.VIOLATED
        if self.failed:
            return Outcome.FAILED
        few = self.inconclusive <= MOST_INCONCLUSIVE * self.runs
        return Outcome.HELD if few else Outcome.INCONCLUSIVE

    def begin(self, undisturbed: Result) -> None:
        self.undisturbed = undisturbed
        self._count(undisturbed)

    def add(self, result: Result) -> None:
        self.schedules += 1
        self._count(result)

    def _count(self, result: Result) -> None:
        self.steps += result.steps
        self.messages += result.messages
        self.virtual_seconds += result.virtual_seconds
        self.evaluated.update(result.evaluated)
        self.marks.update(result.marks)
        self.coverage.add(result.plan, result.orders, result.bitten)
        if result.outcome is Outcome.INCONCLUSIVE:
            self.inconclusive += 1
        elif result.outcome is Outcome.FAILED:
            self.failed += 1
            self.failures.append(f"seed {result.seed}, {result.plan}: {result.message}")
        elif result.outcome is Outcome.VIOLATED:
            self.violations += 1


Watch = Callable[[Report], None]
"""Called between runs, and now and then while results are awaited. It may raise ``KeyboardInterrupt``."""


def undisturbed(scenario: Scenario, target: str, *, seed: int = 0) -> tuple[Result, Baseline]:
    """The baseline run, and its messages."""
    lab = make_lab(scenario, load(target), Plan())
    recorder = Recorder()
    lab.network.observers.append(recorder)
    result = run(scenario, load(target), Plan(), seed=seed, lab=lab)
    return result, Baseline(
        tuple(recorder.messages), frozenset(lab.instances), scenario.derived, scenario.faults
    )


def attempt(wanted: Attempt) -> Result:
    """Makes a run, in whichever process."""
    scenario = find(wanted.scenario)
    if wanted.places is not None:
        return run_on_processes(
            scenario,
            wanted.target,
            wanted.plan,
            seed=wanted.seed,
            places=wanted.places,
            names=wanted.names,
            after=wanted.after,
        )
    return run(scenario, load(wanted.target), wanted.plan, seed=wanted.seed)


def undisturbed_of(names: tuple[str, str]) -> Undisturbed:
    """The same for the names of a scenario and a target, in whichever process."""
    scenario, target = names
    return Undisturbed(*undisturbed(find(scenario), target))


def explore(
    scenario: Scenario,
    target: str,
    strategy: Strategy,
    *,
    schedules: int | None = None,
    seconds: float | None = None,
    stop_at_first: bool = True,
    workers: Workers | None = None,
    watch: Watch = lambda _report: None,
) -> Report:
    """Runs the baseline, then the strategy's plans, within the given number or time; the first violation is shrunk."""
    report = search(
        scenario,
        target,
        strategy,
        schedules=schedules,
        seconds=seconds,
        stop_at_first=stop_at_first,
        workers=workers,
        watch=watch,
    )
    if report.first is not None and not report.interrupted:
        began = time.perf_counter()
        try:
            report.first = shrunk(scenario, target, report.first, watch=lambda: watch(report))
        except KeyboardInterrupt:
            report.interrupted = True
        report.wall_seconds += time.perf_counter() - began
    return report


def search(
    scenario: Scenario,
    target: str,
    strategy: Strategy,
    *,
    schedules: int | None = None,
    seconds: float | None = None,
    stop_at_first: bool = True,
    workers: Workers | None = None,
    watch: Watch = lambda _report: None,
    begin: Undisturbed | None = None,
    places: Places | None = None,
) -> Report:
    """As ``explore``, with the first violation as it was found. ``begin``: the undisturbed run, if there is one.
    ``places``: real processes instead of the simulator; it has to be given with ``begin``."""
    report = Report(scenario.name, target, strategy.name)
    began = time.perf_counter()
    names = None if begin is None or places is None else begin.names
    begin = begin or Undisturbed(*undisturbed(scenario, target))
    report.begin(begin.result)
    report.possible = strategy.possible(begin.baseline)
    if begin.result.outcome is Outcome.VIOLATED:
        report.first = begin.result

    def wanted() -> Iterator[Attempt]:
        for number, (seed, plan) in enumerate(strategy.plans(begin.baseline)):
            if schedules is not None and number >= schedules:
                return
            if seconds is not None and time.perf_counter() - began > seconds:
                return
            yield Attempt(scenario.name, target, seed, plan, places, names)

    try:
        watch(report)
        if begin.result.outcome is not Outcome.FAILED and not (report.first and stop_at_first):
            with contextlib.closing((workers or Inline()).map(attempt, wanted())) as results:
                for result in results:
                    watch(report)
                    if result is None:
                        continue
                    report.add(result)
                    if result.outcome is Outcome.VIOLATED and report.first is None:
                        report.first, report.found_after = result, report.schedules
                        report.found_seconds = time.perf_counter() - began
                        if stop_at_first:
                            break
    except KeyboardInterrupt:
        report.interrupted = True
    report.wall_seconds = time.perf_counter() - began
    return report


def begin_on_processes(wanted: tuple[str, str, Places]) -> Undisturbed:
    """The undisturbed run on processes, with the names that its messages have in the simulator."""
    name, target, places = wanted
    scenario = find(name)
    names = names_of(undisturbed(scenario, target)[1].messages)
    result, baseline = undisturbed_on_processes(scenario, target, places=places, names=names)
    return Undisturbed(result, baseline, names)


def shrunk(
    scenario: Scenario, target: str, failed: Result, *, watch: Callable[[], None] = lambda: None
) -> Result:
    """The same violation with less of a plan. ``watch`` is called before every run."""
    factory = load(target)

    def again(plan: Plan) -> Result:
        watch()
        return run(scenario, factory, plan, seed=failed.seed)

    return shrink(failed, again, derived=scenario.derived)


def shrunk_of(wanted: tuple[str, str, Result]) -> Result:
    """The same for the names of a scenario and a target, in whichever process."""
    scenario, target, failed = wanted
    return shrunk(find(scenario), target, failed)
