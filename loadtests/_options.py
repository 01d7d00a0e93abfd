"""The command-line options of the load tests, beside Locust's own."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from loadtests._errors import LoadError
from loadtests._http import Target, parse_target
from loadtests._objectives import Objective, parse_objective

DEFAULT_HOST = "http://127.0.0.1:8080"
DEMO_SECRET_KEY = "demo-only-well-known-key-never-use-it-where-others-can-reach-it"
"""Published: what `python -m realtime --demo` signs with unless WEBUI_SECRET_KEY says otherwise."""
SHAPE_VARIABLE = "LOAD_SHAPE"


@dataclass(frozen=True, slots=True)
class Options:
    """Times in seconds."""

    targets: tuple[Target, ...]
    secret: str
    typing_every: float
    usage_every: float
    session_seconds: float
    idle_seconds: float
    late_after: float
    max_lag: float
    objectives: tuple[Objective, ...]


def add_options(parser: Any) -> None:
    """For Locust's `init_command_line_parser`."""
    group = parser.add_argument_group("Load on the real-time layer")

    def add(name: str, default: Any, text: str, **more: Any) -> None:
        group.add_argument(name, default=default, help=f"{text} (default: {default})", **more)

    seconds = _above_zero
    add("--instances", "", "addresses of several instances, separated by commas, instead of --host")
    add("--typing-every", 10.0, "seconds between a user's typing events, on average", type=seconds)
    add("--usage-every", 5.0, "seconds between a user's usage heartbeats, on average", type=seconds)
    add("--session-seconds", 60.0, "how long a user stays connected, on average", type=seconds)
    add("--idle-seconds", 2.0, "how long a user is away then, on average", type=seconds)
    add("--late-after", 1.0, "seconds after which a message counts as late", type=seconds)
    add("--max-lag", 0.1, "p99 of the generator's own lag beyond which no result is valid", type=seconds)
    add(
        "--objective",
        [],
        "such as fan-out-p99<=0.25 or lost<=0; may be repeated",
        action="append",
        type=_objective,
    )
    add(
        "--shape", "", "ramp, steps, spike, storm or soak instead of -u, -r, -t alone", env_var=SHAPE_VARIABLE
    )
    add("--shape-seconds", 60.0, "how long a shape lasts, unless -t says so", type=seconds)
    add("--step-users", 50, "users that each step adds (shape steps)", type=int)
    add("--step-seconds", 15.0, "how long each step holds (shape steps)", type=seconds)
    add("--kill-pid", 0, "process to kill in the middle (shape storm)", type=int)
    add(
        "--watch-pid",
        [],
        "server process whose CPU and memory the report shows; may be repeated",
        action="append",
        type=int,
    )
    add("--watch-redis", "", "Redis whose operations the report shows")
    add("--report-html", "", "file for the report as a page")
    add("--report-json", "", "file for the figures as JSON: seconds, counts, and the encoded histograms")
    add("--report-md", "", "file for the report as Markdown")


def shape_name(argv: Sequence[str]) -> str:
    """Which shape is asked for: Locust wants to know before it parses its options."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--shape", default=os.environ.get(SHAPE_VARIABLE, ""))
    return str(parser.parse_known_args(list(argv))[0].shape)


def read_options(parsed: Any, host: str | None) -> Options:
    """From what Locust parsed. Raises `LoadError`."""
    urls = [url.strip() for url in parsed.instances.split(",") if url.strip()] or [host or DEFAULT_HOST]
    secret = os.environ.get("WEBUI_SECRET_KEY", "") or DEMO_SECRET_KEY
    return Options(
        targets=tuple(parse_target(url) for url in urls),
        secret=secret,
        typing_every=parsed.typing_every,
        usage_every=parsed.usage_every,
        session_seconds=parsed.session_seconds,
        idle_seconds=parsed.idle_seconds,
        late_after=parsed.late_after,
        max_lag=parsed.max_lag,
        objectives=tuple(parse_objective(text) for text in parsed.objective),
    )


def _above_zero(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}: must be seconds above 0")
    return value


def _objective(text: str) -> str:
    # Kept as text: options travel from the master to its workers.
    try:
        parse_objective(text)
    except LoadError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text
