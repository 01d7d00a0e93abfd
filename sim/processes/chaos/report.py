"""A session of chaos as a page and as data."""

from __future__ import annotations

import json
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sim.case import versions
from sim.processes.chaos.session import GHOSTS_WITHIN, MEASURES, RIGHT_WITHIN, Session, Struck
from sim.processes.lab import SLACK_SECONDS, TOLERANCE

NAME = "chaos"


def conclusion(session: Session) -> list[str]:
    """What broke, or that nothing did."""
    said = [f"broken: {line}" for line in session.broken]
    if session.interrupted:
        said.append(f"interrupted after {len(session.struck)} of {session.faults} faults")
    if session.failed:
        said.append(
            f"the lab failed after {len(session.struck)} of {session.faults} faults: {session.failed}"
        )
    if not said:
        said.append("every invariant held")
    if session.left_out:
        said.append(f"left out, the Redis is not the lab's own: {', '.join(session.left_out)}")
    ghosts = [each.ghosts for each in session.struck if each.ghosts is not None]
    if ghosts:
        said.append(
            f"ghosts after {len(ghosts)} SIGKILLs were gone in {max(ghosts):.1f} s at most, within {GHOSTS_WITHIN:g} s"
        )
    said.append(
        f"{len(session.struck)} faults of {len({each.kind for each in session.struck})} kinds on {session.instances} "
        f"instances and {session.clients} clients, {session.seconds:.0f} s, seed {session.seed}"
    )
    return said


def write(session: Session, folder: Path, *, server: str) -> list[Path]:
    """``chaos.md`` and ``chaos.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    page, data = folder / f"{NAME}.md", folder / f"{NAME}.json"
    made = {**versions(), "redis server": server}
    page.write_text(_markdown(session, made))
    data.write_text(json.dumps(to_json(session) | {"made": made}, indent=1, ensure_ascii=False) + "\n")
    return [page, data]


def to_json(session: Session) -> dict[str, Any]:
    return asdict(session) | {"conclusion": conclusion(session)}


def _markdown(session: Session, made: dict[str, str]) -> str:
    software = ", ".join(f"{name} {version}" for name, version in made.items())
    kinds = sorted({each.kind for each in session.struck})
    by_kind = [(kind, *_figures([each for each in session.struck if each.kind == kind])) for kind in kinds]
    parts = [
        "# Chaos on real processes",
        "Made by `python -m sim chaos`: one fault after the other strikes a fleet with steady work; the next one comes "
        "when all was right again for a second.",
        "\n".join(f"- {line}" for line in conclusion(session)),
        "## By kind",
        "Seconds from the end of the fault until presence, usage and delivery were right for every client, to "
        "stay: the median, and the longest. Something is said on every instance each 0.5 s, so delivery takes up to "
        "so long to be seen. While a fault lasts, users leave and others come. All must be right after "
        f"{RIGHT_WITHIN:g} s, ghosts of a SIGKILL gone {GHOSTS_WITHIN:g} s after it; what a busy machine adds is let "
        f"pass: {TOLERANCE:g} times as long and {SLACK_SECONDS:g} s.",
        _table(("kind", "faults", *(f"{name} p50 / max" for name in MEASURES), "ghosts max"), by_kind),
        "## Each fault",
        "`at` is when it struck, seconds since the beginning; `lasted` the seconds until it was healed.",
        _table(
            ("#", "at", "kind", "what", "lasted", *MEASURES, "ghosts gone"),
            [_row(each) for each in session.struck],
        ),
        f"With {software}, on {platform.system()} {platform.machine()}.",
    ]
    return "\n\n".join(parts) + "\n"


def _figures(struck: Sequence[Struck]) -> tuple[str, ...]:
    ghosts = [each.ghosts for each in struck if each.ghosts is not None]
    times = [[each.right[name] for each in struck] for name in MEASURES]
    return (
        f"{len(struck)}",
        *(f"{statistics.median(each):.2f} / {max(each):.2f}" for each in times),
        f"{max(ghosts):.1f}" if ghosts else "",
    )


def _row(each: Struck) -> tuple[str, ...]:
    return (
        f"{each.number}",
        f"{each.at:.1f}",
        each.kind,
        each.what,
        f"{each.lasted:.2f}",
        *(f"{each.right[name]:.2f}" for name in MEASURES),
        "" if each.ghosts is None else f"{each.ghosts:.2f}",
    )


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
