"""Keeps what modules are made of out of the garbage collector's sight: each world's end would walk through it all."""

from __future__ import annotations

import gc
import sys

MANY = 50
"""Modules that must have come for it to be worth doing again: a world that is still held now is never collected."""


class _Known:
    modules = -MANY


def set_modules_aside() -> None:
    """Before a world is made; does something only when many modules have been imported since the last time."""
    if len(sys.modules) >= _Known.modules + MANY:
        _Known.modules = len(sys.modules)
        gc.unfreeze()
        gc.collect()
        gc.freeze()


def show_all_objects() -> list[object]:
    """Everything that the collector knows, modules too; they are set aside again before the next world."""
    gc.unfreeze()
    _Known.modules = -MANY
    return gc.get_objects()
