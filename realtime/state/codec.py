"""How sessions and changes are written down in Redis: lines, and JSON that the caller makes (see ``_prelude.lua``)."""

from __future__ import annotations

import json

from realtime.directory import User
from realtime.errors import InvalidPayload

from .types import Change, Session

_LISTS = {
    "+": "joins",
    "-": "leaves",
    "*": "started",
    "/": "ended",
    "~": "reaped",
    "t": "revoked_tokens",
    "u": "revoked_users",
}


def session_fields(session: Session) -> list[str]:
    """What ``register.lua`` takes for one session: sid, user, data, jti, issued at, rooms."""
    data = {
        "name": session.user.name,
        "role": session.user.role,
        "image": session.user.profile_image_url,
        "jti": session.jti,
        "iat": session.issued_at_ms,
    }
    return [
        checked(session.sid),
        checked(session.user.id),
        json.dumps(
            data, separators=(",", ":")
        ),  # ASCII: any text, even a lone surrogate, comes back as it was
        checked(session.jti) if session.jti else "",
        "" if session.issued_at_ms is None else str(session.issued_at_ms),
        "\n".join(sorted(map(checked, session.rooms))),
    ]


def checked(name: str) -> str:
    """A name that can be one line of a record; raises ``InvalidPayload`` for one that cannot."""
    if not name or "\n" in name:
        raise InvalidPayload("a name in the shared state must not be empty or have line breaks in it")
    return name


def parse_session(sid: str, record: str) -> Session:
    """The session of a value of the hash ``sessions``."""
    user_id, lease, data, *rooms = record.split("\n")
    info = json.loads(data)
    return Session(
        sid=sid,
        user=User(id=user_id, name=info["name"], role=info["role"], profile_image_url=info["image"]),
        rooms=frozenset(rooms),
        jti=info["jti"],
        issued_at_ms=info["iat"],
        lease=lease,
    )


def parse_change(message: bytes) -> Change:
    """A message of the channel ``changes``; raises ``ValueError`` if it is none."""
    epoch, version, at_ms, *lines = message.decode().split("\n")
    for number in (version, at_ms):
        if not (number.isascii() and number.isdigit()):
            raise ValueError(f"a change without a version and a time: {number[:40]!r}")
    fields: dict[str, list[str]] = {}
    rooms_changed = False
    for line in lines:
        if line == "#":
            rooms_changed = True
        else:
            fields.setdefault(_LISTS.get(line[:1]) or _unknown(line), []).append(line[1:])
    return Change(
        epoch=epoch,
        version=int(version),
        at_ms=int(at_ms),
        rooms_changed=rooms_changed,
        **{name: tuple(values) for name, values in fields.items()},
    )


def _unknown(line: str) -> str:
    raise ValueError(f"a change of an unknown kind: {line[:40]!r}")
