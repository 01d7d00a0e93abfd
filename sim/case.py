"""A failing run as a small JSON file, and its replay bit for bit."""

from __future__ import annotations

import json
import platform
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Self

from sim.errors import SimulatorError
from sim.plan import Plan
from sim.run import Outcome, Result, run
from sim.scenario import find
from sim.targets import load

PACKAGES = ("fakeredis", "python-engineio", "python-socketio", "redis", "uvicorn", "websockets")


class CaseError(SimulatorError):
    """The file is no case, or the code has changed so that it no longer applies."""


@dataclass(frozen=True, slots=True)
class Case:
    """What is needed to run it again, and what came of it."""

    scenario: str
    target: str
    seed: int
    plan: Plan
    invariant: str
    message: str
    fingerprint: str
    versions: dict[str, str]

    @classmethod
    def of(cls, scenario: str, target: str, result: Result) -> Self:
        return cls(
            scenario,
            target,
            result.seed,
            result.plan,
            result.invariant,
            result.message,
            result.fingerprint,
            versions(),
        )

    def save(self, path: Path) -> None:
        data: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__}
        data["plan"] = self.plan.to_json()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises ``CaseError``."""
        try:
            data = json.loads(path.read_text())
            data["plan"] = Plan.from_json(data["plan"])
            return cls(**data)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CaseError(f"{path} is no saved run: {error}") from error


def replay(case: Case) -> Result:
    """Runs it again. Raises ``CaseError`` when it is not the same run any more: that is not a pass."""
    result = run(find(case.scenario), load(case.target), case.plan, seed=case.seed)
    if result.fingerprint == case.fingerprint:
        return result
    changed = [
        f"{name} {old} → {now}" for name, now in versions().items() if (old := case.versions.get(name)) != now
    ]
    disturbed = {hold.message for hold in case.plan.holds} | {fault.message for fault in case.plan.faults}
    unbitten = sorted(disturbed - result.bitten)
    why = "; ".join(
        [
            *(f"never sent: {name}" for name in unbitten),
            *(f"changed: {name}" for name in changed),
        ]
    )
    raise CaseError(
        f"the code has changed, this run no longer applies ({why or 'its trace differs'}); now it "
        f"{'still breaks ' + result.invariant if result.outcome is Outcome.VIOLATED else result.outcome}"
    )


def versions() -> dict[str, str]:
    """Python and the libraries that take part in a run."""
    found = {name: metadata.version(name) for name in PACKAGES}
    return {"python": platform.python_version(), **found}
