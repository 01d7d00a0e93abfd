"""Ids in order: whatever changes, they are what sorting would give."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from realtime.sorted_ids import SortedIds

IDS = st.text("abcé", min_size=1, max_size=3)


@given(st.lists(st.sets(IDS)), st.sets(IDS))
def test_the_order_is_that_of_sorting_after_every_change(sets: list[set[str]], untouched: set[str]) -> None:
    ordered, before = SortedIds(), set[str]()
    for ids in sets:
        ordered.follow(ids, (ids ^ before) | untouched)
        assert ordered.ordered == sorted(ids)
        before = ids


def test_many_changes_at_once_are_taken_in_too() -> None:
    ordered = SortedIds()
    many = {f"user-{number}" for number in range(1000)}
    ordered.follow(many, many)
    ordered.follow({"user-1"}, many)
    assert ordered.ordered == ["user-1"]
