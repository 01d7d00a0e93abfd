"""All rows of the wire benchmark in one run, and the report."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace

from tests.bench.report import publish
from tests.bench.wire.machine import many_files
from tests.bench.wire.rows import ROWS, Findings, Scale
from tests.support.node import NodeMissing, install_modules

QUICK = Scale(clients=100, rounds=3, events=50)

NOTE = """Every server is a process of its own on one core, the load is one process on another; medians of
interleaved rounds, proportions taken round by round."""


def run_wire(rows: Sequence[str], *, quick: bool = False) -> bool:
    """Runs these rows, prints, and saves if that is all of them at full length; True if every goal was met."""
    scale, note = (QUICK if quick else Scale()), NOTE
    try:
        install_modules()
    except NodeMissing as missing:
        note = f"Node was not run and nothing is claimed of it: {missing}\n\n{note}"
        print(note, file=sys.stderr)
        scale = replace(scale, node=False)
    findings = Findings()
    with many_files():
        for name in rows:
            print(f"wire: {name}", file=sys.stderr, flush=True)
            ROWS[name](scale, findings)
    whole = not quick and set(rows) == set(ROWS)
    return publish("The wire", "wire", findings.figures, note=note, beside=findings.lines, save=whole)
