"""One process's part in a run: its options, recorder and ledger; on the master also what they add up to."""

from __future__ import annotations

import itertools
import logging
import os
import socket
import time
from collections.abc import Mapping
from typing import Any

import gevent
from locust import events
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner

from loadtests import _clock
from loadtests._collector import Collector
from loadtests._errors import LoadError
from loadtests._ledger import Ledger
from loadtests._objectives import check_all, doubts
from loadtests._options import Options, add_options, read_options
from loadtests._page import page
from loadtests._recorder import Recorder, Slice, share_of_core
from loadtests._summary import Result, as_json, markdown, write
from loadtests._watch import Watcher

LAG_SECONDS = 0.05
"""How often the generator looks how late it is."""
_KEY = "realtime-lab"
log = logging.getLogger("load")


class Lab:
    """Made once for each process, at Locust's `init`; users find it by their environment."""

    _of: Lab | None = None

    def __init__(self, environment: Environment, options: Options) -> None:
        self.environment = environment
        self.options = options
        self.source = f"{socket.gethostname()}-{os.getpid()}"
        self.recorder = Recorder(self.source)
        self.ledger = Ledger(self.source)
        self.collector = Collector()
        self.numbers = itertools.count(1)
        self.connected = 0
        self.ever_connected = False
        self._is_worker = isinstance(environment.runner, WorkerRunner)
        self._cpu = time.process_time()
        self._cut_at = _clock.now()

    @classmethod
    def current(cls) -> Lab:
        if cls._of is None:
            raise LoadError("the load lab was not started: run it with `locust -f loadtests/`")
        return cls._of

    @classmethod
    def begin(cls, environment: Environment) -> Lab:
        cls._of = lab = cls(environment, read_options(environment.parsed_options, environment.host))
        if not isinstance(environment.runner, MasterRunner):
            gevent.spawn(lab._beat)
        return lab

    def failed(self, error: LoadError) -> None:
        """Counts it; its line is printed once for the whole run, where the figures come together."""
        self.recorder.error(str(error))

    def _beat(self) -> None:
        """Measures how late this process is, and ends a slice each second, for as long as the process lives."""
        while True:
            due = _clock.now() + LAG_SECONDS
            gevent.sleep(LAG_SECONDS)
            now = _clock.now()
            self.recorder.time("generator lag", max(0.0, now - due))
            if now - self._cut_at >= 1:
                self.cut()

    def cut(self) -> None:
        now, cpu = _clock.now(), time.process_time()
        gauges = {"connected": float(self.connected)}
        share = share_of_core(cpu - self._cpu, now - self._cut_at)
        if share is not None:
            gauges["cpu"] = share
        self.recorder.cut(int(self._cut_at), gauges)
        self._cpu, self._cut_at = cpu, now
        if not self._is_worker:
            for piece in self.recorder.take():
                self.add(piece)

    def add(self, piece: Slice) -> None:
        for text in self.collector.add(piece):
            log.error("%s", text)


class Run:
    """Locust's events, wired to a lab; on the master it ends with the report."""

    def __init__(self) -> None:
        self._lab: Lab | None = None
        self._watcher: Watcher | None = None
        self._began = _clock.now()

    def init(self, environment: Environment, **_: Any) -> None:
        try:
            self._lab = Lab.begin(environment)
        except LoadError as error:
            raise SystemExit(f"load: {error}") from None
        # The loop's idea of now is from before the imports: Locust's -t would be shorter by the seconds they took.
        gevent.get_hub().loop.update_now()
        parsed = environment.parsed_options
        if not isinstance(environment.runner, WorkerRunner):
            assert parsed is not None
            self._watcher = Watcher(parsed.watch_pid, parsed.watch_redis, self._lab.options.targets)
            gevent.spawn(self._watcher.run)

    def test_start(self, **_: Any) -> None:
        self._began = _clock.now()

    def report(self, client_id: str, data: dict[str, Any]) -> None:
        if self._lab is not None:
            self._lab.cut()
            data[_KEY] = [piece.to_wire() for piece in self._lab.recorder.take()]

    def reported(self, client_id: str, data: Mapping[str, Any]) -> None:
        if self._lab is not None:
            for fields in data.get(_KEY, ()):
                self._lab.add(Slice.from_wire(fields))

    def quitting(self, environment: Environment, **_: Any) -> None:
        lab = self._lab
        if lab is None or isinstance(environment.runner, WorkerRunner):
            return
        if not isinstance(environment.runner, MasterRunner):
            # A local runner's users still live when Locust ends by SIGTERM or Ctrl-C.
            if environment.runner is not None:
                environment.runner.stop()
            lab.cut()
        result = self._result(lab)
        for line in result.lines():
            print(line)  # noqa: T201 - the summary is this program's output
        parsed = environment.parsed_options
        assert parsed is not None
        write(parsed.report_md, lambda: markdown(result))
        write(parsed.report_json, lambda: as_json(result))
        write(parsed.report_html, lambda: page(result))
        if lab.options.objectives:
            environment.process_exit_code = 0 if result.passed else 1

    def _result(self, lab: Lab) -> Result:
        return Result(
            began=self._began,
            ended=_clock.now(),
            targets=tuple(target.url for target in lab.options.targets),
            collector=lab.collector,
            outcomes=check_all(lab.options.objectives, lab.collector),
            doubts=doubts(lab.collector, lab.options.max_lag),
            samples=self._watcher.samples if self._watcher else [],
            notes=list(getattr(lab.environment.shape_class, "notes", [])),
        )


def wire() -> None:
    """Called once, when the user classes are imported."""
    run = Run()
    events.init_command_line_parser.add_listener(lambda parser, **_: add_options(parser))
    events.init.add_listener(run.init)
    events.test_start.add_listener(run.test_start)
    events.report_to_master.add_listener(run.report)
    events.worker_report.add_listener(run.reported)
    events.quitting.add_listener(run.quitting)
