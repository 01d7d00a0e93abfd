"""The network between nodes: who listens where, which links are cut, and every message's name and time.

A message is all that one end wrote in one turn of its node. The schedule says when it arrives; what follows on the
same connection never arrives before it. What a cut link loses is sent again, as TCP does, and arrives late.
"""

from __future__ import annotations

import itertools
from collections import Counter, deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol

from sim.schedule import BASE_LATENCY, Message, Schedule
from sim.tcp import Endpoint, Parcel, nothing
from sim.world import World

if TYPE_CHECKING:
    from sim.node import Node

FIRST_PORT = 40_000
FIRST_DESCRIPTOR = 1_000_000
"""Descriptors of simulated sockets; none that the process could really have."""

PROBE_SECONDS = 1.0


class Observer(Protocol):
    """Sees every message when it is sent and when it arrives, in the world's order, outside of all nodes.

    It may crash and pause nodes and cut links: a node that is crashed in ``arrived`` does not get that message, one
    that is crashed in ``sent`` has sent it and nothing after it.
    """

    def sent(self, message: Message, arrives_at: float) -> None: ...

    def arrived(self, message: Message, now: float) -> None: ...


class Listener:
    """A listening port: connections wait in ``backlog`` until the process accepts them."""

    def __init__(self, node: Node, port: int) -> None:
        self.node = node
        self.port = port
        self.backlog: deque[Endpoint] = deque()
        self.changed: Callable[[], None] = nothing


