"""One nursery for all tests, so that instances start in milliseconds."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from sim.processes.hosts import nursery_of_instances
from sim.processes.lab import ProcessLab
from sim.processes.nursery import Nursery


@pytest.fixture(scope="session")
def nursery() -> Nursery:
    """That of the commands, too, as far as tests run them in this process."""
    return nursery_of_instances()


@pytest.fixture
def live(nursery: Nursery, redis_binary: Path) -> Callable[..., ProcessLab]:
    """Runs a coroutine in a lab of processes; the lab, when all of it has ended."""

    def run(
        scenario: Callable[[Any], Coroutine[Any, Any, None]], target: str = "naive", **options: Any
    ) -> ProcessLab:
        lab = ProcessLab(target, nursery=nursery, redis_binary=redis_binary, **options)
        lab.run(scenario, limit=40)
        return lab

    return run
