"""Keeps what modules are made of out of the garbage collector's sight: each world's end would walk through it all."""

from __future__ import annotations

import gc
import sys


class _Known:
    modules = 0


def set_modules_aside() -> None:
    """Before a world is made; does something only when modules have been imported since the last time."""
    if len(sys.modules) != _Known.modules:
        _Known.modules = len(sys.modules)
        gc.unfreeze()
        gc.collect()
        gc.freeze()
