"""What can go wrong for a load user, each in one line that says what to do."""

from __future__ import annotations


class LoadError(Exception):
    """Base of all; the text is one line for people."""


class CannotConnect(LoadError):
    """Nobody answers there, or not as an Engine.IO server does."""


class Refused(LoadError):
    """The server answered and said no; trying again changes nothing."""


class NotNow(LoadError):
    """The server answered and said no, for now."""


class Disconnected(LoadError):
    """The connection ended without the user's doing."""


class AckTimeout(LoadError):
    """An event was sent and no ack came in time."""


class ProtocolBroken(LoadError):
    """The server sent what the protocol does not allow."""
