"""A set of ids that is always in order: presence changes by a few ids and is sent as a whole list."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

FEW = 16


class SortedIds:
    """Follows a set by its differences. ``ordered`` changes with it: encode it or copy it."""

    def __init__(self) -> None:
        self.ordered: list[str] = []

    def replace(self, ids: Iterable[str]) -> None:
        self.ordered = sorted(ids)

    def follow(self, ids: set[str], touched: Iterable[str]) -> None:
        """Brings itself to what ``ids`` is now, given all that may differ."""
        changed = set(touched)
        if len(changed) > FEW + len(ids) // 8:
            self.replace(ids)
            return
        ordered = self.ordered
        for each in changed:
            at = bisect_left(ordered, each)
            there = at < len(ordered) and ordered[at] == each
            if each in ids and not there:
                ordered.insert(at, each)
            elif there and each not in ids:
                del ordered[at]
