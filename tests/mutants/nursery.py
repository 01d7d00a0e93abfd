"""Where a mutant lives: a process of its own, forked from one that has imported everything but the layer."""

from __future__ import annotations

import importlib
import importlib.util
import json
import logging
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import Phase, settings

from .found import source
from .mutant import PACKAGE, Mutant

ROOT = PACKAGE.parent
MOST_BYTES = 2 << 30
EACH_TEST_SECONDS = 30
HEAVY = [
    "aiosqlite",
    "alembic",
    "asyncpg",
    "engineio",
    "fakeredis",
    "fastapi",
    "greenlet",
    "httpx",
    "jwt",
    "lupa",
    "orjson",
    "pydantic_settings",
    "redis.asyncio",
    "socketio",
    "sqlalchemy.ext.asyncio",
    "uvicorn",
    "uvloop",
    "websockets",
]

ENDED, SILENT, LATE = "ended", "silent", "late"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the tests said. ``test`` is the first that failed, ``message`` its last word; empty if all passed.
    ``how``: they ended, the process died without a word, or it took too long."""

    how: str
    test: str
    message: str
    passed: int
    seconds: float

    @property
    def survived(self) -> bool:
        return self.how == ENDED and not self.test


def import_heavy() -> None:
    """Once, in the parent. The layer itself must stay out: children import their own copy."""
    for name in HEAVY:
        importlib.import_module(name)
    assert not any(name.partition(".")[0] == "realtime" for name in sys.modules), (
        "the layer is imported already"
    )


class Child:
    """Tests on one mutant (or, without one, on the layer as it is), in a process that starts now."""

    def __init__(self, mutant: Mutant | None, arguments: list[str], *, seconds: float) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="mutant-"))
        self._began = time.monotonic()
        self._seconds = seconds
        sys.stdout.flush()
        self._pid = os.fork()
        if self._pid == 0:
            _live(self._folder, mutant, arguments)

    def poll(self) -> Verdict | None:
        """Its verdict, once there is one; what it leaves behind, processes and files, is removed then."""
        pid, _status = os.waitpid(self._pid, os.WNOHANG)
        took = time.monotonic() - self._began
        late = pid == 0 and took > self._seconds
        if pid == 0 and not late:
            return None
        self._kill()
        if late:
            os.waitpid(self._pid, 0)
        verdict = self._read(took, late=late)
        shutil.rmtree(self._folder, ignore_errors=True)
        return verdict

    def end(self) -> None:
        self._seconds = 0.0
        self.poll()

    def _kill(self) -> None:
        try:
            os.killpg(self._pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def _read(self, took: float, *, late: bool) -> Verdict:
        if late:
            return Verdict(LATE, "", f"not done after {took:.0f} s", 0, took)
        try:
            said = json.loads((self._folder / "verdict.json").read_text())
        except (OSError, ValueError):
            output = (self._folder / "output.txt").read_text(errors="replace").strip()
            return Verdict(SILENT, "", output[-300:], 0, took)
        return Verdict(ENDED, said["test"], said["message"], said["passed"], took)


def _live(folder: Path, mutant: Mutant | None, arguments: list[str]) -> None:
    """The child's whole life; does not return."""
    try:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
        output = os.open(folder / "output.txt", os.O_WRONLY | os.O_CREAT)
        for standard in (1, 2):
            os.dup2(output, standard)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        _put_on_path(folder, mutant)
        settings.register_profile(
            "mutants",
            derandomize=True,
            database=None,
            phases=[Phase.explicit, Phase.generate],
            report_multiple_bugs=False,
        )
        settings.load_profile("mutants")
        watch = _Watch()
        fixed = ["-x", "-q", "-p", "no:cacheprovider", "--tb=line", f"--timeout={EACH_TEST_SECONDS}"]
        # Plugins that pytest would rewrite are there already.
        fixed += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
        code = pytest.main([*fixed, *arguments], plugins=[watch])
        if code != 0 and not watch.test:
            watch.test = f"pytest, exit status {int(code)}"
        said = {"test": watch.test, "message": watch.message, "passed": watch.passed}
        (folder / "verdict.json").write_text(json.dumps(said))
        logging.shutdown()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(0)


def _put_on_path(folder: Path, mutant: Mutant | None) -> None:
    """Imports a copy of the layer with the mutant in it. Whatever is imported from it later comes from there too."""
    copy = folder / PACKAGE.name
    shutil.copytree(PACKAGE, copy)
    if mutant is not None:
        path = copy / mutant.file
        path.write_text(mutant.apply(source(mutant.file)))
        if path.suffix == ".py":
            Path(importlib.util.cache_from_source(str(path))).unlink(missing_ok=True)
    sys.path.insert(0, str(folder))
    os.chdir(ROOT)
    found = importlib.import_module(PACKAGE.name)
    assert found.__file__ is not None
    assert Path(found.__file__).parent == copy


class _Watch:
    """A pytest plugin that notes the first failure."""

    def __init__(self) -> None:
        self.test = ""
        self.message = ""
        self.passed = 0

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._look(report)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._look(report)
        self.passed += report.when == "call" and report.passed

    def _look(self, report: pytest.CollectReport | pytest.TestReport) -> None:
        if report.failed and not self.test:
            self.test = report.nodeid
            crash = getattr(report.longrepr, "reprcrash", None)
            self.message = str(crash.message if crash else report.longrepr).strip()[:300]
