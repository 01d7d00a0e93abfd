"""The load: hundreds of raw websockets on one epoll, which check every byte and parse next to nothing."""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Sequence

from tests.bench.wire import event
from tests.bench.wire.connection import Connection, LoadError

AT_ONCE = 50
"""Clients that are connecting at a time."""
PATIENCE = 60.0
COMPANY_SECONDS = 1.0
_EVENT = b'42["' + event.NAME.encode()
_LIST = b'42["user-list"'


class Swarm:
    """Clients of one or several servers. ``auth``: what the client of a number carries in CONNECT, as JSON.

    Nothing is read while no method runs. Swarms of one ``company`` answer each other's pings meanwhile: every method
    of one does so for all, about once a second.
    """

    def __init__(
        self,
        ports: Sequence[int],
        *,
        deflate: bool,
        auth: Callable[[int], bytes],
        company: list[Swarm] | None = None,
    ) -> None:
        self.connections: dict[int, Connection] = {}
        self._company = [] if company is None else company
        self._company.append(self)
        self._company_due = 0.0
        self._ports = ports
        self._deflate = deflate
        self._auth = auth
        self._epoll = select.epoll()

    def __len__(self) -> int:
        return len(self.connections)

    def connect(self, count: int) -> None:
        """``count`` more clients, spread over the servers; returns when the last has its CONNECT answered."""
        wanted, joining = len(self) + count, 0
        end = time.monotonic() + PATIENCE + count / 10
        while joining or len(self) < wanted:
            while joining < AT_ONCE and len(self) < wanted:
                self._begin()
                joining += 1
            for connection, packets in self.ready(1.0):
                joining -= sum(self._greet(connection, packet) for packet in packets)
            self._keep_company()
            if time.monotonic() > end:
                raise LoadError(f"{joining} of {wanted} clients were not connected in time")

    def pump(self, seconds: float) -> int:
        """Takes what comes for a while; returns how many bytes of packets that was, pings apart."""
        before = sum(connection.extra for connection in self.connections.values())
        end = time.monotonic() + seconds
        while True:
            self._keep_company()
            self._take(min(COMPANY_SECONDS, max(0.0, end - time.monotonic())))
            if time.monotonic() >= end:
                return sum(connection.extra for connection in self.connections.values()) - before

    def settle(self, seconds: float, *, limit: float) -> None:
        """Until nothing but pings has come for so long and, where clients are told who is online, all know everyone.

        Raises ``LoadError`` after ``limit`` seconds.
        """
        end = time.monotonic() + limit
        while self.pump(seconds) or not self._all_listed():
            if time.monotonic() > end:
                raise LoadError(f"a server was not quiet for {seconds:g} s within {limit:g} s")

    def collect(self, packets: Sequence[bytes], send: Callable[[], None]) -> list[float]:
        """Calls ``send``, and waits until every client has had these packets, in order and nothing twice.

        Returns how long each client waited for its last one, in seconds. Raises ``LoadError``.
        """
        self._keep_company()
        connections, poll, clock = self.connections, self._epoll.poll, time.perf_counter
        block = b"".join(map(event.frame, packets))
        size = len(block)
        for connection in connections.values():
            connection.at = 0
        left, arrived = len(connections), []
        began = clock()
        send()
        while left:
            ready = poll(PATIENCE)
            if not ready:
                raise LoadError(f"{left} of {len(connections)} clients lack an event after {PATIENCE:g} s")
            for fd, _ in ready:
                connection = connections[fd]
                data = connection.read()
                at = connection.at
                if data == block[at : at + len(data)] and connection.whole:
                    connection.at = at = at + len(data)
                else:
                    was, at = at, self._collect_other(connection, data, block, packets)
                    if was == size:
                        continue
                if at == size:
                    left -= 1
                    arrived.append(clock() - began)
        return arrived

    def close(self) -> None:
        self._company.remove(self)
        for connection in self.connections.values():
            connection.close()
        self.connections.clear()
        self._epoll.close()

    def _collect_other(
        self, connection: Connection, data: bytes, block: bytes, packets: Sequence[bytes]
    ) -> int:
        """Pings, lists, or compressed frames are between the events: parse."""
        length = len(block) // len(packets)
        seen, partial = divmod(connection.at, length)
        if partial:
            connection.push_back(block[connection.at - partial : connection.at])
        for packet in connection.packets(data):
            if seen < len(packets) and packet == packets[seen]:
                seen += 1
            else:
                self._other(connection, packet)
        rest = connection.rest()
        if rest and block.startswith(rest, seen * length):
            connection.push_back(b"")
            connection.at = seen * length + len(rest)
        else:
            connection.at = seen * length
        return connection.at

    def _other(self, connection: Connection, packet: bytes) -> None:
        if packet.startswith(_EVENT):
            raise LoadError(f"not the event that was due: {packet!r}")
        if packet.startswith(_LIST):
            connection.listed = packet.count(b'"user-') - 1
        connection.extra += len(packet)

    def _take(self, seconds: float) -> None:
        for connection, packets in self.ready(seconds):
            for packet in packets:
                self._other(connection, packet)

    def _keep_company(self) -> None:
        now = time.monotonic()
        if now >= self._company_due:
            self._company_due = now + COMPANY_SECONDS
            for other in self._company:
                if other is not self:
                    other._take(0)

    def _all_listed(self) -> bool:
        listed = {connection.listed for connection in self.connections.values()}
        return listed in ({0}, {len(self)})

    def _begin(self) -> None:
        number = len(self)
        port = self._ports[number % len(self._ports)]
        connection = Connection(port, deflate=self._deflate, auth=self._auth(number))
        self.connections[connection.socket.fileno()] = connection
        self._epoll.register(connection.socket.fileno(), select.EPOLLIN)

    def _greet(self, connection: Connection, packet: bytes) -> bool:
        """Whether this packet made the client a connected one."""
        if packet.startswith(b"0"):
            connection.send(b"40" + connection.auth)
        elif packet.startswith(b"44"):
            raise LoadError(f"the server refused a client: {packet!r}")
        elif packet.startswith(b"40") and not connection.connected:
            connection.connected = True
            return True
        else:
            self._other(connection, packet)
        return False

    def ready(self, seconds: float) -> list[tuple[Connection, list[bytes]]]:
        """What has come, waiting so long at most for the first of it."""
        found = []
        for fd, _ in self._epoll.poll(seconds, max(1, len(self))):
            connection = self.connections[fd]
            found.append((connection, list(connection.packets(connection.read()))))
        return found
