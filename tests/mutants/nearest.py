"""Which tests are held against which file: the nearest first, since a mutant dies at the first that fails."""

from __future__ import annotations

from dataclasses import dataclass

from .mutant import Mutant


@dataclass(frozen=True, slots=True)
class Stage:
    """Tests that run together. ``steady``: none of them depends on how fast the machine is, so one failure is proof;
    of the others a failure must show twice. ``each``: seconds that one of them may take, whatever it says itself."""

    name: str
    arguments: tuple[str, ...]
    steady: bool = True
    each: float = 12.0


WITHOUT_SERVERS = ("-m", "not redis and not postgres and not node and not e2e")

VERBS = Stage(
    "verbs",
    (
        "tests/state/test_verbs.py",
        "tests/state/test_scripts.py",
        "tests/state/test_codec.py",
        "tests/state/test_pools.py",
        "tests/state/test_listening.py",
        "tests/state/test_start.py",
        "tests/state/test_round_trips.py",
        *WITHOUT_SERVERS,
    ),
)
SCRIPTS_MACHINE = Stage("machine", ("tests/state/test_machine.py", "-k", "fakeredis"), each=600.0)
SERVER = Stage(
    "on a server", ("tests/state", "-m", "redis", "--deselect=tests/state/test_machine.py"), steady=False
)
MEMORY_MACHINE = Stage("machine in memory", ("tests/state/test_machine.py", "-k", "memory"), each=600.0)
_PARTS = ("sessions", "replica", "leasing", "housekeeping", "presence")


def _parts(first: str) -> Stage:
    """The tests of the layer's parts, those of one before the others."""
    order = sorted(_PARTS, key=lambda part: part != first)
    return Stage(first, (*(f"tests/test_{part}.py" for part in order), *WITHOUT_SERVERS), steady=False)


PARTS = {
    "sessions.py": _parts("sessions"),
    "replica.py": _parts("replica"),
    "leasing.py": _parts("leasing"),
    "repairs.py": _parts("leasing"),
    "housekeeping.py": _parts("housekeeping"),
    "presence.py": _parts("presence"),
    "shared_channels.py": _parts("presence"),
    "usage.py": _parts("presence"),
    "locks.py": Stage("locks", ("tests/events/test_emitters.py", *WITHOUT_SERVERS), steady=False),
}
SCENARIOS = Stage("scenarios", ("tests/mutants/scenarios.py",))
EVENTS = Stage("events", ("tests/events", *WITHOUT_SERVERS), steady=False)
RACES = Stage("races", ("tests/races",), steady=False)


def stages(mutant: Mutant) -> tuple[Stage, ...]:
    file = mutant.file
    if file.endswith(".lua") or file == "state/redis.py":
        return VERBS, SCRIPTS_MACHINE, SERVER, SCENARIOS, RACES
    if file in ("state/memory.py", "state/pools.py"):
        return VERBS, MEMORY_MACHINE, EVENTS
    if file == "state/codec.py":
        return VERBS, SCRIPTS_MACHINE, EVENTS
    parts = (PARTS[file],) if file in PARTS else ()
    return *parts, SCENARIOS, RACES, EVENTS
