"""Whose event is handled: what a log line written meanwhile says, wherever it is written."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

UserOf = Callable[[str], str]


def nobody(_sid: str) -> str:
    """A `UserOf` that knows none."""
    return ""


_socket: ContextVar[tuple[str, UserOf]] = ContextVar("socket", default=("", nobody))
_user: ContextVar[str] = ContextVar("user", default="")


def about_socket(sid: str, user_of: UserOf = nobody) -> None:
    """From now on this task's lines are about a socket. `user_of` is asked for its user when a line is written."""
    _socket.set((sid, user_of))
    _user.set("")


def about_user(user_id: str) -> None:
    """For while the socket's user is not to be asked for: it signs in, or it has left."""
    _user.set(user_id)


def whose() -> tuple[str, str]:
    """Sid and user that this task's lines are about; empty where unknown."""
    sid, user_of = _socket.get()
    return sid, user_of(sid) or _user.get()
