"""Measures, checks, writes the page."""

from __future__ import annotations

import sys

from tests.bench.capacity.check import check
from tests.bench.capacity.costs import Scale, measure_costs
from tests.bench.capacity.page import Measured, fits, write
from tests.bench.wire.machine import many_files

USERS = (100, 400)
SECONDS = 60.0


def run_capacity(*, quick: bool = False) -> bool:
    """True if what real runs took was as forecast. ``quick``: little is measured, and nothing saved."""
    if sys.platform != "linux":
        print("capacity: not measured; it needs Linux for its clocks and cores", file=sys.stderr)
        return False
    small = {"many": 100, "rounds": 1, "events": 12, "sessions": 10, "words": 100, "idle_seconds": 2.0}
    with many_files():
        calm, busy = (
            measure_costs(Scale(calm=kind, **small) if quick else Scale(calm=kind))  # type: ignore[arg-type]
            for kind in (True, False)
        )
        checks = []
        for users in USERS[:1] if quick else USERS:
            run = check(calm, users, 10.0 if quick else SECONDS)
            checks.append((run, run.against(busy)))
    measured = Measured(calm, busy, checks)
    met = all(fits(pair) for pair in checks)
    if not quick:
        write(measured)
        print("written: reports/capacity.md, reports/capacity.json")
    print("capacity: as forecast" if met else "capacity: NOT as forecast")
    return met
