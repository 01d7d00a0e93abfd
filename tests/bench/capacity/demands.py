"""What people ask for: the assumptions, one by one, and the demand of so many of them."""

from __future__ import annotations

from dataclasses import dataclass

from tests.bench.capacity.model import Demand, Presence


@dataclass(frozen=True, slots=True)
class Habits:
    """Of people who are online, on average. Seconds and bytes."""

    tabs: float = 1.2
    stay: float = 1800.0
    """How long a tab stays connected. A user comes online and goes as often as each of their tabs."""
    polling: float = 0.03
    event_every: float = 30.0
    """Seconds between a user's events in a channel: typing, mostly."""
    channel_online: float = 50.0
    """People who are online in the channel of an event."""
    event_bytes: float = 250.0
    streaming: float = 0.02
    """Share of the users for whom an answer is streamed right now,"""
    words: float = 15.0
    """in so many pieces a second."""
    word_bytes: float = 150.0
    usage_every: float = 1.0
    """Seconds between the heartbeats of those for whom an answer is streamed."""
    id_bytes: float = 36.0
    probe_every: float = 1.0
    """Seconds between a balancer's health checks of an instance."""
    kept: bool = False


def demand_of(users: float, habits: Habits, presence: Presence) -> Demand:
    """Of so many users who are online at once."""
    sessions = users * habits.tabs
    return Demand(
        probes=1 / habits.probe_every,
        online=users,
        sessions=sessions,
        polling=habits.polling,
        arrivals=sessions / habits.stay,
        changes=2 * users / habits.stay,
        events=users / habits.event_every,
        audience=min(users, habits.channel_online) * habits.tabs,
        event_bytes=habits.event_bytes,
        usages=users * habits.streaming / habits.usage_every,
        words=users * habits.streaming * habits.words,
        word_bytes=habits.word_bytes,
        kept=habits.kept,
        presence=presence,
        id_bytes=habits.id_bytes,
    )
