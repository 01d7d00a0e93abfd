"""Virtual time in the place of the process' clocks."""

from __future__ import annotations

import datetime as real_datetime
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sim.ownership import Replacements, current_node, owner
from sim.world import START

if TYPE_CHECKING:
    from sim.node import Node

MONOTONIC_START = 1000.0
MOST_LOOKS = 100_000
"""Looks at the clock in one turn after which a node is taken to wait for time to pass, which looking cannot do."""

SPIN_SECONDS = 0.001


def replace_clocks(replacements: Replacements) -> None:
    for name, virtual in (("time", wall), ("monotonic", monotonic), ("perf_counter", monotonic)):
        replacements.in_world(time, name, virtual)
        replacements.in_world(time, f"{name}_ns", _nanoseconds(virtual))
    replacements.in_world(time, "clock_gettime", _by_clock)
    replacements.in_world(time, "clock_gettime_ns", lambda clock: round(_by_clock(clock) * 1e9))
    for name in ("gmtime", "localtime", "ctime"):
        replacements.in_world(time, name, _at_now(getattr(time, name)))
    replacements.on_node(time, "sleep", sleep)
    # PyJWT asks ``datetime.now`` when a token expires, which replacing ``time.time`` does not reach.
    import jwt.api_jwt

    jwt.api_jwt.datetime = VirtualDatetime  # type: ignore[attr-defined]


def wall() -> float:
    """The wall clock of the host whose code asks; elsewhere one that is right."""
    node = current_node()
    if node is not None:
        _look(node)
        return node.wall_time()
    assert owner.world is not None
    return START + owner.world.now


def monotonic() -> float:
    node = current_node()
    if node is not None:
        _look(node)
    assert owner.world is not None
    return MONOTONIC_START + owner.world.now


def sleep(seconds: float) -> None:
    """``time.sleep`` on a node: it stands still, the others go on."""
    node = current_node()
    assert node is not None
    node.park(lambda: False, seconds, f"time.sleep({seconds:g})")


def _look(node: Node) -> None:
    node.looks += 1
    if node.looks > MOST_LOOKS or not node.alive:
        node.looks = MOST_LOOKS // 2
        node.park(lambda: False, SPIN_SECONDS, "a loop that looks at the clock")


def _by_clock(clock: int) -> float:
    return wall() if clock == time.CLOCK_REALTIME else monotonic()


def _at_now(original: Callable[[float], Any]) -> Callable[..., Any]:
    return lambda seconds=None: original(wall() if seconds is None else seconds)


def _nanoseconds(seconds: Callable[[], float]) -> Callable[[], int]:
    return lambda: round(seconds() * 1e9)


class _AnyDatetime(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, real_datetime.datetime)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, real_datetime.datetime)


class VirtualDatetime(real_datetime.datetime, metaclass=_AnyDatetime):
    """``datetime`` whose ``now`` is ``time.time``'s; for modules that are given it in the real one's place."""

    @classmethod
    def now(cls, tz: real_datetime.tzinfo | None = None) -> Any:
        return real_datetime.datetime.fromtimestamp(time.time(), tz)

    @classmethod
    def utcnow(cls) -> Any:
        return cls.now(real_datetime.UTC).replace(tzinfo=None)

    @classmethod
    def today(cls) -> Any:
        return cls.now()

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, handler: Callable[[Any], Any]) -> Any:
        return handler(real_datetime.datetime)
