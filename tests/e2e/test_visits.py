"""Two instances, one Redis: what a client of any kind sees and says while nothing goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tests.e2e.clients import Kind, signed_in
from tests.e2e.conftest import Ground, Visit

pytestmark = pytest.mark.e2e

Name = Callable[[str], str]
OTHER = Kind("python", "websocket")
"""The client on the other instance: what it sees is the other kinds' test."""


def typing(channel_id: str = "general", **more: object) -> dict[str, object]:
    return {"channel_id": channel_id, "data": {"type": "typing", **more}}


async def test_a_client_is_signed_in_listed_and_told_what_is_used(
    calm: Ground, kind: Kind, visit: Visit, user: Name
) -> None:
    client, ann = visit(kind), user("ann")
    await client.connect(calm.one.url, signed_in(ann))
    first = await client.wait_for("user-list")
    assert ann in first["user_ids"]
    assert isinstance((await client.wait_for("usage"))["models"], list)
    await client.wait_for_transport(kind.transport)
    assert await client.call("user-join", {"auth": signed_in(ann)}) == {"id": ann, "name": ann}
    assert await client.call("join-channels", {"auth": signed_in(ann)}) == {"channels": ["general"]}
    await calm.settled([ann], 1)
    await client.disconnect()
    await calm.settled([ann], 0)


async def test_clients_on_two_instances_see_each_other_come_and_go(
    calm: Ground, kind: Kind, visit: Visit, user: Name
) -> None:
    client, other, ann, bob = visit(kind), visit(OTHER), user("ann"), user("bob")
    await client.connect(calm.one.url, signed_in(ann))
    await other.connect(calm.two.url, signed_in(bob))
    for each in (client, other):
        await each.wait_for("user-list", lambda data: {ann, bob} <= set(data["user_ids"]))
    came = len(client.seen)
    await other.disconnect()
    await client.wait_for("user-list", lambda data: bob not in data["user_ids"], after=came)


async def test_a_client_is_seen_to_leave_by_the_other_instance(
    calm: Ground, kind: Kind, visit: Visit, user: Name
) -> None:
    client, other, ann, bob = visit(kind), visit(OTHER), user("ann"), user("bob")
    await other.connect(calm.two.url, signed_in(bob))
    await client.connect(calm.one.url, signed_in(ann))
    await other.wait_for("user-list", lambda data: ann in data["user_ids"])
    came = len(other.seen)
    await client.disconnect()
    await other.wait_for("user-list", lambda data: ann not in data["user_ids"], after=came)


async def test_differences_are_sent_to_those_who_ask_for_them(
    calm: Ground, kind: Kind, visit: Visit, user: Name
) -> None:
    client, other, ann, bob = visit(kind), visit(OTHER), user("ann"), user("bob")
    await client.connect(calm.one.url, signed_in(ann) | {"presence": "diff"})
    first = await client.wait_for("user-list")
    await other.connect(calm.two.url, signed_in(bob))
    came = await client.wait_for("presence-diff", lambda data: bob in data["joins"])
    await other.disconnect()
    left = await client.wait_for("presence-diff", lambda data: bob in data["leaves"])
    assert first["version"] <= came["version"] < left["version"]
    assert len(client.of("user-list")) == 1


async def test_typing_goes_both_ways_with_the_name_of_who_types(
    calm: Ground, kind: Kind, visit: Visit, user: Name
) -> None:
    client, other, ann, bob = visit(kind), visit(OTHER), user("ann"), user("bob")
    await client.connect(calm.one.url, signed_in(ann))
    await other.connect(calm.two.url, signed_in(bob))
    assert await client.call("channel-events", typing(typing=True) | {"message_id": ann}) is None
    heard = await other.wait_for("channel-events", lambda data: data["user"]["id"] == ann)
    assert heard == {
        "channel_id": "general",
        "message_id": ann,
        "data": {"type": "typing", "typing": True},
        "user": {"id": ann, "name": ann, "role": "user", "profile_image_url": "/user.png"},
    }
    await other.call("channel-events", typing(typing=False))
    back = await client.wait_for("channel-events", lambda data: data["user"]["id"] == bob)
    assert "message_id" not in back
    assert [data for data in other.of("channel-events") if data["user"]["id"] == ann] == [heard]


