"""JSON exactly as python-socketio's own, by orjson wherever the two cannot differ: a quarter of the time."""

from __future__ import annotations

import json
import marshal
from typing import Any

import orjson
from engineio import json as stock  # type: ignore[import-untyped]  # no stubs exist

MOST_CONTAINERS = 500
"""A text with no more lists and objects than this is not nested deeper than the stock decoder allows."""
_LONG = b"0" * 19
"""An integer with fewer digits fits into 64 bits; orjson makes floats of others."""
_DIGITS = bytes(ord("0") if chr(byte).isdigit() and byte < 128 else ord(".") for byte in range(256))

_stock_encode = json.JSONEncoder(separators=(",", ":")).encode


def dumps(value: Any, **_options: object) -> str:
    """The text of a value; it may say é where the stock one says \\u00e9. Options are those of the callers there are.

    Raises TypeError, ValueError or RecursionError for what JSON cannot carry, for the same values as the stock one.
    """
    try:
        text = orjson.dumps(value)
        # It writes null for NaN too, where the stock one writes NaN.
        if b"null" not in text:
            # It takes UUIDs and enums, which the stock one refuses or writes otherwise; marshal knows plain types only.
            marshal.dumps(value)
            return text.decode()
    except (TypeError, ValueError):
        pass
    return _stock_encode(value)


def loads(text: str, **_options: object) -> Any:
    """The value of a text. Raises ValueError or RecursionError, for the same texts as the stock one."""
    if text.count("[") + text.count("{") <= MOST_CONTAINERS:
        try:
            encoded = text.encode()
            if _LONG not in encoded.translate(_DIGITS):
                return orjson.loads(encoded)
        except ValueError:
            pass
    return stock.loads(text)
