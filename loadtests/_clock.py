"""One clock for all figures: Unix seconds that never step back while the process lives."""

from __future__ import annotations

import time

# Workers compare each other's stamps, so the origin is the machine's time of day; several machines need theirs in step.
_ORIGIN = time.time() - time.perf_counter()


def now() -> float:
    """Unix seconds with microseconds, monotonic within this process."""
    return _ORIGIN + time.perf_counter()
