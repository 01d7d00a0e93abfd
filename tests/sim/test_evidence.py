"""The rules that histories are judged by: right ones pass, and each kind of wrong one is told."""

from __future__ import annotations

from typing import Any

import pytest

from sim.evidence import Said, Stay, overheard, wrong_calls, wrong_in_room
from sim.history import Entry

SAID = [Said("one", "api-1", 1.0), Said("two", "api-1", 2.0), Said("three", "api-2", 2.0)]
STAYS = [Stay("ann", 0.5), Stay("bob", 0.5)]


def news(who: str, *marks: str, at: float = 3.0) -> list[Entry]:
    return [Entry(at, who, "event", "news", {"mark": mark}) for mark in marks]


def room(entries: list[Entry], stays: list[Stay] = STAYS, *, may_lose: bool = False) -> list[str]:
    return wrong_in_room(entries, SAID, stays, event="news", may_lose=may_lose)


def test_a_room_where_all_get_all_in_order_is_right() -> None:
    assert room(news("ann", "one", "two", "three") + news("bob", "three", "one", "two")) == []


@pytest.mark.parametrize(
    ("entries", "wrong"),
    [
        (news("ann", "one", "three"), "ann did not get two"),
        (news("ann", "one", "two", "three", "two"), "ann got two 2 times"),
        (news("ann", "two", "one", "three"), "ann got api-1's messages as"),
        (news("ann", "one", "two", "three") + news("eve", "one"), "eve got one and was no member"),
    ],
)
def test_a_room_with_a_fault_is_told(entries: list[Entry], wrong: str) -> None:
    told = room(entries + news("bob", "one", "two", "three"))
    assert len(told) == 1
    assert told[0].startswith(wrong)


def test_after_a_fault_messages_may_be_missing_and_nothing_else() -> None:
    assert room(news("ann", "one"), may_lose=True) == []
    assert room(news("ann", "one", "one"), may_lose=True) == ["ann got one 2 times"]
    assert room(news("eve", "two"), may_lose=True) == ["eve got two and was no member"]


def test_who_joins_late_or_leaves_may_get_a_message_and_need_not() -> None:
    everyone = news("bob", "one", "two", "three")
    stays = [Stay("bob", 0.5), Stay("late", 1.5), Stay("leaves", 0.5, until=1.5)]
    assert room([*everyone, *news("late", "two", "three")], stays) == []
    assert room([*everyone, *news("late", "two", "three"), *news("leaves", "one")], stays) == []
    assert room([*everyone, *news("late", "two", "three"), *news("leaves", "two")], stays) == [
        "leaves got two and was no member"
    ]


def test_what_an_outsider_hears_is_told_but_for_why_it_is_closed() -> None:
    entries = [
        Entry(1.0, "eve", "event", "closing", {"code": 4003}),
        Entry(1.0, "ann", "event", "user-list", {}),
        Entry(1.0, "eve", "connected", "api-1"),
    ]
    assert overheard(entries, {"eve"}) == []
    heard = Entry(2.0, "eve", "event", "user-list", {})
    assert overheard([*entries, heard], {"eve"}) == [heard]
    assert overheard([*entries, heard], {"eve"}, event="chat-events") == []
    assert overheard([*entries, heard], {"eve"}, since=2.5) == []


def asked(number: int = 1, at: float = 1.0, session: str = "s1") -> Entry:
    payload = {"request_info": {"user_id": "ann", "session_id": session}}
    return Entry(at, "backend", "emit", "call", {"number": number, "at": "api-1", "payload": payload})


def acked(status: int, answer: Any, number: int = 1, at: float = 1.5) -> Entry:
    data = {"number": number, "status": status, "answer": answer}
    return Entry(at, "backend", "ack", "call", data)


def calls(*entries: Entry, now: float = 10.0) -> list[str]:
    return wrong_calls(entries, {"s1": "yes"}, now=now, within=2.0)


def test_a_call_that_gets_the_sessions_answer_or_a_typed_error_is_right() -> None:
    assert calls(asked(), acked(200, {"result": "yes"})) == []
    assert calls(asked(), acked(409, {"error": "timeout", "message": "…"})) == []
    assert calls(asked(), acked(0, {"error": "unreachable"}, at=9.0)) == []
    assert calls(asked(at=9.0), now=10.0) == [], "it may still end in time"


@pytest.mark.parametrize(
    ("entries", "wrong"),
    [
        ([asked(), acked(200, {"result": "no"})], "the answer 'no'"),
        ([asked(session="s2"), acked(200, {"result": "yes"})], "the answer 'yes' of the session s2"),
        ([asked(), acked(500, "Internal Server Error")], "the status 500"),
        ([asked(), acked(409, {"message": "untyped"})], "the status 409"),
        ([asked(), acked(409, {"error": "timeout"}, at=4.0)], "a late end after 3.00 s"),
        ([asked()], "no end after 9.00 s"),
        ([asked(1), asked(2), acked(200, {"result": "yes"}, 2)], "call #1: no end"),
    ],
)
def test_a_call_that_ends_wrong_or_late_or_never_is_told(entries: list[Entry], wrong: str) -> None:
    told = calls(*entries)
    assert len(told) == 1
    assert wrong in told[0]
