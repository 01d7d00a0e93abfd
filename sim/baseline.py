"""The undisturbed run of a scenario: every message with its times, the stuff that schedules are made of."""

from __future__ import annotations

from dataclasses import dataclass, field

from sim.commands import Command, commands
from sim.schedule import Message


@dataclass(slots=True)
class Sent:
    """A message of the baseline; ``commands`` are those of a message to Redis."""

    name: str
    source: str
    target: str
    kind: str
    sent_at: float
    arrives_at: float
    commands: tuple[Command, ...] = ()


@dataclass
class Recorder:
    """Observes a run and keeps its messages in the order in which they arrived."""

    redis: str = "redis"
    messages: list[Sent] = field(default_factory=list)
    _on_the_way: dict[str, Sent] = field(default_factory=dict)

    def sent(self, message: Message, arrives_at: float) -> None:
        found = (
            tuple(commands(message.data)) if message.target == self.redis and message.kind == "data" else ()
        )
        self._on_the_way[message.name] = Sent(
            message.name, message.source, message.target, message.kind, message.sent_at, arrives_at, found
        )

    def arrived(self, message: Message, now: float) -> None:
        sent = self._on_the_way.pop(message.name, None)
        if sent is not None:
            sent.arrives_at = now
            self.messages.append(sent)


@dataclass(frozen=True, slots=True)
class Baseline:
    """``hosts``: those that may be crashed or paused, the instances. ``derived``: another seed is another program, with
    faults of its own. ``faults``: the kinds of fault that the scenario is about."""

    messages: tuple[Sent, ...]
    hosts: frozenset[str]
    derived: bool = False
    faults: tuple[str, ...] = ()
