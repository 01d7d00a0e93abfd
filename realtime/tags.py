"""Session ids that begin with the tag of their instance, by which a load balancer routes."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets

TAG_LENGTH = 8
TAG_PATTERN = rf"^[a-z0-9]{{{TAG_LENGTH}}}$"
"""Lower case only, because some balancers compare without regard to case."""

_RANDOM_BYTES = 15
_SID = re.compile(rf"([a-z0-9]{{{TAG_LENGTH}}})[A-Za-z0-9_-]{{{_RANDOM_BYTES * 4 // 3}}}")


def tag_of(name: str) -> str:
    """The tag of the instance that has this name: always the same, and the name cannot be read from it."""
    digest = hashlib.sha256(f"realtime instance {name}".encode()).digest()
    return base64.b32encode(digest)[:TAG_LENGTH].decode().lower()


def new_sid(tag: str) -> str:
    """A session id that nobody can guess, of characters that need no quoting in a URL."""
    return tag + secrets.token_urlsafe(_RANDOM_BYTES)


def tag_in(sid: str) -> str | None:
    """The tag with which a session id begins; None if it is none of `new_sid`'s with a tag."""
    match = _SID.fullmatch(sid)
    return match[1] if match else None