class Network:
    """One for a world."""

    def __init__(self, world: World, schedule: Schedule) -> None:
        self.world = world
        self.schedule = schedule
        self.observers: list[Observer] = []
        self._pieces: Callable[[Message], Sequence[int]] = getattr(schedule, "pieces", lambda _message: ())
        self.listeners: dict[tuple[str, int], Listener] = {}
        self._sent: Counter[tuple[str, str]] = Counter()
        self._cut: set[frozenset[str]] = set()
        self._ends: dict[int, Endpoint] = {}
        self._numbers = itertools.count(1)
        self._ports = itertools.count(FIRST_PORT)
        self._descriptors = itertools.count(FIRST_DESCRIPTOR)
        world.on_report(self._report)

    def next_number(self) -> int:
        return next(self._numbers)

    def next_descriptor(self) -> int:
        return next(self._descriptors)

    # Asked by sockets

    def listen(self, node: Node, port: int) -> Listener:
        """Port 0 chooses one. Raises ``OSError`` when it is taken."""
        port = port or next(self._ports)
        if (node.name, port) in self.listeners:
            raise OSError(98, f"Address already in use: {node.name}:{port}")
        listener = self.listeners[node.name, port] = Listener(node, port)
        return listener

    def stop_listening(self, listener: Listener) -> None:
        if self.listeners.get((listener.node.name, listener.port)) is listener:
            del self.listeners[listener.node.name, listener.port]
        for end in listener.backlog:
            end.reset()
        listener.backlog.clear()

    def open(self, node: Node, host: str, port: int) -> Endpoint:
        """Begins to connect; the endpoint becomes connected or fails."""
        near = Endpoint(self, node, (node.name, next(self._ports)), (host, port))
        self._ends[near.number] = near
        self.send(near, "open", b"", lambda _data: self._opening_arrived(near, port))
        return near

    def forget(self, end: Endpoint) -> None:
        self._ends.pop(end.number, None)

    # Messages

    def send(self, sender: Endpoint, kind: str, data: bytes, arrive: Callable[[bytes], None]) -> None:
        """Puts a message on its way, in as many pieces as the schedule says."""
        source, target = sender.host, sender.peer_host
        self._sent[source, target] += 1
        name = f"{source}→{target} #{self._sent[source, target]}"
        whole = Message(name, source, target, kind, data, self.world.now)
        sizes = self._pieces(whole) if len(data) > 1 else ()
        for message in _pieces(whole, sizes) if len(sizes) > 1 else (whole,):
            when = max(self.world.now + self.schedule.delay(message), sender.last_arrival)
            sender.last_arrival = when
            self.world.at(when, partial(self.arrive, sender, Parcel(message, arrive)))
            for observer in self.observers:
                observer.sent(message, when)

    def arrive(self, sender: Endpoint, parcel: Parcel) -> None:
        """A message is where it should arrive, if it can."""
        if self._through(sender, parcel):
            for observer in self.observers:
                observer.arrived(parcel.message, self.world.now)
            if self._through(sender, parcel):
                parcel.arrive(parcel.message.data)

    def _through(self, sender: Endpoint, parcel: Parcel) -> bool:
        if not sender.lost and self.reachable(sender):
            return True
        if parcel.message.kind == "reset":
            sender.reset_lost()
        else:
            sender.keep(parcel)
        return False

    def tell_window(self, receiver: Endpoint, act: Callable[[], None]) -> None:
        """Acknowledgements are no messages: they carry nothing and are never held, only cut off."""

        def arrive() -> None:
            if self.reachable(receiver):
                act()
            else:
                self.world.later(PROBE_SECONDS, arrive)

        self.world.later(BASE_LATENCY, arrive)

    def reachable(self, sender: Endpoint) -> bool:
        """Whether anything at the other end's address would notice a packet now."""
        if not self.connected(sender.host, sender.peer_host):
            return False
        target = self.world.nodes.get(sender.peer_host)
        return target is None or not target.silent

    def _opening_arrived(self, near: Endpoint, port: int) -> None:
        listener = self.listeners.get((near.peer_host, port))
        node = None if listener is None else listener.node
        far = Endpoint(self, node, near.peer_address, near.address)
        far.peer = near
        if listener is None:
            refused = ConnectionRefusedError(111, "Connection refused")
            self.send(far, "refuse", b"", lambda _data: near.fail(refused))
            return
        self._ends[far.number] = far
        listener.backlog.append(far)
        listener.changed()
        self.send(far, "accept", b"", lambda _data: near.opened(far))

    # Faults

    def connected(self, one: str, other: str) -> bool:
        return frozenset((one, other)) not in self._cut

    def cut(self, one: str, other: str) -> None:
        """What arrives between the two is lost, silently, until ``mend``; then it is sent again, sooner or later."""
        self._cut.add(frozenset((one, other)))

    def mend(self, one: str, other: str) -> None:
        self._cut.discard(frozenset((one, other)))

    def crash(self, node: Node, *, silent: bool = False) -> None:
        """Kills a node, as ``kill -9`` (its peers see a reset) or, ``silent``, as a host that loses its power."""
        self._end(node, silent=silent, act=Endpoint.reset)

    def exit(self, node: Node) -> None:
        """The node's process ends by itself: connections that it left open are closed by the kernel."""
        self._end(node, silent=False, act=Endpoint.close)

    def _end(self, node: Node, *, silent: bool, act: Callable[[Endpoint], None]) -> None:
        if not node.alive:
            return
        ends = [end for end in self._ends.values() if end.node is node]
        node.kill(silent=silent)
        for key in [key for key, listener in self.listeners.items() if listener.node is node]:
            del self.listeners[key]
        for end in ends:
            if silent:
                self.forget(end)
            else:
                act(end)
                end.flush()

    def reset(self, one: str, other: str) -> int:
        """Resets every connection between two hosts, as a middlebox would; how many there were."""
        ends = [
            end
            for end in self._ends.values()
            if end.host == one and end.peer_host == other and end.peer is not None
        ]
        for end in ends:
            peer = end.peer
            end.reset_arrived()
            if peer is not None:
                peer.reset_arrived()
        return len(ends)

    def _report(self) -> list[str]:
        """Links that are cut, and what waits to be sent again."""
        lines = [f"  {' and '.join(sorted(pair))} are cut off from each other" for pair in self._cut]
        lines += [
            f"  {end.host}→{end.peer_host}: {len(end.lost)} messages lost so far, from {end.lost[0].message.name} on"
            for end in self._ends.values()
            if end.lost
        ]
        return sorted(lines)


def _pieces(whole: Message, sizes: Sequence[int]) -> list[Message]:
    """The parts of a message, each with a name of its own: ``a→b #7.1``, ``a→b #7.2``."""
    if sum(sizes) != len(whole.data) or min(sizes) < 1:
        raise ValueError(f"{sizes} does not split {len(whole.data)} bytes")
    ends = list(itertools.accumulate(sizes))
    return [
        Message(
            f"{whole.name}.{number}",
            whole.source,
            whole.target,
            whole.kind,
            whole.data[end - size : end],
            whole.sent_at,
        )
        for number, (size, end) in enumerate(zip(sizes, ends, strict=True), start=1)
    ]
