"""Whatever is encoded or decoded: orjson is not to be noticed."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import json
import math
import uuid
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from typing import Any

import orjson
import pytest
import socketio
from engineio import json as stock  # type: ignore[import-untyped]
from hypothesis import example, given
from hypothesis import strategies as st
from socketio import packet

from realtime.wire import json_text, packets


class Word(str):
    pass


class Count(int):
    pass


class Share(float):
    pass


class Colour(enum.Enum):
    RED = "red"


class Size(enum.IntEnum):
    BIG = 3


class Kind(str, enum.Enum):  # noqa: UP042  # the older form is in use
    ONE = "one"


class Names(dict):  # type: ignore[type-arg]
    pass


class Row(list):  # type: ignore[type-arg]
    pass


@dataclasses.dataclass
class Point:
    x: int = 1


Pair = namedtuple("Pair", "a b")

NUMBERS = (
    st.integers()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.sampled_from([2**53, 2**63 - 1, 2**63, -(2**63) - 1, 2**64 - 1, 2**64, -0.0, 1e22, 5e-324, 1e308])
)
ODD = st.sampled_from(
    [
        Word("w"),
        Word("\ud800"),
        Count(7),
        Share(0.5),
        Share("nan"),
        Colour.RED,
        Size.BIG,
        Kind.ONE,
        Names(a=1),
        Row([1]),
        Point(),
        Pair(1, 2),
        OrderedDict(b=1, a=2),
        uuid.UUID(int=5),
        datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
        datetime.date(2026, 1, 1),
        decimal.Decimal("1.5"),
        b"bytes",
        bytearray(b"more"),
        memoryview(b"view"),
        {1, 2},
        (1, "two"),
        orjson.Fragment(b"[1]"),
        Exception,
        1j,
        ...,
    ]
)
TEXT = st.text(st.characters(exclude_categories=())) | st.sampled_from(
    ["", "null", "\u2028", "\x00", "\ud83d"]
)
KEYS = (
    TEXT | NUMBERS | st.none() | st.booleans() | st.sampled_from([Word("k"), Kind.ONE, Size.BIG, Colour.RED])
)
PLAIN = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT | ODD,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(KEYS, inner, max_size=4)
        | st.dictionaries(st.text(), inner, max_size=4)
    ),
    max_leaves=12,
)


def outcome(work: Callable[[], Any]) -> tuple[str, Any]:
    """What came out, in a form in which 1, 1.0 and True, 0.0 and -0.0 differ, and NaN is itself."""
    try:
        return "value", exact(work())
    except RecursionError:
        return "error", RecursionError
    except Exception as error:
        return "error", TypeError if isinstance(error, TypeError) else ValueError


def exact(value: Any) -> Any:
    if isinstance(value, list):
        return "list", tuple(map(exact, value))
    if isinstance(value, dict):
        return "dict", tuple((exact(key), exact(each)) for key, each in value.items())
    return type(value), repr(value)


def stock_dumps(value: object) -> str:
    text: str = stock.dumps(value, separators=(",", ":"))
    return text


def read(text: str) -> Any:
    """As every client does: the text has to be UTF-8, and JSON that Python's decoder takes."""
    return json.loads(text.encode())


@given(ANYTHING)
@example([uuid.UUID(int=1)])
@example([Colour.RED])
@example([math.nan])
@example({"a": None, "b": math.inf})
@example({1: 2})
@example({"a": {2**64: 1}})
@example(["\ud800"])
@example([Point()])
@example([datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)])
@example([orjson.Fragment(b"1")])
def test_the_same_values_are_encoded_and_read_as_the_same(value: object) -> None:
    assert outcome(lambda: read(json_text.dumps(value))) == outcome(lambda: read(stock_dumps(value)))


@given(PLAIN)
def test_what_was_encoded_is_decoded_to_the_same(value: object) -> None:
    text = stock_dumps(value)
    assert outcome(lambda: json_text.loads(text)) == outcome(lambda: stock.loads(text))
    fast = json_text.dumps(value)
    assert outcome(lambda: json_text.loads(fast)) == outcome(lambda: stock.loads(fast))


_PIECES = [
    *'[]{},:"\\0123456789.-+eE \t\n\r\x00é',
    "null",
    "true",
    "false",
    "NaN",
    "Infinity",
    "-Infinity",
    "1e999",
    "-0",
    "18446744073709551616",
    "9223372036854775808",
    "9" * 101,
    "\\u00e9",
    "\\ud800",
    "\\ud83d\\ude00",
    "\ufeff",
    "\ud800",
    '"a":1',
    "[[[[",
    "]]]]",
]


@given(st.lists(st.sampled_from(_PIECES), max_size=8).map("".join) | TEXT)
@example("[18446744073709551616]")
@example("-9223372036854775809")
@example("[1e999]")
@example("NaN")
@example('"\\ud800"')
@example("9" * 101)
@example('{"a":1,"b":2,"a":3}')
@example("-0")
@example("")
@example("\ufeff1")
def test_any_text_is_decoded_or_refused_as_the_stock_decoder_does(text: str) -> None:
    assert outcome(lambda: json_text.loads(text)) == outcome(lambda: stock.loads(text))


@pytest.mark.parametrize("depth", [100, 490, 510, 1_000, 1_010, 5_000, 100_000])
def test_deep_texts_are_decoded_or_refused_as_before(depth: int) -> None:
    text = "[" * depth + "]" * depth
    refused = []
    for loads in (json_text.loads, stock.loads):
        try:
            loads(text)
            refused.append(False)
        except RecursionError:
            refused.append(True)
    # Where the stock decoder ends depends on the version of Python.
    assert refused[0] == refused[1]
    assert refused[0] or depth < 100_000


@pytest.mark.parametrize("depth", [100, 300, 5_000, 100_000])
def test_deep_values_are_encoded_or_refused_as_before(depth: int) -> None:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    found = []
    for dumps in (json_text.dumps, stock_dumps):
        try:
            found.append(len(dumps(value)))
        except RecursionError:
            found.append(0)
    assert found[0] == found[1]
    assert found[0] in (0, 2 * depth + 2)
    assert found[0] == 0 or depth < 100_000


def test_a_value_that_contains_itself_is_refused() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(ValueError, match="Circular"):
        json_text.dumps(value)


@given(
    st.tuples(TEXT, PLAIN).map(list),
    st.sampled_from(["/", "/chat"]),
    st.none() | st.integers(0, 2**40),
)
def test_packets_carry_what_stock_packets_carry(data: list[Any], namespace: str, number: int | None) -> None:
    ours = packets.encode(packet.EVENT, data, namespace, number)[0].data
    theirs = packet.Packet(packet.EVENT, data, namespace, number).encode()
    assert isinstance(theirs, str)
    for text in (ours, theirs):
        assert isinstance(text, str)
        came = [kind(encoded_packet=text) for kind in (packet.Packet, packets.JsonPacket)]  # type: ignore[arg-type]
        assert {(each.namespace or "/", each.id, repr(exact(each.data))) for each in came} == {
            (namespace, number, repr(exact(data)))
        }


def test_other_servers_of_the_process_keep_their_json() -> None:
    assert packet.Packet.json is stock
    assert socketio.AsyncServer(async_mode="asgi").packet_class.json is stock
    assert packets.JsonPacket.json is json_text
