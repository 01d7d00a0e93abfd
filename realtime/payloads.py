"""The shapes of what clients send, checked before anything happens."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from realtime.errors import InvalidPayload
from realtime.ids import check_id

MAX_TYPE_LENGTH = 100
MAX_DEPTH = 64
"""Objects and lists within each other, in what is passed on to others."""


class Payload(BaseModel):
    """Unknown keys are passed over, so that newer clients may say more."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True, hide_input_in_errors=True)


class Auth(Payload):
    token: str


class Identify(Payload):
    """``user-join`` and ``join-channels``: ``{"auth": {"token"}}``."""

    auth: Auth


class EventData(Payload):
    model_config = ConfigDict(strict=True, extra="allow", frozen=True, hide_input_in_errors=True)

    type: str = Field(min_length=1, max_length=MAX_TYPE_LENGTH)


class ChannelEvent(Payload):
    """``channel-events``: ``{"channel_id", "message_id"?, "data": {"type", …}}``."""

    channel_id: str
    message_id: str | None = None
    data: EventData


class Usage(Payload):
    """``usage``: ``{"model"}``."""

    model: str


P = TypeVar("P", bound=Payload)


def parse(shape: type[P], args: Sequence[Any], *, max_id_length: int) -> P:
    """The one argument of an event as ``shape``. Raises ``InvalidPayload`` that names the first fault."""
    if len(args) != 1:
        raise InvalidPayload(f"this event takes one argument, got {len(args)}")
    try:
        payload = shape.model_validate(args[0])
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in fault["loc"]) or "payload"
        # pydantic names the class here, which means nothing to a client.
        said = "Input should be an object" if fault["type"] == "model_type" else fault["msg"]
        raise InvalidPayload(f"{where}: {said}") from None
    except RecursionError:
        raise InvalidPayload("payload: nested too deeply") from None
    for name in ("channel_id", "message_id", "model"):
        value = getattr(payload, name, None)
        if value is not None:
            check_id(value, what=name, max_length=max_id_length)
    return payload


def check_plain(value: object, *, what: str) -> None:
    """What is passed on must not end its readers: JSON has no NaN, and decoders have a stack.

    Raises ``InvalidPayload``.
    """
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [child for each in level for child in _children(each, what)]
        if not level:
            return
    raise InvalidPayload(f"{what}: nested too deeply, at most {MAX_DEPTH} levels are passed on")


def _children(value: object, what: str) -> Iterable[object]:
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidPayload(f"{what}: a number that JSON cannot carry")
    if isinstance(value, Mapping):
        return value.values()
    return value if isinstance(value, list | tuple) else ()


def connect_token(auth: Any) -> str | None:
    """The token of connect's auth ``{"token"}``; None if there is none, whatever was sent."""
    token = auth.get("token") if isinstance(auth, dict) else None
    return token if isinstance(token, str) else None


def wants_diffs(auth: Any) -> bool:
    """Whether connect's auth says ``"presence": "diff"``."""
    return isinstance(auth, dict) and auth.get("presence") == "diff"
