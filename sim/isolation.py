"""A copy of an application's own modules for every instance: module-level globals are a process' in production.

While a node runs, ``sys.modules`` shows its copies, so that imports inside functions find them too. Installed libraries
and the simulator are shared.
"""

from __future__ import annotations

import datetime
import functools
import importlib
import importlib.util
import site
import sys
import sysconfig
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from sim.clocks import VirtualDatetime

if TYPE_CHECKING:
    from sim.node import Node


class Application:
    """The modules that belong to one application: those that lie beside its top-level module or package."""

    def __init__(self, module_name: str) -> None:
        self.module_name = module_name
        top = module_name.partition(".")[0]
        spec = importlib.util.find_spec(top)
        if spec is None:
            raise ImportError(f"no module named {top!r}", name=top)
        places = list(spec.submodule_search_locations or ()) or [spec.origin or ""]
        self._root = Path(places[0]).resolve().parent
        self._top = top

    def load(self, node: Node) -> ModuleType:
        """Imports the application for this node, which must be running, as its process would at its start."""
        before = {name: module for name, module in sys.modules.items() if self.owns(name, module)}
        for name in before:
            del sys.modules[name]
        try:
            module = importlib.import_module(self.module_name)
        finally:
            fresh = {name: each for name, each in sys.modules.items() if self.owns(name, each)}
            for name in fresh:
                del sys.modules[name]
            sys.modules.update(before)
        for each in fresh.values():
            _give_clock(each)
        node.modules = Modules(self, fresh)
        show_modules_of(node)
        return module

    def owns(self, name: str, module: Any) -> bool:
        top = name.partition(".")[0]
        if top == "sim" or top == "__main__":
            return False
        if top == self._top:
            return True
        file = getattr(module, "__file__", None)
        return file is not None and _lies_beside(self._root, file)


_INSTALLED = tuple(
    Path(place).resolve()
    for place in {
        *site.getsitepackages(),
        *(sysconfig.get_paths()[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")),
    }
)


@functools.cache
def _lies_beside(root: Path, file: str) -> bool:
    """Asked of every module for every node: too often to take paths apart each time."""
    path = Path(file)
    return path.is_relative_to(root) and not any(path.is_relative_to(each) for each in _INSTALLED)


class Modules:
    """One node's copies; ``show`` and ``hide`` move them in and out of ``sys.modules``."""

    def __init__(self, application: Application, copies: dict[str, ModuleType]) -> None:
        self._application = application
        self._copies = copies
        self._hidden: dict[str, ModuleType] = {}
        self._size = 0

    def show(self) -> None:
        for name, module in self._copies.items():
            if (hidden := sys.modules.get(name)) is not None:
                self._hidden[name] = hidden
            sys.modules[name] = module
        self._size = len(sys.modules)

    def hide(self) -> None:
        """What the node has imported since belongs to it, too."""
        if len(sys.modules) != self._size:
            for name, module in list(sys.modules.items()):
                if (
                    name not in self._copies
                    and name not in self._hidden
                    and self._application.owns(name, module)
                ):
                    self._copies[name] = module
                    _give_clock(module)
        for name in self._copies:
            if name in self._hidden:
                sys.modules[name] = self._hidden[name]
            else:
                sys.modules.pop(name, None)
        self._hidden.clear()


class _Shown:
    modules: Modules | None = None


_shown = _Shown()


def show_modules_of(node: Node) -> None:
    """Before a node runs; nodes without modules of their own leave those of the last one where they are."""
    if node.modules is not None and node.modules is not _shown.modules:
        hide_modules()
        node.modules.show()
        _shown.modules = node.modules


def hide_modules() -> None:
    """Leaves ``sys.modules`` as it was without worlds."""
    if _shown.modules is not None:
        _shown.modules.hide()
        _shown.modules = None


def _give_clock(module: ModuleType) -> None:
    """``datetime.now`` of an application's modules follows virtual time."""
    for name, value in list(vars(module).items()):
        if value is datetime.datetime:
            setattr(module, name, VirtualDatetime)
        elif value is datetime:
            shim = ModuleType("datetime")
            vars(shim).update(vars(datetime), datetime=VirtualDatetime)
            setattr(module, name, shim)
