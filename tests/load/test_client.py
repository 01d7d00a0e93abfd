"""The raw client against a real instance, and against stock python-socketio."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sim.processes.instances import Instance
from tests.load.lab import FalseServer, drive

pytestmark = pytest.mark.e2e
TRANSPORTS = ["websocket", "polling", "upgrade"]


@pytest.fixture(scope="module")
def stock() -> Iterator[FalseServer]:
    with FalseServer() as started:
        yield started


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_it_gets_acks_refusals_and_events_of_a_real_instance(instance: Instance, transport: str) -> None:
    said = drive("talk", instance.url, transport)
    assert said["ack"] is None
    assert said["refused"] == "forbidden"
    assert [each["user"]["id"] for each in said["heard"]] == ["ann"]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_bytes_travel_in_events_acks_and_answers(stock: FalseServer, transport: str) -> None:
    assert drive("binary", stock.url, transport) == {"echo": True, "answer": True}


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_pings_are_answered(stock: FalseServer, transport: str) -> None:
    assert drive("stay", stock.url, transport) == {"echo": "still here", "sid": True}


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_close_by_the_server_is_noticed_with_its_reason(stock: FalseServer, transport: str) -> None:
    assert "4004: kicked" in drive("kicked", stock.url, transport)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_refusal_in_words_alone_is_told_as_it_is(stock: FalseServer, transport: str) -> None:
    assert drive("denied", stock.url, transport).endswith("refused the connect (refused): go away")


def test_a_server_that_sends_no_pings_is_given_up(stock: FalseServer) -> None:
    assert "no ping in time" in drive("deaf", stock.url, "websocket")
