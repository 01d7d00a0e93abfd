"""Load balancers as processes: nginx and HAProxy where they are installed, and a small one that is always there."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import signal
import subprocess
import sys
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sim.processes.instances import import_path
from sim.processes.process import LOOPBACK, ProcessError, Server, is_ready

Configure = Callable[[str, str, Mapping[str, str]], str]
"""Makes a configuration of its kind (nginx, haproxy, tags), where to listen, and the addresses of instances by name."""

_SYSTEM_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin")


class NoBalancer(ProcessError):
    """The balancer is not installed on this machine."""


def find_binary(name: str) -> str | None:
    """A program on PATH or where systems keep servers."""
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), *_SYSTEM_FOLDERS]))


def by_command(kind: str, listen: str, instances: Mapping[str, str]) -> str:
    """What `python -m realtime balancer` prints."""
    command = [sys.executable, "-m", "realtime", "balancer", kind, "--listen", listen]
    for name, address in instances.items():
        command += ["--instance", f"{name}={address}"]
    environment = os.environ | {"PYTHONPATH": import_path("realtime")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise ProcessError(f"no configuration for {kind}: {done.stderr.strip()}")
    return done.stdout


class Balancer(Server):
    """A load balancer before instances. `instances`: their addresses, HOST:PORT, by REALTIME_INSTANCE_NAME.

    Started when an instance answers `GET /ready` through it.
    """

    kind: str
    group = 0  # nginx and HAProxy have workers, which are to end with them

    def __init__(
        self,
        instances: Mapping[str, str],
        *,
        configure: Configure = by_command,
        port: int | None = None,
    ) -> None:
        super().__init__(f"balancer-{self.kind}", port)
        self._instances = dict(instances)
        self._configure = configure

    @property
    def url(self) -> str:
        """Where clients connect, without path: `http://127.0.0.1:PORT`."""
        return f"http://{LOOPBACK}:{self.port}"

    def route_to(self, instances: Mapping[str, str]) -> None:
        """Reload with these instances. Returns at once: the balancer changes over a moment later."""
        self._instances = dict(instances)
        self._write(self.port)
        os.kill(self.pid, self._reload_signal())

    @abstractmethod
    def _start_command(self, port: int) -> Sequence[str]: ...

    def _reload_signal(self) -> signal.Signals:
        return signal.SIGHUP

    @property
    def _file(self) -> Path:
        return self.folder / "realtime.conf"

    def _write(self, port: int) -> None:
        self._file.write_text(self._configure(self.kind, f"{LOOPBACK}:{port}", self._instances))

    def _command(self, port: int) -> tuple[Sequence[str], Mapping[str, str] | None]:
        self._write(port)
        return self._start_command(port), os.environ | {"PYTHONPATH": import_path("sim")}

    def _ready_on(self, port: int) -> bool:
        return is_ready(port)


class SmallBalancer(Balancer):
    """The one of this package, for machines that have no other."""

    kind = "tags"

    def _start_command(self, port: int) -> Sequence[str]:
        program = [sys.executable, "-m", "sim.processes.small_balancer"]
        return [*program, "--listen", f"{LOOPBACK}:{port}", str(self._file)]


class Nginx(Balancer):
    """nginx with a configuration of its own; nothing of the machine's is read. Raises `NoBalancer`."""

    kind = "nginx"

    def _start_command(self, port: int) -> Sequence[str]:
        binary = find_binary("nginx")
        if binary is None:
            raise NoBalancer("nginx is not installed (Debian: apt-get install nginx)")
        main = self.folder / "nginx.conf"
        main.write_text(self._main())
        return [binary, "-p", str(self.folder), "-c", str(main), "-e", "stderr"]

    def _main(self) -> str:
        temporary = "".join(
            f"    {each}_temp_path {self.folder}/{each};\n"
            for each in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        # Its workers would be nobody's, who may not look into the folder.
        user = f"user {pwd.getpwuid(0).pw_name} {grp.getgrgid(0).gr_name};\n" if os.geteuid() == 0 else ""
        return (
            f"{user}daemon off;\npid {self.folder}/nginx.pid;\nerror_log stderr;\n"
            "worker_processes 2;\nevents {\n    worker_connections 4096;\n}\n"
            f"http {{\n    access_log off;\n{temporary}    include {self._file};\n}}\n"
        )


class HAProxy(Balancer):
    """HAProxy with a configuration of its own. Raises `NoBalancer`."""

    kind = "haproxy"

    def _start_command(self, port: int) -> Sequence[str]:
        binary = find_binary("haproxy")
        if binary is None:
            raise NoBalancer("haproxy is not installed (Debian: apt-get install haproxy)")
        return [binary, "-W", "-db", "-f", str(self._file)]

    def _reload_signal(self) -> signal.Signals:
        return signal.SIGUSR2
