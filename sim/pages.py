"""The one way to the picture of a failing run, which is loaded only where one is asked for."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path

from sim.case import Case


def can_be_written() -> bool:
    return importlib.util.find_spec("sim.picture") is not None


def write_page(path: Path, case: Case) -> Path:
    """Runs the case and its baseline again, and writes the page."""
    path.parent.mkdir(parents=True, exist_ok=True)
    importlib.import_module("sim.picture").write_page(path, case)
    return path


def write_page_of(wanted: tuple[Path, Path]) -> Path:
    """The page of a saved case: where it is to be, and where the case is. For whichever process."""
    path, file = wanted
    return write_page(path, Case.read(file))
