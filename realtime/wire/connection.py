"""One Engine.IO session as the Socket.IO server sees it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .incoming import Reader
from .lanes import Lane
from .limits import Bucket
from .rooms import Member
from .session import WireSocket


class Connection:
    """A client's connection: its members by namespace, what it is in the middle of sending, and its lane.

    `greeted` says whether it has ever asked for a namespace that exists, `joined` whether it was ever let into
    one. `events` is what it may still send. The rest is what a `Watch` has seen of it.
    """

    __slots__ = (
        "delivered",
        "environ",
        "events",
        "greeted",
        "joined",
        "lane",
        "members",
        "reader",
        "silent_looks",
        "socket",
        "stuck_looks",
    )

    def __init__(
        self,
        socket: WireSocket,
        environ: Mapping[str, Any],
        *,
        reader: Reader,
        lane: Lane,
        events: Bucket,
    ) -> None:
        self.socket = socket
        self.environ = environ
        self.reader = reader
        self.lane = lane
        self.events = events
        self.members: dict[str, Member] = {}
        self.greeted = False
        self.joined = False
        self.delivered = 0
        self.silent_looks = 0
        self.stuck_looks = 0

    @property
    def sid(self) -> str:
        """Of its first socket, as long as it has one."""
        return next((member.sid for member in self.members.values()), "")

    @property
    def eio_sid(self) -> str:
        return str(self.socket.sid)
