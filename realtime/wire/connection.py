"""One Engine.IO session as the Socket.IO server sees it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .engine import WireSocket
from .incoming import Reader
from .lanes import Lane
from .rooms import Member


class Connection:
    """A client's connection: its members by namespace, what it is in the middle of sending, and its lane.

    `greeted` says whether it has ever asked for a namespace that exists.
    """

    __slots__ = ("environ", "greeted", "lane", "members", "reader", "socket")

    def __init__(self, socket: WireSocket, environ: Mapping[str, Any], reader: Reader, lane: Lane) -> None:
        self.socket = socket
        self.environ = environ
        self.reader = reader
        self.lane = lane
        self.members: dict[str, Member] = {}
        self.greeted = False

    @property
    def eio_sid(self) -> str:
        return str(self.socket.sid)
