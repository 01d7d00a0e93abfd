"""Which world owns this process' time and randomness just now; outside of a world everything is as it always was.

What is installed in the place of a function asks here each time: in a world the virtual one answers, else the original.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sim.node import Node
    from sim.world import World


class Owner:
    """One for the process: only one world runs at a time."""

    def __init__(self) -> None:
        self.world: World | None = None
        self.seed = 0
        self.thread = 0
        """The thread that the world runs in; what others do is their own affair, and no part of the run."""


owner = Owner()


def current_node() -> Node | None:
    """The node whose code runs here, if any."""
    world = owner.world
    if world is None or world.current is None or threading.get_ident() != owner.thread:
        return None
    return world.current


class Replacements:
    """Functions that take the place of others, wherever a module holds them under whatever name."""

    def __init__(self) -> None:
        self._by_id: dict[int, tuple[Any, Callable[..., Any]]] = {}

    def in_world(self, module: ModuleType, name: str, virtual: Callable[..., Any]) -> None:
        """``virtual`` answers while a world runs."""
        self._add(module, name, virtual, lambda: owner.world is not None)

    def on_node(self, module: ModuleType, name: str, virtual: Callable[..., Any]) -> None:
        """``virtual`` answers while a node's code runs."""
        self._add(module, name, virtual, lambda: current_node() is not None)

    def _add(
        self, module: ModuleType, name: str, virtual: Callable[..., Any], applies: Callable[[], bool]
    ) -> None:
        original = getattr(module, name, None)
        if original is None:
            return

        def chosen(*args: Any, **kwargs: Any) -> Any:
            return (virtual if applies() else original)(*args, **kwargs)

        chosen.__name__ = chosen.__qualname__ = name
        self._by_id[id(original)] = (original, chosen)

    def install(self) -> None:
        for module in list(sys.modules.values()):
            for name, value in list(getattr(module, "__dict__", {}).items()):
                found = self._by_id.get(id(value))
                if found is not None and found[0] is value:
                    setattr(module, name, found[1])
