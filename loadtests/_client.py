"""A Socket.IO client that costs little: it runs in its caller's greenlet and parses only what is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import gevent

from loadtests import _clock
from loadtests._errors import AckTimeout, Disconnected, LoadError, NotNow, ProtocolBroken, Refused
from loadtests._http import Target
from loadtests._packets import Assembler, encode, loads, split_ack_id
from loadtests._transports import TRANSPORTS, Handshake, UpgradeTransport

PASSING_CODES = ("unavailable", "directory-unavailable", "limit-exceeded")
"""Of a refused connect: what the server asks to try again later."""
GOODBYE_SECONDS = 1.0

Handler = Callable[[list[Any]], Any]
"""Takes an event's arguments; what it returns is the ack, if the server wants one."""


class Client:
    """One socket of the namespace `/`.

    `handlers` are the events to hear, by name; others are not even parsed, only counted. The caller gives its greenlet
    with `pump`, or with `call` until the ack is there: pings are answered and handlers run only then.
    """

    def __init__(
        self, target: Target, transport: str, handlers: Mapping[str, Handler], *, timeout: float = 10.0
    ) -> None:
        self.transport = TRANSPORTS[transport](target, timeout)
        self.handshake: Handshake | None = None
        self.heard = 0
        self.sid = ""
        self._target = target
        self._handlers = dict(handlers)
        self._timeout = timeout
        self._last_id = 0
        self._acks: dict[int, Any] = {}
        self._waiting: set[int] = set()
        self._assembler = Assembler(self._binary)
        self._silent_after = 0.0
        self._closing = ""

    def open(self) -> None:
        """Engine.IO only. Raises `CannotConnect`, `Disconnected`."""
        self.handshake = self.transport.open()
        self._silent_after = _clock.now() + self._patience()

    def join(self, auth: object) -> None:
        """Socket.IO CONNECT with `auth`; with the transport "upgrade" also the change to websocket.

        Raises:
            Refused, NotNow: the server's CONNECT_ERROR, with its code and message.
            Disconnected: the connection ended, or there was no answer in time.
        """
        self.transport.send(
            [packet.replace("42", "40", 1) for packet in encode("2", auth) if isinstance(packet, str)]
        )
        self.pump_until(lambda: bool(self.sid), "an answer to the Socket.IO connect")
        if isinstance(self.transport, UpgradeTransport):
            self.transport.upgrade()

    def emit(self, event: str, *arguments: Any) -> None:
        """Sends without waiting. Raises `Disconnected`."""
        self.transport.send(encode("2", [event, *arguments]))

    def call(self, event: str, *arguments: Any, timeout: float | None = None) -> Any:
        """Sends and returns the ack's first argument (None if it is empty).

        Raises `AckTimeout` after `timeout` seconds (default: the client's), `Disconnected`.
        """
        self._last_id = ack_id = self._last_id + 1
        self._waiting.add(ack_id)
        try:
            self.transport.send(encode("2", [event, *arguments], ack_id))
            deadline = _clock.now() + (self._timeout if timeout is None else timeout)
            while ack_id not in self._acks:
                left = deadline - _clock.now()
                if left <= 0:
                    raise AckTimeout(f"{self._target.url}: no ack of {event} in time")
                self._receive(left)
            answer = self._acks.pop(ack_id)
        finally:
            self._waiting.discard(ack_id)
        return answer[0] if answer else None

    def ignore(self, event: str) -> None:
        """From now on `event` is not parsed any more."""
        self._handlers.pop(event, None)

    def pump(self, until: float) -> None:
        """Receives until the Unix time `until`. Raises `Disconnected`, `ProtocolBroken`."""
        while (left := until - _clock.now()) > 0:
            self._receive(left)

    def pump_until(self, condition: Callable[[], bool], what: str) -> None:
        """Receives until `condition` holds; `Disconnected` after the client's time-out."""
        deadline = _clock.now() + self._timeout
        while not condition():
            left = deadline - _clock.now()
            if left <= 0:
                raise Disconnected(f"{self._target.url}: {what} did not come in time")
            self._receive(left)

    def close(self) -> None:
        """Says good-bye if that goes at once, and hangs up."""
        try:
            if self.sid:
                self.sid = ""
                with gevent.Timeout(GOODBYE_SECONDS, False):
                    self.transport.send(["41"])
        except LoadError:
            pass
        self.transport.close()

    def _patience(self) -> float:
        assert self.handshake is not None
        return self.handshake.ping_interval + self.handshake.ping_timeout

    def _receive(self, seconds: float) -> None:
        packets = self.transport.receive(min(seconds, self._silent_after - _clock.now()))
        for packet in packets:
            if isinstance(packet, str):
                self._take(packet)
            else:
                self._assembler.attach(packet)
        if not packets and _clock.now() >= self._silent_after:
            raise Disconnected(f"{self._target.url}: no ping in time: the server or the line is dead")

    def _take(self, packet: str) -> None:
        kind = packet[:2]
        if kind == "42":
            self._event(packet)
        elif kind == "43":
            ack_id, start = split_ack_id(packet, 2)
            self._acked(ack_id, loads(packet[start:]))
        elif packet == "2":
            self._silent_after = _clock.now() + self._patience()
            self.transport.send(["3"])
        elif kind in ("45", "46"):
            self._assembler.begin(packet)
        elif kind == "40":
            self.sid = loads(packet[2:])["sid"]
        elif kind == "44":
            answer = loads(packet[2:])
            data = answer.get("data")
            code = data.get("code", "refused") if isinstance(data, dict) else "refused"
            kind_of_no = NotNow if code in PASSING_CODES else Refused
            raise kind_of_no(
                f"{self._target.url}: the server refused the connect ({code}): {answer.get('message')}"
            )
        elif kind == "41" or packet == "1":
            why = self._closing or "no reason given"
            raise Disconnected(f"{self._target.url}: the server closed the connection ({why})")
        elif packet != "6":
            raise ProtocolBroken(f"{self._target.url}: a packet of no known type: {packet[:80]!r}")

    def _event(self, packet: str) -> None:
        ack_id, start = split_ack_id(packet, 2)
        self.heard += 1
        end = packet.find('"', start + 2)
        name = packet[start + 2 : end]
        if name == "closing":
            reason = loads(packet[start:])[1]
            self._closing = f"{reason.get('code')}: {reason.get('reason')}"
        handler = self._handlers.get(name)
        if handler is None:
            return
        answer = handler(loads(packet[start:])[1:])
        if ack_id is not None:
            self.transport.send(encode("3", [answer], ack_id))

    def _acked(self, ack_id: int | None, arguments: list[Any]) -> None:
        # An ack that came after its time-out is nobody's any more.
        if ack_id is not None and ack_id in self._waiting:
            self._acks[ack_id] = arguments

    def _binary(self, kind: str, ack_id: int | None, arguments: list[Any]) -> None:
        if kind == "3":
            self._acked(ack_id, arguments)
            return
        self.heard += 1
        handler = self._handlers.get(arguments[0])
        answer = None if handler is None else handler(arguments[1:])
        if handler is not None and ack_id is not None:
            self.transport.send(encode("3", [answer], ack_id))
