"""Rules as functions of a history: each returns what is wrong with it, nothing if it is right."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sim.history import Entry

GOODBYES = ("closing",)
"""What a server may tell anyone: why it closes the connection."""

UNREACHABLE, OK, REFUSED = 0, 200, 409
"""A knock's status: the caller ended with its instance; an answer; an error that the target means to give."""


@dataclass(frozen=True, slots=True)
class Said:
    """A message to a room: its ``mark`` is in the payload, ``at`` is when sending began."""

    mark: str
    by: str
    at: float


@dataclass(frozen=True, slots=True)
class Stay:
    """A client is a member of the room from ``since`` until ``until``, for certain."""

    who: str
    since: float
    until: float = math.inf


def overheard(
    entries: Iterable[Entry], outsiders: set[str], *, event: str = "", since: float = 0.0
) -> list[Entry]:
    """Events (or those of one name) that these clients saw, though nothing is for them."""
    return [
        entry
        for entry in entries
        if entry.who in outsiders
        and entry.what == "event"
        and entry.at >= since
        and (entry.name == event if event else entry.name not in GOODBYES)
    ]


def wrong_in_room(
    entries: Iterable[Entry],
    said: Iterable[Said],
    stays: Iterable[Stay],
    *,
    event: str,
    may_lose: bool = False,
) -> list[str]:
    """Who was a member before a message was sent, and stayed, gets it exactly once and in its sender's order; who was
    no member at any time from then on gets nothing.

    ``may_lose``: a fault was injected, so a message may be missing.
    """
    messages = list(said)
    members: dict[str, list[Stay]] = {}
    for stay in stays:
        members.setdefault(stay.who, []).append(stay)
    got: dict[str, list[str]] = {who: [] for who in members}
    for entry in entries:
        if entry.what == "event" and entry.name == event:
            got.setdefault(entry.who, []).append(mark_of(entry.data))
    wrong = []
    for who, marks in got.items():
        mine = members.get(who, [])
        for message in messages:
            times = marks.count(message.mark)
            stayed = any(stay.since < message.at and stay.until == math.inf for stay in mine)
            if times > 1:
                wrong.append(f"{who} got {message.mark} {times} times")
            elif not times and stayed and not may_lose:
                wrong.append(f"{who} did not get {message.mark}")
            elif times and not any(stay.until > message.at for stay in mine):
                wrong.append(f"{who} got {message.mark} and was no member")
        wrong += _disorder(who, marks, messages)
    return wrong


def _disorder(who: str, marks: Sequence[str], messages: Sequence[Said]) -> list[str]:
    wrong = []
    for sender in dict.fromkeys(message.by for message in messages):
        order = [message.mark for message in messages if message.by == sender]
        seen = list(dict.fromkeys(mark for mark in marks if mark in order))
        if seen != sorted(seen, key=order.index):
            wrong.append(f"{who} got {sender}'s messages as {seen}, sent as {order}")
    return wrong


def mark_of(payload: Any) -> str:
    """``{"mark"}`` of an event, or of its ``data`` where it has one; "" for any other payload."""
    if isinstance(payload, Mapping):
        inner = payload.get("data")
        return str((inner if isinstance(inner, Mapping) else payload).get("mark", ""))
    return ""


def wrong_calls(
    entries: Iterable[Entry], answers: Mapping[str, Any], *, now: float, within: float
) -> list[str]:
    """An event call ends within ``within`` seconds with the answer of the session that it asked, if the caller's user
    owns that, or with a typed error.

    ``answers``: by session, what it would say; a session that is not named may give none. A caller that ended with
    its instance says nothing.
    """
    asked: dict[int, Entry] = {}
    wrong = []
    for entry in entries:
        if entry.who != "backend" or entry.name != "call":
            continue
        if entry.what == "emit":
            asked[entry.data["number"]] = entry
            continue
        question = asked.pop(entry.data["number"])
        fault = _wrong_answer(question.data["payload"], entry.data["status"], entry.data["answer"], answers)
        if not fault and entry.data["status"] != UNREACHABLE and entry.at - question.at > within:
            fault = "a late end"
        if fault:
            wrong.append(f"call #{entry.data['number']}: {fault} after {entry.at - question.at:.2f} s")
    return wrong + [
        f"call #{number}: no end after {now - question.at:.2f} s"
        for number, question in asked.items()
        if now - question.at > within
    ]


def _wrong_answer(payload: Mapping[str, Any], status: int, answer: Any, answers: Mapping[str, Any]) -> str:
    session = payload["request_info"].get("session_id")
    if status == OK:
        result = answer.get("result") if isinstance(answer, Mapping) else answer
        if session in answers and result == answers[session]:
            return ""
        return f"the answer {result!r} of the session {session}"
    typed = status == REFUSED and isinstance(answer, Mapping) and isinstance(answer.get("error"), str)
    return "" if typed or status == UNREACHABLE else f"the status {status} and {str(answer)[:60]!r}"
