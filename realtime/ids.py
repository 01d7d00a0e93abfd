"""One rule for every identifier that crosses the border: users, channels, models, chats, messages."""

from __future__ import annotations

import re
from collections.abc import Iterable

from realtime.errors import InvalidPayload

# The shared state keeps newline-separated records and PostgreSQL cannot store NUL; lone surrogates cannot be
# encoded as UTF-8 and would fail far from where they came in.
_FORBIDDEN = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
_FORBIDDEN_IN_TEXT = re.compile("[\x00\ud800-\udfff]")


def check_id(value: object, *, what: str, max_length: int = 256) -> str:
    """Return `value` if it is a usable identifier.

    `what` names it in the error, for example "channel_id"; `max_length` counts characters.

    Raises:
        InvalidPayload: not a string, empty, too long, or with a control character or lone surrogate in it.
    """
    if not isinstance(value, str):
        raise InvalidPayload(f"{what} must be a string.")
    if not value:
        raise InvalidPayload(f"{what} must not be empty.")
    if len(value) > max_length:
        raise InvalidPayload(f"{what} must have at most {max_length} characters.")
    if _FORBIDDEN.search(value):
        raise InvalidPayload(f"{what} must not contain control characters.")
    return value


def check_ids(values: object, *, what: str) -> list[str]:
    """Return `values` as a list if they are usable identifiers, each by `check_id`.

    Raises:
        InvalidPayload: one of them is none, or it is one text: that would be taken for its letters.
    """
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise InvalidPayload(f"{what} must be a list of strings.")
    return [check_id(value, what=f"each of {what}") for value in values]


def check_text(value: object, *, what: str) -> str:
    """Return `value` if it is text that every store can keep, line breaks included.

    Raises:
        InvalidPayload: not a string, or with a NUL or a lone surrogate in it.
    """
    if not isinstance(value, str):
        raise InvalidPayload(f"{what} must be a string.")
    if _FORBIDDEN_IN_TEXT.search(value):
        raise InvalidPayload(f"{what} must not contain NUL characters or lone surrogates.")
    return value
