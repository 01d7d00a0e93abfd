"""Pages of saved cases, for whichever process."""

from __future__ import annotations

from pathlib import Path

from sim.case import Case


def write_page_of(wanted: tuple[Path, Path]) -> Path:
    """The page of a saved case: where it is to be, and where the case is."""
    from sim.picture import write_page  # not everyone who runs scenarios draws

    path, file = wanted
    path.parent.mkdir(parents=True, exist_ok=True)
    write_page(path, Case.read(file))
    return path
