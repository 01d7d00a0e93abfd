"""Takes time, randomness and the order of sets out of the process' hands and gives them to the world.

``install`` replaces, once per process, the functions that code may have imported by name anywhere; outside of a world
they do what they always did. ``owned`` makes one world the owner while it runs, and takes it apart at its end.

Strings still hash differently in every process, on purpose: runs must agree across hash seeds, so code under test may
not let the order of a set of strings reach the wire.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import random
import threading
from collections.abc import Iterator

from sim import ordering, randomness
from sim.isolation import hide_modules, show_modules_of
from sim.memory import show_all_objects
from sim.ownership import Replacements, owner
from sim.world import World

_installed = False


@contextlib.contextmanager
def owned(world: World, seed: int) -> Iterator[None]:
    """Time and randomness are this world's until the end; nothing is garbage-collected meanwhile."""
    if not _installed:
        install()
    if owner.world is not None:
        raise RuntimeError("another world is running in this process")
    was_enabled = gc.isenabled()
    gc.disable()
    owner.world, owner.seed, owner.thread = world, seed, threading.get_ident()
    world.on_switch = show_modules_of
    ordering.begin()
    randomness.begin(seed)
    try:
        yield
    finally:
        world.close()
        hide_modules()
        owner.world = None
        if was_enabled:
            gc.enable()


def install() -> None:
    """Replaces what modules hold that were imported before; what is imported later finds the replacements."""
    global _installed
    _installed = True
    import aiohttp  # noqa: F401  # holds functions and a generator of its own

    from sim.blocking import replace_blocking
    from sim.clocks import replace_clocks

    replacements = Replacements()
    replace_clocks(replacements)
    randomness.replace_randomness(replacements)
    replace_blocking(replacements)
    ordering.order_tasks(replacements)
    replacements.install()
    ordering.number_hashes()
    _remember_version()
    randomness.know_generators([each for each in show_all_objects() if type(each) is random.Random])


def _remember_version() -> None:
    """redis-py looks its own version up in files for every connection that it makes, a tenth of a run's time."""
    import redis.utils

    vars(redis.utils)["get_lib_version"] = functools.cache(redis.utils.get_lib_version)