async def test_binary_data_reaches_the_other_instance_whole(
    calm: Ground, kind: Kind, visit: Visit, user: Name
) -> None:
    client, other, ann, bob = visit(kind), visit(OTHER), user("ann"), user("bob")
    await client.connect(calm.one.url, signed_in(ann))
    await other.connect(calm.two.url, signed_in(bob))
    assert await client.call("channel-events", typing(sketch=b"\x00\xff\x1e")) is None
    heard = await other.wait_for("channel-events", lambda data: data["user"]["id"] == ann)
    assert heard["data"]["sketch"] == b"\x00\xff\x1e"
    await other.call("channel-events", typing(sketch=bytes(range(256))))
    back = await client.wait_for("channel-events", lambda data: data["user"]["id"] == bob)
    assert back["data"]["sketch"] == bytes(range(256))


async def test_a_model_is_in_use_until_some_time_after_its_last_touch(
    calm: Ground, kind: Kind, visit: Visit, user: Name
) -> None:
    client, other, ann, model = visit(kind), visit(OTHER), user("ann"), user("llama")
    await client.connect(calm.one.url, signed_in(ann))
    await other.connect(calm.two.url, signed_in(user("bob")))
    assert await client.call("usage", {"model": model}) is None
    for each in (client, other):
        await each.wait_for("usage", lambda data: model in data["models"])
    used = {each: len(each.seen) for each in (client, other)}
    for each, seen in used.items():
        await each.wait_for("usage", lambda data: model not in data["models"], after=seen)


async def test_what_is_wrong_is_said_in_the_ack_and_the_socket_lives_on(
    calm: Ground, kind: Kind, visit: Visit, user: Name
) -> None:
    client, ann = visit(kind), user("ann")
    await client.connect(calm.one.url, signed_in(ann))
    wrong = [
        ("forbidden", "channel-events", (typing("board"),)),
        ("forbidden", "channel-events", ({"channel_id": "general", "data": {"type": "delete"}},)),
        ("invalid-payload", "channel-events", ({"channel_id": "general"},)),
        ("invalid-payload", "channel-events", (typing(), "more")),
        ("invalid-payload", "usage", ({"model": b"llama"},)),
        ("invalid-payload", "usage", ({"model": "x" * 257},)),
        ("invalid-payload", "usage", ()),
        ("invalid-token", "user-join", ({"auth": {"token": "forged"}},)),
    ]
    for code, event, args in wrong:
        error = (await client.call(event, *args))["error"]
        assert (error["code"], isinstance(error["message"], str)) == (code, True), (event, args, error)
    assert await client.call("user-join", {"auth": signed_in(ann)}) == {"id": ann, "name": ann}


async def test_a_socket_without_a_token_hears_nothing_until_it_signs_in(
    calm: Ground, kind: Kind, visit: Visit, user: Name
) -> None:
    client, other, ann, bob = visit(kind), visit(OTHER), user("ann"), user("bob")
    await client.connect(calm.one.url, None)
    await other.connect(calm.one.url, signed_in(bob))
    await other.wait_for("user-list", lambda data: bob in data["user_ids"])
    refusal = await client.call("channel-events", typing())
    assert refusal["error"]["code"] == "not-authenticated"
    assert [event for event, _ in client.seen if not event.startswith("~")] == []
    assert await client.call("user-join", {"auth": signed_in(ann)}) == {"id": ann, "name": ann}
    await client.wait_for("user-list", lambda data: {ann, bob} <= set(data["user_ids"]))


async def test_a_token_that_ends_closes_its_socket_for_good(
    calm: Ground, kind: Kind, visit: Visit, user: Name
) -> None:
    client, ann = visit(kind), user("ann")
    await client.connect(calm.one.url, signed_in(ann), reconnection=True)
    # Brought now, because a client in Node.js may take long to start, and to connect with it.
    await client.call("user-join", {"auth": signed_in(ann, expires_in=1.0)})
    assert await client.wait_for("closing") == {"code": 4001, "reason": "token expired"}
    reason = await client.wait_for("~disconnect")
    assert reason == ("io server disconnect" if kind.library == "node" else "server disconnect")
    await calm.settled([ann], 0)
    await asyncio.sleep(0.5)  # Several times the longest delay after which it would come back.
    assert not await client.connected()
    assert len(client.of("~connect")) == 1
