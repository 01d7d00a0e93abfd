"""What a scenario is, and the registry of all of them by name."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sim.errors import SimulatorError

if TYPE_CHECKING:
    from sim.lab import Lab

Run = Callable[["Lab"], Coroutine[Any, Any, None]]

OWN = "sim.scenarios."
MODULES = ("auth", "calls", "faults", "locks", "presence", "rooms", "soak", "state", "usage", "wire")


@dataclass(frozen=True, slots=True)
class Scenario:
    """``kind``: r, a race or outage; d, a fault of the design; n, only a layer with leases has it; s, a random
    workload.

    ``reaches``: marks that a run must set for its outcome to mean anything. ``settings`` go to the target. ``waits``:
    the reason why ``realtime`` need not hold yet. ``faults``: the kinds of fault that it is about, which a search
    tries first; those of Redis and of clocks are tried in no other scenario.
    """

    name: str
    kind: str
    about: str
    run: Run
    reaches: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    limit: float = 120.0
    waits: str = ""
    faults: tuple[str, ...] = ()

    @property
    def derived(self) -> bool:
        """Whether its actions and faults come from the seed, and what it expects from what was done: then any of
        them may be left out."""
        return self.kind == "s"


class UnknownScenario(SimulatorError):
    """No scenario of that name; the text offers the nearest."""


_registry: dict[str, Scenario] = {}


def scenario(
    name: str,
    kind: str,
    about: str,
    *,
    reaches: tuple[str, ...] = (),
    settings: dict[str, Any] | None = None,
    limit: float = 120.0,
    waits: str = "",
    faults: tuple[str, ...] = (),
) -> Callable[[Run], Run]:
    """Registers a scenario: the simulator's own under this name, anyone else's under ``module:name``."""

    def register(run: Run) -> Run:
        full = name if run.__module__.startswith(OWN) else f"{run.__module__}:{name}"
        _registry[full] = Scenario(full, kind, about, run, reaches, settings or {}, limit, waits, faults)
        return run

    return register


def scenarios() -> dict[str, Scenario]:
    """All scenarios of the simulator, in the order of their names."""
    for module in MODULES:
        importlib.import_module(f"{OWN}{module}")
    return {name: each for name, each in sorted(_registry.items()) if ":" not in name}


def find(name: str) -> Scenario:
    """The scenario of that name; ``module:name`` is one that ``module`` registers. Raises ``UnknownScenario``."""
    module, colon, _name = name.partition(":")
    if colon:
        try:
            importlib.import_module(module)
        except Exception as error:  # a module's import may fail in any way
            raise UnknownScenario(
                f"the scenario {name!r} cannot be loaded: {type(error).__name__}: {error}"
            ) from error
        known = {full: each for full, each in _registry.items() if full.startswith(f"{module}:")}
        where = f"{module} registers {', '.join(sorted(known)) or 'none'}"
    else:
        known, where = scenarios(), "python -m sim list shows all; one of your own is MODULE:NAME"
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    hint = f"; near it: {', '.join(near)}" if near else ""
    raise UnknownScenario(f"no scenario {name!r}{hint} ({where})")
