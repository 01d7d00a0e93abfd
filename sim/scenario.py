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

MODULES = ("auth", "faults", "presence", "soak", "state", "usage")


@dataclass(frozen=True, slots=True)
class Scenario:
    """``kind``: r, a race or outage; d, a fault of the design; n, only a layer with leases has it; s, a random
    workload.

    ``reaches``: marks that a run must set for its outcome to mean anything. ``settings`` go to the target. ``waits``:
    the reason why ``realtime`` need not hold yet.
    """

    name: str
    kind: str
    about: str
    run: Run
    reaches: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    limit: float = 120.0
    waits: str = ""

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
) -> Callable[[Run], Run]:
    """Registers a scenario under its name in RACES.md."""

    def register(run: Run) -> Run:
        _registry[name] = Scenario(name, kind, about, run, reaches, settings or {}, limit, waits)
        return run

    return register


def scenarios() -> dict[str, Scenario]:
    """All scenarios, in the order of their names."""
    for module in MODULES:
        importlib.import_module(f"sim.scenarios.{module}")
    return dict(sorted(_registry.items()))


def find(name: str) -> Scenario:
    """Raises ``UnknownScenario``."""
    known = scenarios()
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    hint = f"; near it: {', '.join(near)}" if near else ""
    raise UnknownScenario(f"no scenario {name!r}{hint} (python -m sim list shows all)")
