"""Fleets on memory and on Redis, and a log in which nothing may have gone wrong unnoticed."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.events.lab import Fleet, fleet_of, make_settings

MakeFleet = Callable[..., contextlib.AbstractAsyncContextManager[Fleet]]


@pytest.fixture(params=["memory", "redis"])
def make_fleet(request: pytest.FixtureRequest) -> MakeFleet:
    """One instance in memory, or two on one Redis; keyword arguments are settings or those of ``fleet_of``."""
    given: dict[str, Any] = {}
    if request.param == "redis":
        given = {
            "redis_url": request.getfixturevalue("redis_url"),
            "redis_key_prefix": request.getfixturevalue("redis_prefix"),
        }
    return _maker(given, 2 if request.param == "redis" else 1)


@pytest.fixture
def make_pair(redis_url: str, redis_prefix: str) -> MakeFleet:
    """Two instances on one Redis."""
    return _maker({"redis_url": redis_url, "redis_key_prefix": redis_prefix}, 2)


def _maker(given: dict[str, Any], count: int) -> MakeFleet:
    def make(directory: Any = None, *, messages: Any = None, prepare: Any = None, **settings: Any) -> Any:
        made = [make_settings(**{**given, **settings}) for _ in range(count)]
        return fleet_of(made, directory, messages=messages, prepare=prepare)

    return make


@pytest.fixture
def no_tracebacks(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """The test fails if anything was logged as an error or with a traceback."""
    caplog.set_level(logging.INFO)
    yield
    wrong = [record for record in caplog.records if record.exc_info or record.levelno >= logging.ERROR]
    assert not wrong, "\n".join(record.getMessage() for record in wrong)
