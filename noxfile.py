"""What a developer runs: `nox -l` lists it. Arguments after `--` go to the tool of the session."""

from __future__ import annotations

import shutil

import nox

nox.needs_version = ">=2024.4.15"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["lint", "test"]

WORKERS = "3"
"""On a machine of two cores: many tests wait for processes."""
PYTHONS = ["3.11", "3.12", "3.13"]


def install(session: nox.Session) -> None:
    """Everything, in the versions known to work; Node.js too where PATH has none."""
    extras = "all" if shutil.which("node") and shutil.which("npm") else "all,node"
    session.install("-c", "constraints.txt", "-e", f".[{extras}]")


@nox.session
def test(session: nox.Session) -> None:
    """Every test, on the running Python."""
    install(session)
    session.run("python", "-m", "tests.support.node")
    session.run("python", "-m", "realtime.demo.fetch")
    session.run("pytest", "-n", WORKERS, *session.posargs)


@nox.session
def browser(session: nox.Session) -> None:
    """The demo's page in a Chromium (CHROMIUM, or on PATH); `-- --save-screenshots` renews the README's pictures."""
    install(session)
    session.run("python", "-m", "tests.support.chromium")
    session.run("python", "-m", "realtime.demo.fetch")
    session.run("pytest", "-m", "browser", "tests/browser", *session.posargs)


@nox.session(python=PYTHONS)
def quick(session: nox.Session) -> None:
    """The tests that need no server and no other process and try no schedules, on any supported Python."""
    install(session)
    session.run(
        "pytest",
        "-n",
        WORKERS,
        "-m",
        "not e2e and not node and not redis and not explores and not browser",
        *session.posargs,
    )


@nox.session
def lab(session: nox.Session) -> None:
    """Every scenario on both targets in virtual time, as much as a minute allows: naive breaks, realtime holds."""
    install(session)
    session.run("python", "-m", "sim", "compare", *session.posargs)


@nox.session
def explore(session: nox.Session) -> None:
    """The same with every single disturbance of every scenario: long; reports/races.md is what came of it."""
    install(session)
    session.run("python", "-m", "sim", "compare", "--exhaustive", *session.posargs)


@nox.session
def chaos(session: nox.Session) -> None:
    """200 faults of all kinds on real processes and real clients; reports/chaos.md is what came of it."""
    install(session)
    session.run("python", "-m", "sim", "chaos", *(session.posargs or ["--reports", "reports"]))


@nox.session
def confirm(session: nox.Session) -> None:
    """What the simulator says, tried on real processes: 200 tries of each race; columns of reports/races.md."""
    install(session)
    arguments = session.posargs or ["--tries", "200", "--realtime-tries", "24", "--reports", "reports"]
    session.run("python", "-m", "sim", "confirm", *arguments)


@nox.session
def determinism(session: nox.Session) -> None:
    """The same seeds in several processes are the same runs, and planted leaks are found."""
    install(session)
    session.run("python", "-m", "sim", "determinism", *(session.posargs or ["--seeds", "200"]))


@nox.session
def fuzz(session: nox.Session) -> None:
    """100,000 hostile clients against one instance: for the night."""
    install(session)
    session.run("pytest", "tests/wire/test_fuzz.py", "--fuzz-cases", "100000", *session.posargs)


@nox.session
def tour(session: nox.Session) -> None:
    """The layer on real processes: two instances, a real Redis, real clients, and a table of what was seen."""
    install(session)
    # The JavaScript client is welcome, not needed: the table says when it was not run.
    session.run("python", "-m", "tests.support.node", success_codes=[0, 1])
    session.run("python", "-m", "sim.processes.tour", *session.posargs)


@nox.session
def load(session: nox.Session) -> None:
    """A cluster of two under load for 30 s; writes reports/load.html. `-- -u 200 -t 10m --objective 'lost<=0'`."""
    install(session)
    session.run("python", "-m", "tests.load", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure, print a table and save it under reports/."""
    install(session)
    session.run("python", "-m", "tests.bench", *session.posargs)


@nox.session
def mutants(session: nox.Session) -> None:
    """Mutants of the layer, made by rule: which of them does no test notice? Long; `-- --list` shows them."""
    install(session)
    session.run("python", "-m", "tests.mutants", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Style and types."""
    install(session)
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
