"""All rows of the wire benchmark in one run, and the report."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import replace

from tests.bench.report import REPORTS, publish
from tests.bench.wire.machine import LOAD_CORE, SERVER_CORE, many_files
from tests.bench.wire.plot import draw
from tests.bench.wire.rows import ROWS, Findings, Scale
from tests.support.node import NodeMissing, install_modules

QUICK = Scale(clients=100, rounds=3, events=50, many_idle=600, askers=200, asking_seconds=2)

NOTE = """\
Every server is a process of its own on one core, the load is one process on another core that checks every byte it
gets. Figures are medians of rounds that are interleaved between the servers. CPU is the process's, user and system.

`ours` is `python -m realtime` with its defaults (FastAPI mount, presence, limits on; users in SQLite), `stock`
python-socketio's `AsyncServer` under uvicorn and uvloop, `node` socket.io of npm, `bare` a loop of `send` calls of
ready-made bytes in Python. All check a signed token in CONNECT, put the client into a room of its own and into one
that all share (`bare` lets in whoever comes).

- Single events: the next is emitted when the last client has the one before. Ten at a time: ten calls of `emit` in a
  row; `bare` sends the ten as one piece. The wait is that of the median client, from asking the server to emit.
- The fleet's CPU is that of its three instances; Redis and the load share the other core.
- Memory is the proportional set size, after 5 s of silence in which every client knew who was online.
- Connects: from the first request to the last CONNECT answered, 50 at a time. Here the handler of `stock` does what
  that of ours does, by the same code: it checks the token (`realtime.auth`), looks user and channels up in an SQLite
  database (`SqlDirectory`, batched), registers the session (`MemoryState`), enters its rooms, sends the newcomer the
  list of who is online and the models in use, and tells all others at the same pace (`Pacer`, same interval and bytes
  a second). Sending is stock's. Not done there: ours looks once more whether the channels changed or the token was
  revoked meanwhile, bounds rates and rooms, and watches tokens for their end. `stock, token only` and `node` check
  the token and enter two rooms, no more.
- Acks: clients ask in turn, evenly over the second; a wait counts from the moment a client was to ask."""


def run_wire(rows: Sequence[str], *, quick: bool = False) -> bool:
    """Runs these rows, prints, and saves if that is all of them at full length; True if every goal was met."""
    if sys.platform != "linux":
        print("wire: not measured; it needs Linux for its clocks and cores", file=sys.stderr)
        return False
    scale, note = (QUICK if quick else Scale()), NOTE
    if SERVER_CORE == LOAD_CORE:
        note = f"On a machine of one core, so that the load was in the servers' way.\n\n{note}"
    try:
        install_modules()
    except NodeMissing as missing:
        warning = f"Node was not run, and nothing is claimed of it: {missing}"
        print(warning, file=sys.stderr)
        note, scale = f"{warning}\n\n{note}", replace(scale, node=False)
    findings = Findings()
    with many_files():
        for name in rows:
            began = time.monotonic()
            ROWS[name](scale, findings)
            print(f"wire: {name} took {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    whole = not quick and set(rows) == set(ROWS)
    if findings.profile and not whole:
        print(findings.profile)
    met = publish(
        "The wire",
        "wire",
        findings.figures,
        note="\n\n".join(filter(None, [findings.profile, note])),
        beside=findings.lines,
        picture=whole,
        save=whole,
    )
    if whole:
        draw(findings.lines, REPORTS / "wire.svg")
    return met
