"""A schedule as data: holds and faults at message boundaries, short enough to read and to write into a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self, TypeVar

from sim.schedule import Hold, JitterSchedule, Message

T = TypeVar("T")

CRASH, PAUSE, RESET = "crash", "pause", "reset"
REDIS_RESTART, REDIS_HANG, KILL_CONNECTIONS, SKEW = "redis-restart", "redis-hang", "kill-connections", "skew"


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens when a message arrives: its target crashes, stalls, or the link it came on is reset.

    Where the target is Redis: it comes back empty, hangs, or closes all its connections. ``skew``: from then on the
    target's clock is ahead by ``seconds``.
    """

    kind: str
    message: str
    seconds: float = 0.0

    def __str__(self) -> str:
        lasting = f" {'by' if self.kind == SKEW else 'for'} {self.seconds:g} s" if self.seconds else ""
        return f"{self.kind}{lasting} at {self.message}"


@dataclass(frozen=True, slots=True)
class Plan:
    """``jitter_seed``: every message gets a delay of its own from that seed; None: the base latency. ``splits``: how
    many messages travel in two pieces, from 0 to 1. ``skips``: client
    actions that the run leaves out, by the names that ``Lab.actions`` gives them."""

    holds: tuple[Hold, ...] = ()
    faults: tuple[Fault, ...] = ()
    jitter_seed: int | None = None
    jitter_seconds: float = 0.004
    splits: float = 0.0
    skips: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.holds) + len(self.faults)

    def __str__(self) -> str:
        parts = [f"hold {hold.message} for {hold.seconds * 1000:.1f} ms" for hold in self.holds]
        return "; ".join([*parts, *map(str, self.faults)]) or "undisturbed"

    def without(self, index: int) -> Self:
        """The plan less one hold or fault, counted through both."""
        if index < len(self.holds):
            return replace(self, holds=_less(self.holds, index))
        return replace(self, faults=_less(self.faults, index - len(self.holds)))

    @property
    def undisturbed(self) -> Self:
        """The same actions without a hold, a fault or jitter."""
        return replace(self, holds=(), faults=(), jitter_seed=None, splits=0.0)

    @property
    def without_faults(self) -> Self:
        """The same holds and delays, and nothing breaks."""
        return replace(self, faults=())

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        return cls(
            holds=tuple(Hold(**hold) for hold in data["holds"]),
            faults=tuple(Fault(**fault) for fault in data["faults"]),
            jitter_seed=data["jitter_seed"],
            jitter_seconds=data["jitter_seconds"],
            splits=data["splits"],
            skips=tuple(data["skips"]),
        )


class PlannedSchedule:
    """The schedule that a plan describes; ``bitten`` names the holds that took effect."""

    def __init__(self, plan: Plan) -> None:
        spread = 0.0 if plan.jitter_seed is None else plan.jitter_seconds
        self._jitter = JitterSchedule(plan.jitter_seed or 0, spread, splits=plan.splits)
        self._holds = {hold.message: hold.seconds for hold in plan.holds}
        self.bitten: set[str] = set()

    def delay(self, message: Message) -> float:
        seconds = self._jitter.delay(message)
        held = self._holds.get(message.name)
        if held is not None:
            self.bitten.add(message.name)
            seconds += held
        return seconds

    def pieces(self, message: Message) -> Sequence[int]:
        return self._jitter.pieces(message)


def _less(items: Sequence[T], index: int) -> tuple[T, ...]:
    return (*items[:index], *items[index + 1 :])
