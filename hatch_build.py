"""Puts the official Socket.IO client into the wheel, for the demo's page; an editable install does without."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class FetchClient(BuildHookInterface[Any]):
    """Runs `realtime/demo/fetch.py` by its path, since the package itself cannot be imported by a build."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        fetching = runpy.run_path(str(Path(self.root) / "realtime" / "demo" / "fetch.py"))
        try:
            fetching["fetch"]()
        except fetching["BundleMissing"] as missing:
            # Only the demo's page needs it, and says how to get it: no reason not to install the layer.
            self.app.display_warning(f"the demo's page will lack the Socket.IO client: {missing}")
