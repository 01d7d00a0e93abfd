"""Takes time, randomness and the order of sets out of the process' hands and gives them to the world.

``install`` replaces, once per process, the functions that code may have imported by name anywhere; outside of a world
they do what they always did. ``owned`` makes one world the owner while it runs.

Strings still hash differently in every process, on purpose: runs must agree across hash seeds, so code under test may
not let the order of a set of strings reach the wire.
"""

from __future__ import annotations

import contextlib
import datetime as real_datetime
import gc
import hashlib
import itertools
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from sim.world import START, World

_world: World | None = None
_seed = 0
_streams: dict[str, tuple[random.Random, Callable[[int], bytes]]] = {}
_numbers = itertools.count(1)
_installed: dict[str, Any] = {}
_generators: list[random.Random] = []
"""Generators that libraries made when they were imported, seeded by the system then."""

RANDOM_FUNCTIONS = (
    "betavariate",
    "choice",
    "choices",
    "expovariate",
    "gauss",
    "getrandbits",
    "normalvariate",
    "randbytes",
    "randint",
    "random",
    "randrange",
    "sample",
    "shuffle",
    "triangular",
    "uniform",
)
MONOTONIC_START = 1000.0


@contextlib.contextmanager
def owned(world: World, seed: int) -> Iterator[None]:
    """Time and randomness are this world's until the end; garbage is collected before and after, not within."""
    global _world, _seed
    if not _installed:
        install()
    if _world is not None:
        raise RuntimeError("another world is running in this process")
    gc.collect()
    gc.disable()
    _world, _seed = world, seed
    _streams.clear()
    for number, generator in enumerate(_generators):
        generator.seed(f"{seed} {number}")
    try:
        yield
    finally:
        _world = None
        gc.enable()


def install() -> None:
    """Replaces the functions wherever a module holds them, and numbers what else would be ordered by address.

    What runs in worlds must have been imported before.
    """
    import aiohttp  # noqa: F401  # holds functions and a generator of its own

    replacements: dict[int, Any] = {}

    def replace(module: ModuleType, name: str, virtual: Callable[..., Any]) -> None:
        original = getattr(module, name)
        _installed[f"{module.__name__}.{name}"] = original
        replacements[id(original)] = _switch(original, virtual)

    for name, virtual in (("time", _wall), ("monotonic", _monotonic), ("perf_counter", _monotonic)):
        replace(time, name, virtual)
        replace(time, f"{name}_ns", _nanoseconds(virtual))
    replace(os, "urandom", _urandom)
    for name in RANDOM_FUNCTIONS:
        replace(random, name, _drawing(name))
    for module in list(sys.modules.values()):
        for name, value in list(getattr(module, "__dict__", {}).items()):
            if id(value) in replacements and module.__name__ != __name__:
                setattr(module, name, replacements[id(value)])
    _replace_clock_of_jwt()
    _number_hashes()
    found = [each for each in gc.get_objects() if type(each) is random.Random]
    _generators.extend(found)


def _switch(original: Callable[..., Any], virtual: Callable[..., Any]) -> Callable[..., Any]:
    def chosen(*args: Any, **kwargs: Any) -> Any:
        return original(*args, **kwargs) if _world is None else virtual(*args, **kwargs)

    return chosen


def _wall() -> float:
    assert _world is not None
    node = _world.current
    return START + _world.now if node is None else node.wall_time()


def _monotonic() -> float:
    assert _world is not None
    return MONOTONIC_START + _world.now


def _nanoseconds(seconds: Callable[[], float]) -> Callable[[], int]:
    return lambda: round(seconds() * 1e9)


def _stream() -> tuple[random.Random, Callable[[int], bytes]]:
    """Every node draws from a stream of its own: what one does leaves the others' draws as they were."""
    assert _world is not None
    name = "" if _world.current is None else _world.current.name
    found = _streams.get(name)
    if found is None:
        generator = random.Random(hashlib.blake2b(f"{_seed} {name}".encode()).digest())
        entropy = random.Random(hashlib.blake2b(f"{_seed} {name} entropy".encode()).digest())
        found = _streams[name] = (generator, entropy.randbytes)
    return found


def _urandom(size: int) -> bytes:
    return _stream()[1](size)


def _drawing(name: str) -> Callable[..., Any]:
    return lambda *args, **kwargs: getattr(_stream()[0], name)(*args, **kwargs)


class _AnyDatetime(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, real_datetime.datetime)


class _Datetime(real_datetime.datetime, metaclass=_AnyDatetime):
    @classmethod
    def now(cls, tz: real_datetime.tzinfo | None = None) -> Any:
        return real_datetime.datetime.fromtimestamp(time.time(), tz)


def _replace_clock_of_jwt() -> None:
    """PyJWT asks ``datetime.now``, which replacing ``time.time`` does not reach."""
    import jwt.api_jwt

    jwt.api_jwt.datetime = _Datetime  # type: ignore[attr-defined]


def _number_hashes() -> None:
    """Objects that libraries keep in sets and walk through: their hash would be their address."""
    from aiohttp.client_proto import ResponseHandler
    from redis.asyncio.connection import AbstractConnection
    from redis.connection import AbstractConnection as BlockingConnection
    from uvicorn.protocols.http.h11_impl import H11Protocol
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
    from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
    from uvicorn.protocols.websockets.wsproto_impl import WSProtocol

    for kind in (
        AbstractConnection,
        BlockingConnection,
        H11Protocol,
        HttpToolsProtocol,
        ResponseHandler,
        WSProtocol,
        WebSocketsSansIOProtocol,
    ):
        kind.__hash__ = _number  # type: ignore[method-assign]


def _number(self: Any) -> int:
    number = self.__dict__.get("_sim_number") if hasattr(self, "__dict__") else None
    if number is None:
        number = self._sim_number = next(_numbers)
    return int(number)
