"""What every message store refuses, so that all of them accept the same."""

from __future__ import annotations

import json
from collections.abc import Mapping

from realtime.errors import InvalidPayload
from realtime.ids import check_id, check_text


def check_key(chat_id: str, message_id: str) -> tuple[str, str]:
    """Both ids, checked."""
    return check_id(chat_id, what="chat_id"), check_id(message_id, what="message_id")


def checked_text(text: str) -> str:
    return check_text(text, what="text")


def status_to_json(status: Mapping[str, object]) -> str:
    """`status` as JSON text in ASCII; InvalidPayload if it is no JSON object."""
    if not isinstance(status, Mapping):
        raise InvalidPayload("status must be an object.")
    try:
        return json.dumps(dict(status), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidPayload("status must be a JSON object.") from error


def status_from_json(text: str) -> dict[str, object]:
    status: dict[str, object] = json.loads(text)
    return status
