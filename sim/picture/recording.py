"""What a picture is made of: every message of a run with its bytes and times, and what its clients did and saw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from sim.case import Case, replay
from sim.history import Entry
from sim.plan import Plan
from sim.run import Result, make_lab, run
from sim.scenario import Scenario, find
from sim.schedule import Message
from sim.simulated import SimulatedLab
from sim.targets import load

CLIENT, INSTANCE, REDIS, DATABASE, OTHER = "client", "instance", "redis", "db", "other"


@dataclass(frozen=True, slots=True)
class Sent:
    """``arrives_at``: when it arrived, or would have if ``arrived`` is not true."""

    name: str
    source: str
    target: str
    kind: str
    data: bytes
    sent_at: float
    arrives_at: float
    arrived: bool = False


@dataclass(frozen=True, slots=True)
class Recording:
    """One run. ``hosts``: name to kind of every host that took part, clients first, in the order of their coming."""

    scenario: Scenario
    target: str
    result: Result
    hosts: Mapping[str, str]
    messages: tuple[Sent, ...]
    history: tuple[Entry, ...]


@dataclass(slots=True)
class Recorder:
    """Observes the network and keeps every message, in the order of sending."""

    _messages: dict[str, Sent] = field(default_factory=dict)

    def sent(self, message: Message, arrives_at: float) -> None:
        self._messages[message.name] = Sent(
            message.name,
            message.source,
            message.target,
            message.kind,
            message.data,
            message.sent_at,
            arrives_at,
        )

    def arrived(self, message: Message, now: float) -> None:
        sent = self._messages.get(message.name)
        if sent is not None:
            self._messages[message.name] = replace(sent, arrives_at=now, arrived=True)

    @property
    def messages(self) -> tuple[Sent, ...]:
        return tuple(self._messages.values())


def record(scenario: Scenario, target: str, plan: Plan, *, seed: int = 0) -> Recording:
    """Runs a scenario on a target under a plan. Raises ``UnknownTarget``."""
    factory = load(target)
    lab = make_lab(scenario, factory, plan)
    recorder = Recorder()
    lab.network.observers.append(recorder)
    result = run(scenario, factory, plan, seed=seed, lab=lab)
    messages = recorder.messages
    return Recording(scenario, target, result, _hosts(lab, messages), messages, tuple(lab.history.entries))


def record_case(case: Case) -> tuple[Recording, Recording]:
    """A saved run and its undisturbed twin. Raises ``CaseError`` when the code has changed since it was saved."""
    scenario = find(case.scenario)
    recording = record(scenario, case.target, case.plan, seed=case.seed)
    if recording.result.fingerprint != case.fingerprint:
        replay(case)  # raises, and says what has changed
    return recording, record(scenario, case.target, case.plan.undisturbed, seed=case.seed)


def _hosts(lab: SimulatedLab, messages: tuple[Sent, ...]) -> dict[str, str]:
    known = {
        **dict.fromkeys(lab.clients, CLIENT),
        **dict.fromkeys(lab.instances, INSTANCE),
        lab.redis.name: REDIS,
        lab.directory.address[0]: DATABASE,
    }
    spoke = {host: None for message in messages for host in (message.source, message.target)}
    return {**known, **{host: OTHER for host in spoke if host not in known}}
