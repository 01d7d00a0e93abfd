"""The shared state of a fleet: who is connected where, who uses what, who is revoked, who may clean up.

``State`` is the seam: a small set of verbs, each atomic, each one round trip, all documented in ``types.py``. Two
implementations stand behind it: ``MemoryState`` (one process) and ``RedisState`` (Lua scripts, one file an operation,
under ``scripts/``). Redis decides time and order: every change of presence or of the models in use takes the next
version in the step that makes it, and is published there.
"""

from .memory import MemoryState
from .pools import SessionPool, UsagePool, UserPool
from .redis import RedisState
from .types import (
    SCHEMA,
    Change,
    Lease,
    Outcome,
    Reaped,
    Registered,
    Renewal,
    Session,
    Snapshot,
    State,
    Token,
)

__all__ = [
    "SCHEMA",
    "Change",
    "Lease",
    "MemoryState",
    "Outcome",
    "Reaped",
    "RedisState",
    "Registered",
    "Renewal",
    "Session",
    "SessionPool",
    "Snapshot",
    "State",
    "Token",
    "UsagePool",
    "UserPool",
]
