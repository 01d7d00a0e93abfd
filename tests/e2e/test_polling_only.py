"""ENABLE_WEBSOCKET_SUPPORT=false, on one embedded instance: long-polling for every client."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from sim.processes.instances import Instance
from tests.e2e.clients import Kind, Refused, signed_in
from tests.e2e.conftest import Visit

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def instance() -> Iterator[Instance]:
    with Instance(demo=True, settings={"ENABLE_WEBSOCKET_SUPPORT": "false"}) as running:
        yield running
        assert "Traceback" not in running.log


async def test_without_websocket_support_clients_talk_by_polling_and_stay_there(
    instance: Instance, kind: Kind, visit: Visit, user: Callable[[str], str]
) -> None:
    client, ann = visit(kind), user("ann")
    if kind.mode == "websocket":
        with pytest.raises(Refused):
            await client.connect(instance.url, signed_in(ann))
        return
    other, bob = visit(Kind("python", "polling")), user("bob")
    await client.connect(instance.url, signed_in(ann))
    await other.connect(instance.url, signed_in(bob))
    await client.wait_for("user-list", lambda data: {ann, bob} <= set(data["user_ids"]))
    assert await client.call("channel-events", {"channel_id": "general", "data": {"type": "typing"}}) is None
    assert (await other.wait_for("channel-events"))["user"]["id"] == ann
    assert await client.transport() == "polling"
    await client.disconnect()
    await other.wait_for("user-list", lambda data: ann not in data["user_ids"])
