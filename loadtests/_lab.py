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
from loadtests._options import add_options, read_options
from loadtests._page import page
from loadtests._recorder import Recorder, Slice, share_of_core
from loadtests._summary import Result, as_json, markdown, write
from loadtests._watch import Watcher

LAG_SECONDS = 0.05
"""How often the generator looks how late it is."""
VERDICT_SECONDS = 4.0
"""Workers report every 3 s: after so long it is known whether the server lets anybody in."""
FAREWELL_SECONDS = 10.0
"""How long workers may take to let their users go and to send what they measured last."""
_REPORT, _LEAVE, _LEFT = "realtime-lab", "realtime-lab-leave", "realtime-lab-left"
log = logging.getLogger("load")


class Lab:
    """Made anew for each test, when it starts: only then does a worker, or a web page's user, know host and options."""

    _of: Lab | None = None

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.options = read_options(environment.parsed_options, environment.host)
        self.source = f"{socket.gethostname()}-{os.getpid()}"
        self.recorder = Recorder(self.source)
        self.ledger = Ledger(f"{self.source}-{next(_tests)}")
        self.collector = Collector()
        self.numbers = itertools.count(1)
        self.connected = self.idle = 0
        self.began = _clock.now()
        self.ended: float | None = None
        self._cpu = time.process_time()
        self._cut_at = self.began

    @classmethod
    def current(cls) -> Lab:
        if cls._of is None:
            raise LoadError("the load lab was not started: run it with `locust -f loadtests/`")
        return cls._of

    @classmethod
    def begin(cls, environment: Environment) -> Lab:
        """Raises `LoadError` for options that cannot be used."""
        cls._of = lab = cls(environment)
        if not isinstance(environment.runner, MasterRunner):
            gevent.spawn(lab._beat)
        return lab

    def failed(self, error: LoadError) -> None:
        """Counts it; its line is printed once for the whole run, where the figures come together."""
        self.recorder.error(str(error))

    def end(self) -> None:
        """The test is over, and its users have left."""
        self.cut()
        self.ended = _clock.now()

    def _beat(self) -> None:
        """Measures how late this process is, and ends a slice each second, until the test is over."""
        while self.ended is None:
            due = _clock.now() + LAG_SECONDS
            gevent.sleep(LAG_SECONDS)
            now = _clock.now()
            self.recorder.time("generator lag", max(0.0, now - due), every=LAG_SECONDS)
            if now - self._cut_at >= 1:
                self.cut()

    def cut(self) -> None:
        """Ends a slice; on a worker it waits to be taken to the master."""
        now, cpu = _clock.now(), time.process_time()
        gauges = {"connected": float(self.connected), "idle": float(self.idle)}
        share = share_of_core(cpu - self._cpu, now - self._cut_at)
        if share is not None:
            gauges["cpu"] = share
        self.recorder.cut(int(self._cut_at), gauges)
        self._cpu, self._cut_at = cpu, now
        if not isinstance(self.environment.runner, WorkerRunner):
            for piece in self.recorder.take():
                self.add(piece)

    def taken(self) -> list[dict[str, Any]]:
        """For the master: every slice once."""
        if self.ended is None:
            self.cut()
        return [piece.to_wire() for piece in self.recorder.take()]

    def add(self, piece: Slice) -> None:
        for text in self.collector.add(piece):
            log.error("%s", text)
        if piece.counters.get("refused"):
            gevent.spawn_later(VERDICT_SECONDS, self._give_up)

    def _give_up(self) -> None:
        """When the server refuses everybody there is nothing to measure."""
        runner, parsed = self.environment.runner, self.environment.parsed_options
        if self.ended is None and not self.collector.counters["connects"] and runner is not None:
            # A web page's user may mend it and start again.
            (runner.quit if parsed is None or parsed.headless else runner.stop)()


_tests = itertools.count(1)


