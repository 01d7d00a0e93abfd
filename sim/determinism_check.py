"""Runs the same seeds twice in this process and in two others whose strings hash differently: all must be the same run.

``python -m sim.determinism_check`` is the other process: jobs as JSON on its input, fingerprints on its output.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest
from typing import Any, Self

from sim.errors import SimulatorError
from sim.leaks import LEAKS
from sim.plan import Plan
from sim.run import make_lab, run
from sim.scenario import Scenario, find
from sim.simulated import SimulatedLab
from sim.targets import Factory, load

HASH_SEEDS = ("1", "4242")
MOST_SHOWN = 300
LEAK = "leak:"
"""Begins the name of a planted leak, where a scenario's name is wanted."""


@dataclass(frozen=True, slots=True)
class Job:
    """Seeds of one scenario on one target."""

    scenario: str
    target: str
    seeds: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """Two runs of one seed that differ. ``where``: what was different about the second; the lines differ first."""

    scenario: str
    target: str
    seed: int
    where: str
    expected: str
    found: str

    def __str__(self) -> str:
        return (
            f"{self.scenario} on {self.target}, seed {self.seed}, is another run {self.where}:\n"
            f"  first: {self.expected}\n   then: {self.found}"
        )


def check_all(jobs: Sequence[Job], *, watch: Callable[[], None] = lambda: None) -> list[Finding]:
    """At most one finding for each scenario and seed; empty when all is well. ``watch`` is called after every run here.

    Raises ``SimulatorError`` when another process could not run them.
    """
    with contextlib.ExitStack() as processes:
        others = [processes.enter_context(_Other(hash_seed, jobs)) for hash_seed in HASH_SEEDS]
        return _compare(jobs, others, watch)


def _compare(jobs: Sequence[Job], others: Sequence[_Other], watch: Callable[[], None]) -> list[Finding]:
    first = [_fingerprints(job, watch) for job in jobs]
    again = [_fingerprints(job, watch) for job in jobs]
    runs: list[tuple[str, list[list[str]], _Other | None]] = [
        ("a second time in the same process", again, None)
    ]
    runs += [
        (f"in a process with PYTHONHASHSEED={other.hash_seed}", other.results(), other) for other in others
    ]
    findings: dict[tuple[Job, int], Finding] = {}
    for where, results, other in runs:
        for job, mine, theirs in zip(jobs, first, results, strict=True):
            for seed, expected, found in zip(job.seeds, mine, theirs, strict=True):
                if expected != found and (job, seed) not in findings:
                    findings[job, seed] = _explain(job, seed, where, other)
    return list(findings.values())


def hash_of_x_elsewhere() -> list[int]:
    """``hash("x")`` in each of the other processes: they really differ."""
    return [int(_Other(hash_seed, [], what="hash").output()) for hash_seed in HASH_SEEDS]


class _Other:
    """Another process that runs the jobs, side by side with this one."""

    def __init__(self, hash_seed: str, jobs: Sequence[Job], *, what: str = "fingerprints") -> None:
        self.hash_seed = hash_seed
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "sim.determinism_check", what],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            text=True,
        )
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([asdict(job) for job in jobs]) + "\n")
        self._process.stdin.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.__exit__(None, None, None)

    def output(self) -> str:
        output, errors = self._process.communicate()
        if self._process.returncode:
            raise SimulatorError(f"the run with PYTHONHASHSEED={self.hash_seed} failed:\n{errors}")
        return output

    def results(self) -> list[list[str]]:
        found: list[list[str]] = json.loads(self.output().splitlines()[-1])
        return found


def _explain(job: Job, seed: int, where: str, other: _Other | None) -> Finding:
    """Runs it again with its lines kept, and finds the first that differ."""
    one = Job(job.scenario, job.target, (seed,))
    mine = _lines(one)
    if other is None:
        theirs = _lines(one)
    else:
        theirs = json.loads(_Other(other.hash_seed, [one], what="lines").output().splitlines()[-1])
    for expected, found in zip_longest(mine, theirs, fillvalue="(nothing more)"):
        if expected != found:
            return Finding(job.scenario, job.target, seed, where, expected[:MOST_SHOWN], found[:MOST_SHOWN])
    unseen = "(not when its lines were kept: it is not the same every time)"
    return Finding(job.scenario, job.target, seed, where, unseen, unseen)


def _scenario(name: str) -> Scenario:
    return LEAKS[name.removeprefix(LEAK)] if name.startswith(LEAK) else find(name)


def _fingerprints(job: Job, watch: Callable[[], None] = lambda: None) -> list[str]:
    scenario, factory = _scenario(job.scenario), load(job.target)
    found = []
    for seed in job.seeds:
        found.append(_run(scenario, factory, seed).trace.fingerprint)
        watch()
    return found


def _lines(job: Job) -> list[str]:
    lab = _run(_scenario(job.scenario), load(job.target), job.seeds[0], keep=True)
    return lab.trace.lines


def _run(scenario: Scenario, factory: Factory, seed: int, *, keep: bool = False) -> SimulatedLab:
    """Undisturbed but for a jitter from the seed: every message has a delay of its own."""
    plan = Plan(jitter_seed=seed)
    lab = make_lab(scenario, factory, plan)
    lab.trace.keep = keep
    run(scenario, factory, plan, seed=seed, lab=lab)
    return lab


def _main(what: str) -> None:
    jobs = [Job(**job) for job in json.loads(sys.stdin.readline())]
    answer: Any = hash("x")
    if what != "hash":
        answer = [(_lines if what == "lines" else _fingerprints)(job) for job in jobs]
        answer = answer[0] if what == "lines" else answer
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    _main(sys.argv[1])
