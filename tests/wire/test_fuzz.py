"""Hostile clients by the thousand against one instance: made and mutated packets, payloads, frames, requests and
upgrades. `--fuzz-cases=N` says how many; `nox -s fuzz` tries 100,000.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import struct
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from types import FrameType
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from websockets.exceptions import InvalidState

from sim import http
from sim.raw_transports import CLOSE, frame
from tests.wire.conformance.client import BINARY, TEXT, WebSocket, path, polling
from tests.wire.conformance.conftest import prepare
from tests.wire.lab import BOUND, Instance, serving, until

VALID = [
    *("1", "2", "2probe", "3", "3probe", "5", "6", "40", "40/admin,", '40{"token":"x"}', "41", "41/admin,"),
    *(
        '42["x"]',
        '42/admin,["x",1]',
        '427["echo",{"a":[1,null]}]',
        "430[]",
        '43/admin,12["x"]',
        '44{"message":"x"}',
    ),
    *('451-["x",{"_placeholder":true,"num":0}]', '452-/admin,3["echo",{"_placeholder":true,"num":1}]'),
    *('461-0[{"_placeholder":true,"num":0}]', "bAP8B", "4", "0{}"),
]
PIECES = st.sampled_from(
    [
        *'0123456789-,/?[]{}":b\\',
        "\x1e",
        "\x00",
        "€",
        "²",
        "٣",
        "\ud7ff",
        "null",
        "1e999",
        "_placeholder",
        "[" * 2000,
    ]
)


@st.composite
def mutated(draw: st.DrawFn) -> str:
    text = draw(st.sampled_from(VALID))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(st.sampled_from(["", text]) | PIECES) + text[at + draw(st.integers(0, 2)) :]
    return text


packets = st.sampled_from(VALID) | mutated() | st.text(max_size=20)
payloads = st.lists(packets, max_size=5).map(lambda each: "\x1e".join(each).encode("utf-8", "ignore"))
payloads = payloads | st.binary(max_size=40)
messages = st.tuples(st.just(TEXT), packets.map(lambda each: each.encode("utf-8", "ignore"))) | st.tuples(
    st.sampled_from([TEXT, BINARY, 0x0, 0x3, 0x8, 0x9, 0xA, 0xF]), st.binary(max_size=130)
)
frames = st.builds(lambda message: frame(*message), messages)
broken = st.builds(
    lambda whole, at, byte: whole[: at % len(whole)] + bytes([byte]) + whole[at % len(whole) + 1 :],
    frames,
    st.integers(0, 200),
    st.integers(0, 255),
)
streams = st.lists(frames, max_size=5).flatmap(
    lambda fine: st.just(b"".join(fine)) | broken.map(lambda one: b"".join(fine) + one)
)
values = st.sampled_from(["4", "3", "polling", "websocket", "", "nobody", "SID"]) | st.text(max_size=8)
queries = st.dictionaries(st.sampled_from(["EIO", "transport", "sid", "t", "j", "x"]), values, max_size=5)
requests = st.tuples(st.sampled_from(["GET", "POST", "PUT", "OPTIONS", "HEAD"]), queries, payloads)

joins = st.booleans()
cases = st.one_of(
    st.tuples(st.just("websocket"), joins, streams),
    st.tuples(st.just("polling"), joins, st.lists(payloads, max_size=4)),
    st.tuples(st.just("requests"), joins, st.lists(requests, max_size=3)),
    st.tuples(
        st.just("upgrade"), st.lists(st.sampled_from(["2probe", "5"]) | packets, max_size=4), payloads, joins
    ),
)


async def exchange(instance: Instance, sent: bytes) -> bytes:
    """Write, end, and read until the server ends too."""
    reader, writer = await asyncio.open_connection("127.0.0.1", instance.port)
    try:
        writer.write(sent)
        return await asyncio.wait_for(reader.read(), BOUND)
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def finish(connection: WebSocket) -> None:
    with suppress(ConnectionError):
        connection.writer.write(frame(CLOSE, struct.pack("!H", 1000)))
        connection.writer.write_eof()
        await asyncio.wait_for(connection.reader.read(), BOUND)


async def play(instance: Instance, case: tuple[object, ...]) -> None:
    match case:
        case "websocket", bool(joins), bytes(stream):
            async with WebSocket.open(instance, path("websocket")) as connection:
                if joins:
                    connection.send("40")
                connection.writer.write(stream)
                await finish(connection)
        case "polling", bool(joins), list(bodies):
            async with polling(instance) as session:
                for body in ([b"40"] if joins else []) + bodies:
                    await session.post(body)
                await session.post(b"1")
        case "requests", bool(joins), list(made):
            async with polling(instance) as session:
                if joins:
                    await session.post(b"40")
                for method, query, body in made:
                    text = "&".join(f"{name}={quote(value)}" for name, value in query.items())
                    target = "/socket.io/?" + text.replace("SID", session.sid)
                    if method == "GET" and body:  # it may be a poll, which waits
                        poll = asyncio.create_task(exchange(instance, http.request(method, "x", target)))
                        await session.post(b"1")
                        await poll
                    elif method != "GET":
                        await exchange(instance, http.request(method, "x", target, body))
                await session.post(b"1")
        case "upgrade", list(first), bytes(body), bool(polls):
            async with AsyncExitStack() as stack:
                session = await stack.enter_async_context(polling(instance))
                await session.post(b"40")
                poll = asyncio.create_task(session.get()) if polls else None
                target = path("websocket", sid=session.sid)
                connection = await stack.enter_async_context(WebSocket.open(instance, target))
                for each in first:
                    connection.writer.write(frame(TEXT, each.encode("utf-8", "ignore")))
                await session.post(body)
                await finish(connection)
                await session.post(b"1")
                if poll is not None:
                    await poll
        case _:
            raise AssertionError(case)


class Errors(logging.Handler):
    """What is logged as an error, but for what uvicorn itself does with text that is no UTF-8: it logs a traceback,
    and fails (which ends the connection, as it should) where a close frame came with it.
    """

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        no_text = isinstance(error, UnicodeDecodeError) and record.name == "uvicorn.error"
        with_close = isinstance(error, InvalidState) and isinstance(error.__context__, UnicodeDecodeError)
        if not (no_text or with_close):
            self.seen.append(self.format(record))
        record.exc_info = None  # pytest keeps the record, which would keep the connection


@contextmanager
def errors() -> Iterator[list[str]]:
    handler = Errors()
    logging.getLogger().addHandler(handler)
    try:
        yield handler.seen
    finally:
        logging.getLogger().removeHandler(handler)


def kept() -> Counter[str]:
    """How many objects of the server there are: a session that is not let go of is several."""
    gc.collect()
    ours = ("realtime", "engineio", "socketio", "uvicorn", "websockets", "asyncio", "_asyncio")
    kinds = (type(each) for each in gc.get_objects())
    return Counter(kind.__qualname__ for kind in kinds if str(kind.__module__).partition(".")[0] in ours)


def holders(kinds: Collection[str]) -> str:
    """Who refers to the newest object of these kinds, and who to those: where to look for what is not let go of."""
    found = next((each for each in reversed(gc.get_objects()) if type(each).__qualname__ in kinds), None)
    lines, level = [], [found] if found is not None else []
    for _ in range(6):
        above = [
            each
            for held in level
            for each in gc.get_referrers(held)
            if each is not level and type(each) is not FrameType
        ][:6]
        lines.append(" | ".join(f"{type(each).__name__} {each!r:.150}" for each in above))
        level = above
    return "\n".join(lines)


@pytest.mark.explores
@pytest.mark.timeout(0)
def test_no_hostile_client_raises_an_error_or_leaves_anything_behind(pytestconfig: pytest.Config) -> None:
    count = pytestconfig.getoption("--fuzz-cases")
    with asyncio.Runner() as runner, errors() as seen:
        stack = AsyncExitStack()
        options = {"ping_interval": 0.5, "ping_timeout": 1.0, "max_http_buffer_size": 10_000}
        instance = runner.run(stack.enter_async_context(serving(namespaces=["/", "/admin"], **options)))
        prepare(instance)

        @settings(
            max_examples=count,
            database=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
            deadline=None,
        )
        @given(cases)
        def no_error(case: tuple[object, ...]) -> None:
            runner.run(play(instance, case))
            instance.seen.clear()
            assert not seen, seen.pop()

        def all_gone() -> Counter[str]:
            runner.run(until(instance.nothing_left, "the end of every session"))
            runner.run(until(lambda: len(asyncio.all_tasks()) < 10, "the end of every task"))
            return kept()

        try:
            for case in (
                ("websocket", True, b""),
                ("polling", True, [b"42[]"]),
                ("upgrade", ["2probe", "5"], b"", True),
            ):
                runner.run(play(instance, case))
            before = all_gone()
            no_error()
            all_gone()
            try:
                # Upstream's service task keeps a copy of its list of sessions for one round more.
                runner.run(until(lambda: (kept() - before).total() < 100))
            except AssertionError:
                pytest.fail(f"memory is not flat: {kept() - before}\n{holders((kept() - before).keys())}")
        finally:
            runner.run(stack.aclose())
        assert not seen
