"""A cluster of two over a real Redis under load: `python -m tests.load [options of Locust and of loadtests/]`.

Writes reports/load.html and reports/load.md. What is given goes to Locust and wins over what is set here: `-u 200
-t 10m`, `--processes 2`, `--objective 'fan-out-p99<=0.25'`, `--shape storm` (which kills the second instance). The exit
status is Locust's: 1 when an objective was missed, or without objectives when there were errors; 3 when the cluster did
not start.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import loadtests
from sim.processes.instances import SECRET_KEY, Fleet
from sim.processes.process import ProcessError
from sim.processes.redis import RedisServer
from tests.bench.report import REPORTS
from tests.load.backend import Backend

FOLDER = Path(loadtests.__file__).parent
SMOKE = ("-u", "60", "-r", "20", "-t", "30s", "--session-seconds", "20", "--typing-every", "3")
COULD_NOT_START = 3


def locust(arguments: Sequence[str]) -> list[str]:
    """The command of a run without a web page; it needs `environment`."""
    return [sys.executable, "-m", "locust", "-f", str(FOLDER), "--headless", "--only-summary", *arguments]


def environment(secret: str = SECRET_KEY) -> dict[str, str]:
    found = {key: value for key, value in os.environ.items() if not key.startswith(("LOCUST_", "LOAD_"))}
    path = os.pathsep.join(filter(None, [str(FOLDER.parent), os.environ.get("PYTHONPATH")]))
    return found | {"WEBUI_SECRET_KEY": secret, "PYTHONPATH": path}


def main(given: Sequence[str]) -> int:
    """Starts the cluster, runs Locust, ends all of it."""
    try:
        with (
            RedisServer() as redis,
            Fleet(2, redis_url=redis.url, demo=True, module="sim.processes.lab_app") as fleet,
        ):
            urls = [instance.url for instance in fleet.instances]
            arguments = ["--instances", ",".join(urls), "--watch-redis", redis.url]
            for instance in fleet.instances:
                arguments += ["--watch-pid", str(instance.pid)]
            arguments += ["--kill-pid", str(fleet.instances[-1].pid), *SMOKE]
            arguments += [
                "--report-html",
                str(REPORTS / "load.html"),
                "--report-md",
                str(REPORTS / "load.md"),
            ]
            over = threading.Event()
            backend = Backend(urls, over)
            thread = threading.Thread(target=backend.run)
            thread.start()
            try:
                status = subprocess.run(
                    locust([*arguments, *given]), env=environment(), check=False
                ).returncode
            finally:
                over.set()
                thread.join()
            print(backend.line())
            return status
    except ProcessError as error:
        print(f"The cluster did not start: {error}", file=sys.stderr)
        return COULD_NOT_START
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