class Run:
    """Locust's events, wired to a lab; on the master it ends with the report."""

    def __init__(self) -> None:
        self._lab: Lab | None = None
        self._watcher: Watcher | None = None
        self._watching: gevent.Greenlet | None = None
        self._left: set[str] = set()
        self._silent: list[str] = []

    def init(self, environment: Environment, **_: Any) -> None:
        runner = environment.runner
        if isinstance(runner, WorkerRunner):
            runner.register_message(_LEAVE, self._leave)
            # Before Locust's own listener, upon which the master takes nothing more of this worker.
            environment.events.quitting.add_listener(self._leave)
        else:
            try:
                read_options(environment.parsed_options, environment.host)
            except LoadError as error:
                raise SystemExit(f"load: {error}") from None
            if environment.shape_class is not None and (parsed := environment.parsed_options) is not None:
                # Locust takes 1 for what is not given, and shapes have defaults of their own.
                parsed.num_users, parsed.spawn_rate = parsed.num_users or 0, parsed.spawn_rate or 0.0
        if isinstance(runner, MasterRunner):
            runner.register_message(_LEFT, self._farewell)
        # The loop's idea of now is from before the imports: Locust's -t would be shorter by the seconds they took.
        gevent.get_hub().loop.update_now()

    def test_start(self, environment: Environment, **_: Any) -> None:
        try:
            self._lab = lab = Lab.begin(environment)
        except LoadError as error:
            raise SystemExit(f"load: {error}") from None
        self._left, self._silent = set(), []
        parsed = environment.parsed_options
        if not isinstance(environment.runner, WorkerRunner):
            assert parsed is not None
            self._watcher = Watcher(parsed.watch_pid, parsed.watch_redis, lab.options.targets)
            self._watching = gevent.spawn(self._watcher.run)

    def test_stopping(self, environment: Environment, **_: Any) -> None:
        """The master waits until its workers have closed their books; Locust's own wait is half a second."""
        runner = environment.runner
        if not isinstance(runner, MasterRunner):
            return
        runner.send_message(_LEAVE)
        deadline = _clock.now() + FAREWELL_SECONDS
        while (silent := [each.id for each in runner.clients.all if each.id not in self._left]) and (
            _clock.now() < deadline
        ):
            gevent.sleep(0.05)
        self._silent = silent

    def test_stop(self, **_: Any) -> None:
        if self._lab is not None:
            self._lab.end()
        if self._watching is not None:
            self._watching.kill()

    def report(self, client_id: str, data: dict[str, Any]) -> None:
        if self._lab is not None:
            data[_REPORT] = self._lab.taken()

    def reported(self, client_id: str, data: Mapping[str, Any]) -> None:
        if self._lab is not None:
            for fields in data.get(_REPORT, ()):
                self._lab.add(Slice.from_wire(fields))

    def _leave(self, environment: Environment, **_: Any) -> None:
        """A worker's users leave, and their last figures go to the master."""
        runner, lab = environment.runner, self._lab
        assert isinstance(runner, WorkerRunner)
        runner.stop()
        runner.send_message(_LEFT, {_REPORT: [] if lab is None else lab.taken()})

    def _farewell(self, environment: Environment, msg: Any, **_: Any) -> None:
        self.reported(msg.node_id, msg.data)
        self._left.add(msg.node_id)

    def quitting(self, environment: Environment, **_: Any) -> None:
        lab, runner = self._lab, environment.runner
        if lab is None or isinstance(runner, WorkerRunner):
            return
        # A local runner's users still live when Locust ends by SIGTERM or Ctrl-C.
        if runner is not None and not isinstance(runner, MasterRunner):
            runner.stop()
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
            began=lab.began,
            ended=_clock.now() if lab.ended is None else lab.ended,
            targets=tuple(target.url for target in lab.options.targets),
            collector=lab.collector,
            outcomes=check_all(lab.options.objectives, lab.collector),
            doubts=doubts(lab.collector, lab.options.max_lag)
            + [f"the worker {name} did not send its last figures" for name in self._silent],
            samples=self._watcher.samples if self._watcher else [],
            notes=list(getattr(lab.environment.shape_class, "notes", [])),
        )


def wire() -> None:
    """Called once, when the user classes are imported."""
    run = Run()
    events.init_command_line_parser.add_listener(lambda parser, **_: add_options(parser))
    events.init.add_listener(run.init)
    events.test_start.add_listener(run.test_start)
    events.test_stopping.add_listener(run.test_stopping)
    events.test_stop.add_listener(run.test_stop)
    events.report_to_master.add_listener(run.report)
    events.worker_report.add_listener(run.reported)
    events.quitting.add_listener(run.quitting)
