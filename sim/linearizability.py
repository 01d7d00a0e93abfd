"""Whether calls that ran at the same time could have run one after the other: the search of Wing and Gong, with the
memory of what was tried that Lowe added to it.

A call took effect, if at all, at one moment between its beginning and its end. One that failed without a word about its
outcome (a time-out) may have taken effect at any moment since it began, or never.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Call:
    """``returned`` is None where the outcome is unknown; ``result`` means nothing then. Times of one clock."""

    who: str
    verb: str
    args: tuple[Any, ...]
    invoked: float
    returned: float | None
    result: Any = None

    def __str__(self) -> str:
        end = "its outcome is unknown" if self.returned is None else f"{self.result!r} at {self.returned:.4f}"
        return f"{self.invoked:.4f} {self.who}: {self.verb}{self.args!r} → {end}"


def linearization(
    calls: Sequence[Call],
    initial: S,
    apply: Callable[[S, Call], S | None],
    *,
    key: Callable[[S], object] = repr,
) -> list[Call] | None:
    """An order in which the calls explain each other, or None if there is none.

    ``apply(state, call)``: the state after it, as a new object; None where its result does not follow.
    ``key``: equal for states that are equal.
    """
    everything = (1 << len(calls)) - 1
    must = sum(1 << number for number, call in enumerate(calls) if call.returned is not None)
    tried: set[tuple[int, object]] = set()
    path: list[tuple[int, S]] = [(0, initial)]
    order: list[int] = []
    choices = [_possible(calls, everything)]
    while path:
        done, state = path[-1]
        if done & must == must:
            return [calls[number] for number in order]
        while choices[-1]:
            number = choices[-1].pop()
            after = apply(state, calls[number])
            if after is None:
                continue
            there = done | 1 << number
            seen = there, key(after)
            if seen not in tried:
                tried.add(seen)
                path.append((there, after))
                order.append(number)
                choices.append(_possible(calls, everything & ~there))
                break
        else:
            path.pop()
            choices.pop()
            if order:
                order.pop()
    return None


def _possible(calls: Sequence[Call], left: int) -> list[int]:
    """Those that may come next: none of the others left had ended before they began. The earliest is tried first."""
    numbers = [number for number in range(len(calls)) if left >> number & 1]
    ends = [returned for number in numbers if (returned := calls[number].returned) is not None]
    first_end = min(ends, default=float("inf"))
    possible = [number for number in numbers if calls[number].invoked <= first_end]
    return sorted(possible, key=lambda number: calls[number].invoked, reverse=True)
