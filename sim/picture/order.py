"""Who overtook whom: the commands on the held message's key, in the order in which Redis took them, in both runs."""

from __future__ import annotations

from dataclasses import dataclass

from sim.commands import Command, commands, conflict
from sim.picture.recording import REDIS, Recording, Sent

AROUND_SECONDS = 0.05
MOST = 12


@dataclass(frozen=True, slots=True)
class Overtaken:
    """Names of messages in the order of their arrival; ``passed``: those that came first only because of the hold."""

    held: str
    key: str
    disturbed: tuple[str, ...]
    undisturbed: tuple[str, ...]
    passed: tuple[str, ...]


def overtaken(recording: Recording, baseline: Recording) -> list[Overtaken]:
    """One for each held message that carried a command on a key, where something overtook it."""
    held = {hold.message for hold in recording.result.plan.holds}
    found = []
    for message in recording.messages:
        if message.name not in held or recording.hosts.get(message.target) != REDIS:
            continue
        for command in commands(message.data):
            here, there = (
                _before_and_after(recording, message, command),
                _before_and_after(baseline, message, command),
            )
            if here is None or there is None:
                continue
            passed = tuple(name for name in here[0] if name not in there[0] and name in there[1])
            if passed:
                found.append(
                    Overtaken(
                        message.name,
                        command.key,
                        _around(*here, message.name),
                        _around(*there, message.name),
                        passed,
                    )
                )
                break
    return found


def _before_and_after(
    recording: Recording, held: Sent, command: Command
) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """What touched the key shortly before and after the message; None if that never came."""
    at_redis = sorted(
        (message for message in recording.messages if message.target == held.target and message.arrived),
        key=lambda message: message.arrives_at,
    )
    names = [message.name for message in at_redis]
    if held.name not in names:
        return None
    where = names.index(held.name)
    touching = [
        (number, message.name)
        for number, message in enumerate(at_redis)
        if abs(message.arrives_at - at_redis[where].arrives_at) <= AROUND_SECONDS
        and any(each.key == command.key or conflict(each, command) for each in commands(message.data))
    ]
    before = tuple(name for number, name in touching if number < where)
    return before, tuple(name for number, name in touching if number > where)


def _around(before: tuple[str, ...], after: tuple[str, ...], held: str) -> tuple[str, ...]:
    return (*before[-MOST // 2 :], held, *after[: MOST // 2])
