"""The errors of the layer and every way the server closes a connection.

An error's `code` goes over the wire (`{"error": {"code", "message"}}`), its text says what can be done.
"""

# Most of these are answers to a client rather than errors of a program, and are named for what they tell it.

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import ClassVar


class RealtimeError(Exception):
    """Base of all errors of this package.

    `code` is stable and in kebab-case; `str(error)` is a sentence for whoever can mend it.
    """

    code: ClassVar[str] = "error"
    advice: ClassVar[str] = "Something went wrong in the real-time layer; its log says what."

    def __init__(self, message: str | None = None) -> None:
        super().__init__(self.advice if message is None else message)


class SettingsError(RealtimeError):
    """The process must not start: one line for each bad setting, never a secret's value."""

    code = "settings"
    advice = "The settings are wrong."


class InvalidToken(RealtimeError):
    code = "invalid-token"
    advice = "The token is not valid: sign in again."


class TokenExpired(InvalidToken):
    code = "token-expired"
    advice = "The token has expired: sign in again."


class TokenRevoked(InvalidToken):
    code = "token-revoked"
    advice = "The token was revoked: sign in again."


class InvalidPayload(RealtimeError):
    code = "invalid-payload"
    advice = "The payload has the wrong shape: see the event's documentation."


class NotAuthenticated(RealtimeError):
    code = "not-authenticated"
    advice = "Send user-join with a token first."


class Forbidden(RealtimeError):
    code = "forbidden"
    advice = "This user may not do that."


class TooManySessions(RealtimeError):
    code = "too-many-sessions"
    advice = "This user has too many open sessions: close one and connect again."


class LimitExceeded(RealtimeError):
    code = "limit-exceeded"
    advice = "A limit of this server was reached: send less, or try again later."


class StateUnavailable(RealtimeError):
    """The shared state did not answer in time or could not be reached. The outcome of the call is unknown."""

    code = "unavailable"
    advice = "The shared state cannot be reached: try again in a moment."


class DirectoryUnavailable(RealtimeError):
    """The database of users, channels and messages did not answer in time or could not be reached."""

    code = "directory-unavailable"
    advice = "The user directory cannot be reached: try again in a moment."


class LeaseLost(RealtimeError):
    """This instance's lease expired; it must take a new incarnation before it writes again."""

    code = "lease-lost"
    advice = "This instance lost its lease and is registering again: try again in a moment."


class SchemaMismatch(RealtimeError):
    """The state or the database was written by another version of this package that this one cannot join."""

    code = "schema-mismatch"
    advice = "Another version of this software owns the stored state: run the same version everywhere."


class BusOverloaded(RealtimeError):
    code = "overloaded"
    advice = "Messages between instances are produced faster than they can be sent: try again in a moment."


class MessageTooLarge(RealtimeError):
    code = "too-large"
    advice = "The message is larger than this server allows: send a smaller one."


class SessionGone(RealtimeError):
    code = "session-gone"
    advice = "The session has closed: call another session of the user, if there is one."


class CallTimeout(RealtimeError):
    code = "timeout"
    advice = "The client did not answer in time."


class UnknownUser(RealtimeError):
    code = "unknown-user"
    advice = "There is no such user."


@dataclass(frozen=True, slots=True)
class CloseReason:
    """What a client is told when its connection is closed.

    `code` is a websocket close code of the private range (RFC 6455, section 7.4.2); `reconnect` says whether
    the client should come back by itself.
    """

    code: int
    reason: str
    reconnect: bool


class Close(enum.Enum):
    """Every way the server closes a connection."""

    TOKEN_EXPIRED = CloseReason(4001, "token expired", reconnect=False)
    TOKEN_REVOKED = CloseReason(4002, "token revoked", reconnect=False)
    AUTH_TIMEOUT = CloseReason(4003, "not authenticated in time", reconnect=False)
    KICKED = CloseReason(4004, "disconnected by the application", reconnect=False)
    DRAINING = CloseReason(4010, "server is shutting down", reconnect=True)
    FLOODING = CloseReason(4011, "too many events", reconnect=False)
    HANDLER_FAILED = CloseReason(4012, "server error", reconnect=True)
    SLOW_CONSUMER = CloseReason(4014, "client reads too slowly", reconnect=True)
