"""The naive target, which ends a worker process that starts it."""

from __future__ import annotations

import multiprocessing
import os
from typing import Any

from sim.targets.naive import make_app

STATUS = 7


def make(context: Any) -> Any:
    if multiprocessing.parent_process() is not None:
        os._exit(STATUS)
    return make_app(context)
