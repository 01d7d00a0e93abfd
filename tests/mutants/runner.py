"""Runs mutants through their stages, some at a time, until something kills them or nothing is left that could."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from .mutant import Mutant
from .nearest import Stage, stages
from .nursery import LATE, SILENT, Child, Nursery, Verdict

TIMES_BASELINE, MORE_SECONDS = 4.0, 20.0
"""How much longer than on the layer as it is a stage may take."""

FAIR_TIMES = 2.0
"""How much slower the machine may have become before one that was late gets another chance."""

POLL_SECONDS = 0.01

KILLED, TIMED_OUT, SURVIVED = "killed", "timed out", "survived"


class BaselineFailed(Exception):
    """The tests fail on the layer as it is, so that their failing on a mutant would say nothing."""


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of a mutant; ``by`` is the test that killed it. ``seconds`` of wall time, all stages together."""

    mutant: Mutant
    outcome: str
    stage: str = ""
    by: str = ""
    message: str = ""
    seconds: float = 0.0


class Baselines:
    """How long each stage takes on the layer as it is; measured when it is first needed, and when it is doubted."""

    def __init__(self, nursery: Nursery, told: Callable[[str], None]) -> None:
        self._nursery = nursery
        self._told = told
        self._took: dict[Stage, float] = {}

    def limit(self, stage: Stage) -> float:
        """Seconds that the stage may take on a mutant. Raises ``BaselineFailed``."""
        if stage not in self._took:
            self._measure(stage)
        return TIMES_BASELINE * self._took[stage] + MORE_SECONDS

    def was_fair(self, stage: Stage) -> bool:
        """Measures again: False if the machine is so much busier now that the limit was too short."""
        before = self._took[stage]
        self._measure(stage)
        return self._took[stage] < FAIR_TIMES * before

    def child(self, stage: Stage, mutant: Mutant | None, arguments: list[str], *, seconds: float) -> Child:
        return self._nursery.child(mutant, [f"--timeout={stage.each}", *arguments], seconds=seconds)

    def _measure(self, stage: Stage) -> None:
        # Twice at most: on a busy machine a test that waits for a real server may fail once.
        verdict = self._run(stage)
        if not verdict.survived and not stage.steady:
            verdict = self._run(stage)
        if not verdict.survived:
            failed = verdict.test or verdict.how
            raise BaselineFailed(f"{stage.name}: {failed} fails without any mutant: {verdict.message}")
        if not verdict.passed:
            raise BaselineFailed(f"{stage.name}: no test ran")
        self._took[stage] = verdict.seconds
        self._told(f"without a mutant: {stage.name}, {verdict.passed} tests, {verdict.seconds:.1f} s")

    def _run(self, stage: Stage) -> Verdict:
        return _wait(self.child(stage, None, list(stage.arguments), seconds=600.0))


def run(
    mutants: list[Mutant], *, jobs: int, told: Callable[[str], None], done: Callable[[Fate], None]
) -> None:
    """Calls ``done`` with the fate of each, in the order in which they end. Raises ``BaselineFailed``."""
    nursery = Nursery()
    baselines = Baselines(nursery, told)
    waiting, running = list(reversed(mutants)), list[_Trial]()
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                running.append(_Trial(waiting.pop(), baselines))
            for trial in list(running):
                fate = trial.step()
                if fate is not None:
                    running.remove(trial)
                    done(fate)
            time.sleep(POLL_SECONDS)
    finally:
        for trial in running:
            trial.child.end()
        nursery.close()


class _Trial:
    """One mutant on its way through the stages."""

    def __init__(self, mutant: Mutant, baselines: Baselines) -> None:
        self._mutant = mutant
        self._baselines = baselines
        self._left = list(stages(mutant))
        self._suspect: Verdict | None = None
        self._acquitted: list[str] = []
        self._seconds = 0.0
        self.child = self._start()

    def step(self) -> Fate | None:
        verdict = self.child.poll()
        if verdict is None:
            return None
        self._seconds += verdict.seconds
        stage = self._left[0]
        if self._suspect is not None:
            first, self._suspect = self._suspect, None
            if not verdict.survived:
                return self._fate(KILLED, first)
            # The machine was slow; the test says nothing against this mutant.
            self._acquitted.append(first.test)
        elif verdict.how == LATE:
            if self._baselines.was_fair(stage):
                return self._fate(TIMED_OUT, verdict)
        elif not verdict.survived:
            if stage.steady or verdict.how == SILENT:
                return self._fate(KILLED, verdict)
            self._suspect = verdict
        else:
            self._left.pop(0)
            self._acquitted = []
            if not self._left:
                return self._fate(SURVIVED, None)
        self.child = self._start()
        return None

    def _start(self) -> Child:
        stage = self._left[0]
        limit = self._baselines.limit(stage)
        if self._suspect is not None and "::" in self._suspect.test:
            return self._baselines.child(stage, self._mutant, [self._suspect.test], seconds=limit)
        passed_over = [f"--deselect={test}" for test in self._acquitted]
        return self._baselines.child(stage, self._mutant, [*stage.arguments, *passed_over], seconds=limit)

    def _fate(self, outcome: str, verdict: Verdict | None) -> Fate:
        if verdict is None:
            return Fate(self._mutant, outcome, seconds=self._seconds)
        if "Timeout (>" in verdict.message:
            outcome = TIMED_OUT
        by = verdict.test or ("(the process died)" if verdict.how == SILENT else "(the time was over)")
        return Fate(self._mutant, outcome, self._left[0].name, by, verdict.message, self._seconds)


def _wait(child: Child) -> Verdict:
    while (verdict := child.poll()) is None:
        time.sleep(POLL_SECONDS)
    return verdict
