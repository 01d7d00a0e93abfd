"""Instances for the protocols' statements: pings come often, so that they fall between everything else."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.wire.lab import Instance, serving

from .client import KINDS, Kind

PINGS = {"ping_interval": 0.2, "ping_timeout": 20.0}


@pytest.fixture
async def instance() -> AsyncIterator[Instance]:
    """Pings every 0.2 s, for whose answers it waits long; namespaces / and /admin; `echo` and `ask` answer."""
    async with serving(namespaces=["/", "/admin"], **PINGS) as it:
        prepare(it)
        yield it


def prepare(instance: Instance) -> None:
    """Keep what comes in `seen`, and answer `echo` with what it carries."""
    server = instance.server

    def note(event: str, sid: str, *args: Any) -> Any:
        instance.seen.append((event, *args))
        return args if event == "echo" else None

    for namespace in ("/", "/admin"):
        server.on("*", note, namespace=namespace)
        server.on(
            "disconnect", lambda sid, reason: instance.seen.append(("gone", reason)), namespace=namespace
        )


@pytest.fixture(params=KINDS, ids=str)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Each transport, with a client that answers pings and with one that never does."""
    given: Kind = request.param
    return given


@pytest.fixture(autouse=True)
def _a_client_never_makes_the_server_log_an_error(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    errors = [
        record.getMessage() for record in caplog.get_records("call") if record.levelno >= logging.WARNING
    ]
    assert not errors
