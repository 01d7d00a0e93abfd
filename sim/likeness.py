"""Which message of one run is which of another: by what it carries and the how-many-eth it is, not by its number.

Runs on real processes send the same commands as simulated ones, but not in the same pieces. There messages have the
names of their likes in the simulated run, so that a schedule of the simulator means the same there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from sim.baseline import Sent
from sim.commands import Command, conflict
from sim.plan import Plan

Like = tuple[object, ...]
Names = Mapping[Like, str]


class Likeness:
    """Says what each message of one run is, in the order in which they come; no two are the same.

    One with commands is known by them and its sender; any other by the last commands of the host that gets it, or by
    its number on its link where that has sent none.
    """

    def __init__(self) -> None:
        self._counted: Counter[Like] = Counter()
        self._last: dict[str, Like] = {}

    def of(self, source: str, target: str, kind: str, commands: Sequence[Command]) -> Like:
        said: Like
        if commands:
            said = (source, *((each.name, each.key) for each in commands))
        else:
            said = (source, target, kind, self._last.get(target, ()))
        self._counted[said] += 1
        like = (*said, self._counted[said])
        if commands:
            self._last[source] = like
        return like


def names_of(messages: Iterable[Sent]) -> Names:
    """The names of a run's messages."""
    likeness = Likeness()
    return {likeness.of(each.source, each.target, each.kind, each.commands): each.name for each in messages}


def after(plan: Plan, broken: Sequence[Sent], names: Names) -> dict[str, str]:
    """Which message each hold of a plan waited for: the last one of another host before it whose order with it
    matters. On processes a hold lasts until that one was answered, whatever time it takes. ``broken``: the messages of
    the run under the plan, in the order of their arrival."""
    likeness = Likeness()
    named = [
        (names.get(likeness.of(each.source, each.target, each.kind, each.commands), ""), each)
        for each in sorted(broken, key=lambda each: each.sent_at)
    ]
    named.sort(key=lambda pair: pair[1].arrives_at)
    found = {}
    for hold in plan.holds:
        before: list[tuple[str, Sent]] = []
        for name, each in named:
            if name == hold.message:
                conflicting = [
                    other_name
                    for other_name, other in before
                    if other_name and other.source != each.source and _conflicting(other, each)
                ]
                if conflicting:
                    found[hold.message] = conflicting[-1]
                break
            before.append((name, each))
    return found


def _conflicting(one: Sent, other: Sent) -> bool:
    return any(conflict(first, second) for first in one.commands for second in other.commands)
