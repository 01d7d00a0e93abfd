"""Chromium for tests: CHROMIUM, else what PATH has. `python -m tests.support.chromium` says which, or what to do."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MISSING = "no Chromium found: install it (Debian: apt-get install chromium), or give its path in CHROMIUM"


def find_chromium() -> Path | None:
    """The browser's program, or None."""
    names = [os.environ["CHROMIUM"]] if os.environ.get("CHROMIUM") else NAMES
    return next((Path(found) for name in names if (found := shutil.which(name))), None)


if __name__ == "__main__":
    chromium = find_chromium()
    if chromium is None:
        sys.exit(MISSING)
    sys.stdout.write(f"Chromium: {chromium}\n")
