"""Where a mutant lives: a process of its own, forked from one that has imported everything but the layer."""

from __future__ import annotations

import compileall
import gc
import importlib
import importlib.util
import json
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

from .mutant import PACKAGE, Mutant

ROOT = PACKAGE.parent
MOST_BYTES = 2 << 30
COPIED = (PACKAGE.name, "sim", "tests")
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

FIXED = [
    "-x",
    "-q",
    "--tb=line",
    "--assert=plain",  # nobody reads more than the name of the test that failed
    *("-p", "no:cacheprovider"),
    *("-p", "no:unraisableexception"),
    # Plugins that pytest would rewrite are there already.
    *("-W", "ignore::pytest.PytestAssertRewriteWarning"),
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


class Nursery:
    """A compiled copy of the tests, the simulator and the layer, from which children are forked."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="mutants-"))
        self.root = self._folder / "root"
        self.root.mkdir()
        for name in COPIED:
            shutil.copytree(
                ROOT / name, self.root / name, ignore=shutil.ignore_patterns("__pycache__", "node")
            )
        shutil.copy(ROOT / "pyproject.toml", self.root)
        compileall.compile_dir(self.root, quiet=2)
        for name in HEAVY:
            importlib.import_module(name)

    def child(self, mutant: Mutant | None, arguments: list[str], *, seconds: float) -> Child:
        return Child(Path(tempfile.mkdtemp(dir=self._folder)), self.root, mutant, arguments, seconds)

    def close(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


class Child:
    """Tests on one mutant (or, without one, on the layer as it is), in a process that starts now."""

    def __init__(
        self, folder: Path, root: Path, mutant: Mutant | None, arguments: list[str], seconds: float
    ) -> None:
        self._folder = folder
        self._began = time.monotonic()
        self._seconds = seconds
        sys.stdout.flush()
        self._pid = os.fork()
        if self._pid == 0:
            _live(folder, root, mutant, arguments)

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


def _live(folder: Path, root: Path, mutant: Mutant | None, arguments: list[str]) -> None:
    """The child's whole life; does not return."""
    try:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
        output = os.open(folder / "output.txt", os.O_WRONLY | os.O_CREAT)
        for standard in (1, 2):
            os.dup2(output, standard)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        _import_layer(folder, root, mutant)
        settings.register_profile(
            "mutants",
            derandomize=True,
            database=None,
            phases=[Phase.explicit, Phase.generate],
            report_multiple_bugs=False,
        )
        settings.load_profile("mutants")
        # What was there before need not be looked through at each collection.
        gc.freeze()
        watch = _Watch(folder / "verdict.json")
        code = pytest.main([*FIXED, *arguments], plugins=[watch])
        watch.say("" if code == 0 else f"pytest, exit status {int(code)}", "")
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(0)


def _import_layer(folder: Path, root: Path, mutant: Mutant | None) -> None:
    """Makes all imports of ours come from the copy, and those of the layer from one with the mutant in it."""
    layer = root / PACKAGE.name
    if mutant is not None:
        layer = folder / PACKAGE.name
        shutil.copytree(root / PACKAGE.name, layer)
        path = layer / mutant.file
        path.write_text(mutant.apply(path.read_text()))
        if path.suffix == ".py":
            Path(importlib.util.cache_from_source(str(path))).unlink()
    for name in [name for name in sys.modules if name.partition(".")[0] in COPIED]:
        del sys.modules[name]
    os.chdir(root)
    sys.path[:] = [str(layer.parent), str(root), *(place for place in sys.path if Path(place or ".") != ROOT)]
    found = importlib.import_module(PACKAGE.name)
    assert found.__file__ is not None
    assert Path(found.__file__).parent == layer


class _Watch:
    """A pytest plugin that ends the process at the first failure: what comes after says nothing more."""

    def __init__(self, verdict: Path) -> None:
        self._verdict = verdict
        self._passed = 0

    def say(self, test: str, message: str) -> None:
        self._verdict.write_text(json.dumps({"test": test, "message": message, "passed": self._passed}))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._look(report)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._look(report)
        self._passed += report.when == "call" and report.passed

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """On a busy machine what a test allows itself is too little, and on an idle one much too much."""
        for item in items:
            item.own_markers[:] = [mark for mark in item.own_markers if mark.name != "timeout"]

    def _look(self, report: pytest.CollectReport | pytest.TestReport) -> None:
        if report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            self.say(report.nodeid, str(crash.message if crash else report.longrepr).strip()[:300])
            os._exit(0)
