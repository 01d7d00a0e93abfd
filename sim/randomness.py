"""Randomness from the world's seed in the place of the process'.

Every node draws from a stream of its own: what one does leaves the others' draws as they were.
"""

from __future__ import annotations

import hashlib
import os
import random
import ssl
import sys
import uuid
from collections.abc import Callable, Iterable
from typing import Any

from sim.ownership import Replacements, owner

FUNCTIONS = (
    "betavariate",
    "choice",
    "choices",
    "expovariate",
    "gammavariate",
    "gauss",
    "getrandbits",
    "lognormvariate",
    "normalvariate",
    "paretovariate",
    "randbytes",
    "randint",
    "random",
    "randrange",
    "sample",
    "shuffle",
    "triangular",
    "uniform",
    "vonmisesvariate",
    "weibullvariate",
)

_streams: dict[str, tuple[random.Random, random.Random]] = {}
_generators: list[tuple[str, random.Random]] = []
"""Generators that libraries made when they were imported, seeded by the system then; with names where they have any."""


def replace_randomness(replacements: Replacements) -> None:
    for name in FUNCTIONS:
        replacements.in_world(random, name, _drawing(name))
    replacements.in_world(os, "urandom", _entropy)
    replacements.in_world(os, "getrandom", lambda size, _flags=0: _entropy(size))
    replacements.in_world(ssl, "RAND_bytes", _entropy)
    replacements.in_world(uuid, "uuid1", lambda *_: uuid.uuid4())
    seed = random.Random.seed

    def seeded(self: random.Random, a: Any = None, version: int = 2) -> None:
        """``Random()`` asks the system for its seed."""
        if a is not None or isinstance(self, random.SystemRandom):
            seed(self, a, version)
        elif owner.world is not None:
            seed(self, int.from_bytes(_entropy(32), "big"))
        else:
            seed(self)
            _generators.append(("", self))

    random.Random.seed = seeded  # type: ignore[method-assign]


def know_generators(found: Iterable[random.Random]) -> None:
    """Generators that were there before. Their order is no help: it is another one in every process."""
    names = {
        id(value): f"{module_name}.{name}"
        for module_name, module in sorted(sys.modules.items(), reverse=True)
        for name, value in sorted(vars(module).items(), reverse=True)
        if isinstance(value, random.Random)
    }
    _generators.extend((names.get(id(generator), ""), generator) for generator in found)


def begin(seed: int) -> None:
    """A world begins: what it draws depends on its seed alone."""
    _streams.clear()
    for name, generator in _generators:
        generator.seed(f"{seed} {name}")


def _stream() -> tuple[random.Random, random.Random]:
    assert owner.world is not None
    node = owner.world.current
    name = "" if node is None else node.name
    found = _streams.get(name)
    if found is None:
        digest = hashlib.blake2b(f"{owner.seed} {name}".encode()).digest()
        found = _streams[name] = (random.Random(digest), random.Random(digest + b" entropy"))
    return found


def _entropy(size: int) -> bytes:
    return _stream()[1].randbytes(size)


def _drawing(name: str) -> Callable[..., Any]:
    return lambda *args, **kwargs: getattr(_stream()[0], name)(*args, **kwargs)
