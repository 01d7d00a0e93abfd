"""Tries the schedules of a strategy on one scenario and target, and reports what was tried and what broke."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

from sim.baseline import Baseline, Recorder
from sim.plan import Plan, PlannedSchedule
from sim.run import Outcome, Result, make_lab, run
from sim.scenario import Scenario
from sim.shrink import shrink
from sim.strategies import Strategy
from sim.targets import load


@dataclass
class Report:
    """What came of exploring one scenario."""

    scenario: str
    target: str
    strategy: str
    possible: int | None = None
    schedules: int = 0
    inconclusive: int = 0
    failed: int = 0
    violations: int = 0
    unbitten: int = 0
    """Schedules of which a hold or fault never took effect."""
    first: Result | None = None
    """The first violation, shrunk."""
    baseline: Result | None = None
    steps: int = 0
    messages: int = 0
    virtual_seconds: float = 0.0
    wall_seconds: float = 0.0
    evaluated: Counter[str] = field(default_factory=Counter)
    marks: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    interrupted: bool = False

    def add(self, result: Result) -> None:
        self.schedules += 1
        self.steps += result.steps
        self.messages += result.messages
        self.virtual_seconds += result.virtual_seconds
        self.evaluated += result.evaluated
        self.marks += result.marks
        self.unbitten += len(result.bitten) < len(result.plan)
        if result.outcome is Outcome.INCONCLUSIVE:
            self.inconclusive += 1
        elif result.outcome is Outcome.FAILED:
            self.failed += 1
            self.failures.append(f"{result.plan}: {result.message}")
        elif result.outcome is Outcome.VIOLATED:
            self.violations += 1


def undisturbed(scenario: Scenario, target: str, *, seed: int = 0) -> tuple[Result, Baseline]:
    """The baseline run, and its messages."""
    lab = make_lab(scenario, load(target), PlannedSchedule(Plan()))
    recorder = Recorder()
    lab.network.observers.append(recorder)
    result = run(scenario, load(target), Plan(), seed=seed, lab=lab)
    return result, Baseline(tuple(recorder.messages), frozenset(lab.instances), scenario.derived)


def explore(
    scenario: Scenario,
    target: str,
    strategy: Strategy,
    *,
    schedules: int | None = None,
    seconds: float | None = None,
    stop_at_first: bool = True,
) -> Report:
    """Runs the baseline, then the strategy's plans, within the given number or time."""
    report = Report(scenario.name, target, strategy.name)
    began = time.perf_counter()
    factory = load(target)
    report.baseline, baseline = undisturbed(scenario, target)
    report.possible = strategy.possible(baseline)
    try:
        for result in _results(report, scenario, target, strategy, baseline, schedules, seconds, began):
            if result.outcome is Outcome.VIOLATED and report.first is None:
                report.first = shrink(
                    result, partial(run, scenario, factory, seed=result.seed), derived=scenario.derived
                )
                if stop_at_first:
                    break
    except KeyboardInterrupt:
        report.interrupted = True
    report.wall_seconds = time.perf_counter() - began
    return report


def _results(
    report: Report,
    scenario: Scenario,
    target: str,
    strategy: Strategy,
    baseline: Baseline,
    schedules: int | None,
    seconds: float | None,
    began: float,
) -> Iterator[Result]:
    assert report.baseline is not None
    report.add(report.baseline)
    yield report.baseline
    factory = load(target)
    for seed, plan in strategy.plans(baseline):
        if schedules is not None and report.schedules > schedules:
            return
        if seconds is not None and time.perf_counter() - began > seconds:
            return
        result = run(scenario, factory, plan, seed=seed)
        report.add(result)
        yield result
