"""How long Hypothesis looks: little and always the same, or long and anew with `HYPOTHESIS_PROFILE=nightly`."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

FACTOR = {"default": 1, "nightly": 40}[os.environ.get("HYPOTHESIS_PROFILE", "default")]
SECONDS = 60 * FACTOR
"""Time-out of one test."""


def examples(number: int, *, steps: int = 50) -> settings:
    """``steps``: of one run of a state machine."""
    return settings(
        max_examples=number * FACTOR,
        derandomize=FACTOR == 1,
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
        stateful_step_count=steps,
    )
