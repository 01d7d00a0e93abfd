"""Whatever a client sends, it gets a typed answer, nothing changes, and the log stays quiet."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from realtime.errors import InvalidPayload
from realtime.payloads import (
    MAX_DEPTH,
    ChannelEvent,
    Identify,
    Usage,
    check_plain,
    connect_token,
    parse,
    wants_diffs,
)
from tests.events.conftest import MakeFleet
from tests.events.lab import Client, Fleet, ask, client, code, dump, fleet_of, heard, make_settings, token_for

EVENTS = ["user-join", "join-channels", "channel-events", "usage"]

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
keys = st.sampled_from(
    ["auth", "token", "channel_id", "message_id", "data", "type", "model", "models", "__class__"]
) | st.text(max_size=5)
garbage = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)
# Almost right: the shape of a good payload with something wrong in one place.
almost = st.one_of(
    st.fixed_dictionaries({"auth": garbage}),
    st.fixed_dictionaries({"auth": st.fixed_dictionaries({"token": garbage})}),
    st.fixed_dictionaries({"model": garbage}),
    st.fixed_dictionaries({"channel_id": garbage, "data": garbage}),
    st.fixed_dictionaries({"channel_id": st.just("red"), "data": st.fixed_dictionaries({"type": garbage})}),
    st.fixed_dictionaries(
        {"channel_id": st.just("red"), "message_id": garbage, "data": st.just({"type": "typing"})}
    ),
)
arguments = st.lists(garbage | almost, max_size=3)


def fits(event: str, args: list[Any]) -> bool:
    """Whether this garbage happens to be a good payload."""
    if len(args) != 1 or not isinstance(args[0], dict):
        return False
    if event == "usage":
        return is_name(args[0].get("model"))
    if event == "channel-events":
        data, message_id = args[0].get("data"), args[0].get("message_id")
        if not isinstance(data, dict) or not isinstance(data.get("type"), str):
            return False
        return is_name(args[0].get("channel_id")) and (message_id is None or is_name(message_id))
    return False


def is_name(value: object) -> bool:
    return isinstance(value, str) and value != "" and not re.search("[\x00-\x1f\x7f\ud800-\udfff]", value)


@contextlib.contextmanager
def own_loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


def test_no_garbage_changes_anything_or_is_logged_as_an_error(caplog: pytest.LogCaptureFixture) -> None:
    """One instance and one client for all examples: starting them is what takes time."""
    caplog.set_level(logging.INFO)
    with own_loop() as runner, contextlib.ExitStack() as ends:

        def enter(manager: contextlib.AbstractAsyncContextManager[Any]) -> Any:
            entered = runner.run(manager.__aenter__())
            ends.callback(lambda: runner.run(manager.__aexit__(None, None, None)))
            return entered

        fleet: Fleet = enter(fleet_of([make_settings()]))
        ann: Client = enter(client(fleet.one.url, "ann"))

        @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(event=st.sampled_from(EVENTS), args=arguments)
        def sends(event: str, args: list[Any]) -> None:
            async def send() -> None:
                before = await dump(fleet.one.server)
                ack = await ask(ann, event, *args)
                assert ack is None or code(ack) in CODES
                if not fits(event, args):
                    assert ack is not None
                if ack is not None:
                    assert await dump(fleet.one.server) == before

            runner.run(send())

        sends()
        assert ann.sio.connected
    wrong = [record for record in caplog.records if record.exc_info or record.levelno >= logging.ERROR]
    assert not wrong, "\n".join(record.getMessage() for record in wrong)


CODES = {"invalid-payload", "invalid-token", "forbidden", "limit-exceeded"}


@given(shape=st.sampled_from([Identify, ChannelEvent, Usage]), args=arguments)
def test_parsing_raises_nothing_but_what_the_client_is_told(shape: Any, args: list[Any]) -> None:
    with contextlib.suppress(InvalidPayload):
        parse(shape, args, max_id_length=256)


@pytest.mark.parametrize(
    ("shape", "given", "where"),
    [
        (Identify, "x", "payload"),
        (Identify, {"auth": 1}, "auth"),
        (ChannelEvent, {"channel_id": "a", "data": []}, "data"),
    ],
)
def test_what_is_no_object_is_told_in_words_of_the_protocol(shape: Any, given: Any, where: str) -> None:
    with pytest.raises(InvalidPayload, match=f"^{where}: Input should be an object$"):
        parse(shape, [given], max_id_length=10)


@given(auth=garbage | almost)
def test_auth_of_connect_is_never_an_error(auth: Any) -> None:
    token = connect_token(auth)
    assert token is None or isinstance(token, str)
    assert wants_diffs(auth) in (True, False)


@given(value=garbage)
def test_what_passes_as_plain_is_json_for_every_reader(value: Any) -> None:
    try:
        check_plain(value, what="data")
    except InvalidPayload:
        return
    json.dumps(value, allow_nan=False)


def nested(depth: int) -> Any:
    value: Any = 1
    for number in range(depth):
        value = [value] if number % 2 else {"k": value}
    return value


def test_nesting_is_bounded_exactly() -> None:
    check_plain(nested(MAX_DEPTH - 1), what="data")
    with pytest.raises(InvalidPayload, match="nested too deeply"):
        check_plain(nested(MAX_DEPTH), what="data")


TOO_LONG = "x" * 257
BAD = [
    ("user-join", []),
    ("user-join", [{"auth": {"token": "t"}}, 2]),
    ("user-join", [{"auth": {"token": b"bytes"}}]),
    ("user-join", [{"auth": {"token": "x" * 100_000}}]),
    ("join-channels", [{"auth": None}]),
    ("usage", [{"model": TOO_LONG}]),
    ("usage", [{"model": "a\nb"}]),
    ("usage", [{"model": "\ud800"}]),
    ("usage", [{"model": ""}]),
    ("usage", [{"models": ["m"]}]),
    ("usage", ["m"]),
    ("channel-events", [{"channel_id": TOO_LONG, "data": {"type": "typing"}}]),
    ("channel-events", [{"channel_id": "red", "message_id": 5, "data": {"type": "typing"}}]),
    ("channel-events", [{"channel_id": "red", "message_id": "", "data": {"type": "typing"}}]),
    ("channel-events", [{"channel_id": "red", "data": {"type": "t" * 101}}]),
    ("channel-events", [{"channel_id": "red", "data": {}}]),
    ("channel-events", [{"channel_id": "red", "data": {"type": "typing", "x": float("nan")}}]),
    ("channel-events", [{"channel_id": "red", "data": {"type": "typing", "x": [{"y": float("-inf")}]}}]),
    *[
        ("channel-events", [{"channel_id": "red", "data": {"type": "typing", "x": nested(n)}}])
        for n in (64, 300)
    ],
    *[(event, [nested(300)]) for event in EVENTS],
]


@pytest.mark.usefixtures("no_tracebacks")
@pytest.mark.parametrize("transport", ["websocket", "polling"])
async def test_malformed_payloads_are_answered_and_change_nothing(
    make_fleet: MakeFleet, transport: str
) -> None:
    async with (
        make_fleet() as fleet,
        client(fleet.one.url, "ann", transports=(transport,)) as ann,
        client(fleet.two.url, "bob") as bob,
    ):
        await bob.wait_for("usage")
        await ann.wait_for("user-list", lambda data: data == {"user_ids": ["ann", "bob"]})
        before = await dump(fleet.one.server)
        for event, args in BAD:
            assert code(await ask(ann, event, *args)) in ("invalid-payload", "invalid-token"), (event, args)
        assert await dump(fleet.one.server) == before
        await fleet.two.server.wire.emit("after", 1, room="channel:red")
        await bob.wait_for("after")
        assert not {"channel-events"} & {name for name, _ in await heard(bob)}


@pytest.mark.usefixtures("no_tracebacks")
async def test_no_depth_of_nesting_ends_in_an_internal_error(make_fleet: MakeFleet) -> None:
    async with make_fleet() as fleet:
        for depth in (65, 900, 990, 5000):
            async with client(fleet.one.url, "ann") as ann:
                text = '{"channel_id":"red","data":{"type":"typing","x":' + "[" * depth + "]" * depth + "}}"
                await ann.sio.eio.send('20["channel-events",' + text + "]")
                # Either answered or, where nobody could read it, cut off.
                with contextlib.suppress(Exception):
                    await asyncio.wait_for(ask(ann, "usage", {"model": "m"}), 1)
        assert fleet.one.server.wire.counters.events_failed == 0
        async with client(fleet.one.url, "ann") as ann:
            assert await ask(ann, "user-list") is None


async def test_a_good_payload_may_say_more_than_is_known_here(make_fleet: MakeFleet) -> None:
    async with make_fleet() as fleet, client(fleet.one.url, "ann") as ann:
        joining = {"auth": {"token": token_for("ann"), "more": 1}, "even": ["more"]}
        assert await ask(ann, "user-join", joining) == {"id": "ann", "name": "Ann"}
