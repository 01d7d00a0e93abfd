"""Instances of the real-time layer as processes: each `python -m realtime` on a free port of its own."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sim.processes.process import LOOPBACK, ProcessError, Resource, Server, clean_environment, is_ready

SECRET_KEY = "signs-the-tokens-of-lab-instances-and-nothing-else"
"""`WEBUI_SECRET_KEY` of every instance here unless `settings` says otherwise: a fleet shares one."""

# Settings of the machine's owner must not change what a test or a lab sees.
SETTING_PREFIXES = (
    "CORS_",
    "DATABASE_URL",
    "ENABLE_WEBSOCKET",
    "REALTIME_",
    "REDIS_",
    "WEBSOCKET_",
    "WEBUI_",
)


class Instance(Server):
    """One server process on 127.0.0.1.

    `redis_url=None` is one embedded instance; `database_url=None` a SQLite file of its own. `settings` are environment
    variables, `arguments` further command-line arguments. Started when `GET /ready` answers 200; may be started again
    after a `kill` or `terminate`, on the same port. Output goes to a file: see `log`.
    """

    def __init__(
        self,
        *,
        redis_url: str | None = None,
        database_url: str | None = None,
        demo: bool = False,
        port: int | None = None,
        settings: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
        name: str = "instance",
        module: str = "realtime",
    ) -> None:
        super().__init__(name, port)
        self.redis_url = redis_url
        self.database_url = database_url or f"sqlite+aiosqlite:///{self.folder}/realtime.db"
        self.demo = demo
        self._settings = dict(settings or {})
        self._arguments = tuple(arguments)
        self._module = module

    @property
    def url(self) -> str:
        """Where clients connect, without path: `http://127.0.0.1:PORT`."""
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def secret_key(self) -> str:
        """What signs the tokens this instance takes."""
        return self._settings.get("WEBUI_SECRET_KEY", SECRET_KEY)

    def ready(self) -> bool:
        """Whether `GET /ready` answers 200 within 2 s."""
        return self._ready_on(self.port)

    def _command(self, port: int) -> tuple[Sequence[str], Mapping[str, str]]:
        command = [sys.executable, "-m", self._module, "--host", LOOPBACK, "--port", str(port)]
        if self.redis_url:
            command += ["--redis-url", self.redis_url]
        command += ["--database-url", self.database_url, *(["--demo"] if self.demo else []), *self._arguments]
        extra = {
            "PYTHONPATH": import_path(self._module),
            "PYTHONUNBUFFERED": "1",
            "WEBUI_SECRET_KEY": SECRET_KEY,
        }
        return command, clean_environment(without=SETTING_PREFIXES, extra=extra | self._settings)

    def _ready_on(self, port: int) -> bool:
        return is_ready(port)


class Fleet(Resource):
    """Several instances that share one Redis and one database, started side by side."""

    def __init__(
        self,
        size: int,
        *,
        redis_url: str,
        database_url: str | None = None,
        demo: bool = False,
        settings: Mapping[str, str] | None = None,
        module: str = "realtime",
    ) -> None:
        self.instances: list[Instance] = []
        for number in range(1, size + 1):
            instance = Instance(
                redis_url=redis_url,
                database_url=database_url,
                demo=demo,
                settings={"REALTIME_INSTANCE_NAME": f"instance-{number}"} | dict(settings or {}),
                name=f"instance-{number}",
                module=module,
            )
            # The first one's file, which they all share; a database of everybody's own would be no fleet.
            database_url = instance.database_url
            self.instances.append(instance)

    def start(self) -> None:
        with ThreadPoolExecutor(len(self.instances)) as pool:
            for started in [pool.submit(instance.start) for instance in self.instances]:
                started.result()

    def close(self) -> None:
        for instance in reversed(self.instances):
            instance.close()

    async def terminate(self, *, timeout: float = 15.0) -> list[int]:
        """SIGTERM to all at once; their exit statuses."""
        waits = [asyncio.to_thread(instance.terminate, timeout) for instance in self.instances]
        return list(await asyncio.gather(*waits))


def import_path(module: str) -> str:
    """PYTHONPATH under which a child finds `module` as this process does, installed or not."""
    spec = importlib.util.find_spec(module.partition(".")[0])
    if spec is None or not spec.submodule_search_locations:
        raise ProcessError(f"there is no package {module} to start: run `pip install -e .` in the repository")
    found = str(Path(next(iter(spec.submodule_search_locations))).parent)
    return os.pathsep.join(filter(None, [found, os.environ.get("PYTHONPATH")]))
