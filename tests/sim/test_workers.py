"""Worker processes: the same answers in the same order as without, and nothing left of them afterwards."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from sim import workers as workers_module
from sim.errors import SimulatorError
from sim.interrupt import Interrupt
from sim.processes.process import wait_until
from sim.workers import Inline, Processes, WorkerDied, Workers, workers
from tests.e2e.pages import ROOT
from tests.sim import labour

pytestmark = pytest.mark.explores


@pytest.fixture(scope="module")
def two() -> Iterator[Workers]:
    with workers(2) as found:
        yield found


def answers(hands: Workers, work: Callable[[int], object], numbers: range) -> list[object]:
    return [answer for answer in hands.map(work, numbers) if answer is not None]


def test_one_job_is_done_in_this_process() -> None:
    assert isinstance(workers(1), Inline)
    with workers(1) as hands:
        assert answers(hands, labour.process_of, range(1)) == [os.getpid()]


def test_answers_come_in_the_order_of_the_work(two: Workers) -> None:
    assert answers(two, labour.double_slowly, range(8)) == [0, 2, 4, 6, 8, 10, 12, 14]


def test_nothing_to_do_is_done_at_once(two: Workers) -> None:
    assert answers(two, labour.double, range(0)) == []


def test_the_work_is_done_by_as_many_other_processes(two: Workers) -> None:
    found = set(answers(two, labour.process_of, range(20)))
    assert os.getpid() not in found
    assert len(found) <= 2


@pytest.mark.parametrize("processes", [False, True])
def test_an_error_is_raised_at_its_place_in_the_order(processes: bool, two: Workers) -> None:
    hands = two if processes else Inline()
    found = []
    with pytest.raises(SimulatorError, match="three"):
        for answer in hands.map(labour.fail_at_three, range(8)):
            found += [] if answer is None else [answer]
    assert found == [0, 1, 2]


def test_an_error_says_where_in_the_worker_it_came_from(two: Workers) -> None:
    with pytest.raises(SimulatorError) as caught:
        answers(two, labour.fail_at_three, range(8))
    assert "fail_at_three" in "".join(caught.value.__notes__)


def test_a_worker_that_dies_is_named_with_its_work_after_what_came_before(two: Workers) -> None:
    found = []
    with pytest.raises(WorkerDied, match="ended with status 7 in the middle of: 3"):
        for answer in two.map(labour.die_at_three, range(8)):
            found += [] if answer is None else [answer]
    assert found == [0, 1, 2]
    assert answers(two, labour.double, range(3)) == [0, 2, 4], "the dead are replaced"


def test_what_was_given_up_is_not_mistaken_for_what_is_asked_next(two: Workers) -> None:
    with closing(two.map(labour.double_the_first_at_once, range(100, 1000))) as results:
        assert next(each for each in results if each is not None) == 200
    assert answers(two, labour.double_the_first_at_once, range(2)) == [0, 2]


def test_a_death_after_the_work_was_given_up_is_nobodys_concern(two: Workers) -> None:
    with closing(two.map(labour.die_at_three, range(2, 8))) as results:
        assert next(each for each in results if each is not None) == 2
    assert answers(two, labour.double, range(3)) == [0, 2, 4]


def test_no_more_work_is_taken_than_can_be_done(two: Workers) -> None:
    taken = []

    def numbers() -> Iterator[int]:
        for number in range(1000):
            taken.append(number)
            yield number

    with closing(two.map(labour.double, numbers())) as results:
        next(each for each in results if each is not None)
    assert len(taken) < 10


def test_a_worker_does_not_hear_ctrl_c(two: Workers) -> None:
    assert answers(two, labour.ctrl_c_is_blocked, range(4)) == [True] * 4


def test_a_worker_is_replaced_after_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers_module, "RUNS_PER_WORKER", 2)
    with Processes(1) as hands:
        found = answers(hands, labour.process_of, range(5))
    assert found[0] == found[1] != found[2] == found[3] != found[4]


def test_no_process_is_left_even_of_work_that_was_not_done() -> None:
    with Processes(2) as hands:
        with closing(hands.map(labour.double_slowly, range(1000))) as results:
            next(results)
        born = [member.process.pid for member in hands._members]
        assert all(map(psutil.pid_exists, born))
    assert len(born) == 2
    assert not any(map(psutil.pid_exists, born))


def at_it(folder: Path) -> int:
    """The worker that has begun to stay there; it is waited for."""
    return int(wait_until("a worker at it", lambda: [*folder.glob("*.at-it")], timeout=60)[0].stem)


def test_who_is_told_to_end_leaves_its_work_in_order(tmp_path: Path) -> None:
    with Processes(1) as hands, closing(hands.map(labour.stay, [str(tmp_path)])) as results:
        next(results)
        worker = at_it(tmp_path)
    assert not psutil.pid_exists(worker)
    assert (tmp_path / f"{worker}.left").exists()


def test_a_worker_on_its_way_out_is_not_interrupted_by_being_told_to_end() -> None:
    """One that had done its share printed a traceback now and then."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    worker = context.Process(target=labour.served_and_told_to_end, args=(theirs,))
    worker.start()
    theirs.close()
    ours.close()
    worker.join(60)
    assert worker.exitcode == labour.STATUS


def test_a_worker_does_not_outlive_its_owner_though_it_is_in_the_middle_of_work(tmp_path: Path) -> None:
    work = f"hands.map(labour.stay, [{str(tmp_path)!r}])"
    program = f"from sim.workers import Processes\nfrom tests.sim import labour\nwith Processes(1) as hands: [*{work}]"
    owner = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT)
    try:
        worker = psutil.Process(at_it(tmp_path))
    finally:
        owner.kill()
        owner.wait()
    worker.wait(timeout=10)
    assert (tmp_path / f"{worker.pid}.left").exists()


def test_ctrl_c_is_remembered_until_it_is_asked_for_and_strikes_the_second_time() -> None:
    with Interrupt() as interrupt:
        interrupt.check()
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            interrupt.check()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
