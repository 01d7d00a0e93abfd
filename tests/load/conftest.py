"""The instance that Locust is run against; shared by the tests of a file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sim.processes.instances import Instance


@pytest.fixture(scope="module")
def instance() -> Iterator[Instance]:
    with Instance(demo=True) as started:
        yield started
