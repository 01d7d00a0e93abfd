"""`realtime.main`: the seed's names at module level, built from the environment when it is imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.support.stack import SECRET

NAMES = [
    "SESSION_POOL",
    "USAGE_POOL",
    "USER_POOL",
    "app",
    "decode_token",
    "get_event_call",
    "get_event_emitter",
    "get_models_in_use",
    "get_user_id_from_session_pool",
    "get_user_ids_from_room",
    "get_active_status_by_user_id",
    "emit_to_users",
    "enter_room_for_users",
    "leave_room_for_users",
    "disconnect_user",
    "periodic_usage_pool_cleanup",
    "sio",
]

PROGRAM = """
import asyncio, json, sys
import realtime.main as main

async def use():
    async with main.app.router.lifespan_context(main.app):
        cleanup = asyncio.create_task(main.periodic_usage_pool_cleanup())
        await main.get_event_emitter({"user_id": "ann"})({"type": "x"})
        answers = [
            await main.get_models_in_use(), await main.get_user_ids_from_room("channel:general"),
            await main.get_active_status_by_user_id("ann"), await main.USER_POOL.items(),
        ]
        cleanup.cancel()
        return answers

print(json.dumps({
    "missing": [name for name in json.loads(sys.argv[1]) if not hasattr(main, name)],
    "listed": sorted(main.__all__),
    "answers": asyncio.run(use()),
    "prefix": main.server.settings.redis_key_prefix,
    "routes": sorted(route.path for route in main.app.routes),
}))
"""


def run(folder: Path, program: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=folder,
        env={**clean, "PYTHONPATH": str(Path(__file__).parents[2]), **environment},
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )


def test_the_names_of_the_seed_are_there_and_work(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        PROGRAM,
        json.dumps(NAMES),
        WEBUI_SECRET_KEY=SECRET,
        REDIS_KEY_PREFIX="mine",
        DATABASE_URL=f"sqlite:///{tmp_path}/x.db",
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["missing"] == []
    assert set(NAMES) <= set(said["listed"])
    assert said["answers"] == [[], [], False, {}]
    assert said["prefix"] == "mine"
    assert {"/health", "/ready", "/ws"} <= set(said["routes"])


def test_a_wrong_environment_stops_the_import_with_the_names_of_the_settings(tmp_path: Path) -> None:
    done = run(tmp_path, "import realtime.main", WEBSOCKET_MANAGER="redis")
    assert done.returncode != 0
    assert "WEBUI_SECRET_KEY" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_importing_the_package_alone_reads_no_environment(tmp_path: Path) -> None:
    done = run(tmp_path, "import realtime.server, realtime.app", WEBSOCKET_MANAGER="nonsense")
    assert done.returncode == 0, done.stderr
