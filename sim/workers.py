"""Where runs are made: in this process, or spread over others. The results come in the order of the work either way."""

from __future__ import annotations

import contextlib
import itertools
import logging
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing import connection, resource_tracker
from types import FrameType
from typing import Any, NoReturn, Protocol, Self, TypeVar

from sim.errors import SimulatorError

Item = TypeVar("Item")
Answer = TypeVar("Answer")

RUNS_PER_WORKER = 500
"""A worker is then replaced by a new one: whatever a world leaves behind, the process stays small."""

LOOK_UP_SECONDS = 0.1
END_SECONDS = 5.0


class WorkerDied(SimulatorError):
    """A worker process ended in the middle of its work; the text says which."""


class Workers(Protocol):
    """``map`` calls ``work`` with each item and yields what it returns, in the order of the items, and ``None`` now and
    then while it waits, so that the caller can look at the clock. ``work`` raises here what it raised there, at its
    place in the order. Items are taken as there is room to work on them; closing the iterator gives up the rest.
    """

    def map(
        self, work: Callable[[Item], Answer], items: Iterable[Item]
    ) -> Generator[Answer | None, None, None]: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...


def workers(number: int) -> Workers:
    return Inline() if number == 1 else Processes(number)


class Inline:
    """This process does it all."""

    def map(
        self, work: Callable[[Item], Answer], items: Iterable[Item]
    ) -> Generator[Answer | None, None, None]:
        for item in items:
            yield work(item)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        return None


class Processes:
    """So many worker processes, started when there is work. ``work``, items and answers are pickled."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._members: list[_Member] = []
        self._tickets = itertools.count(1)

    def map(
        self, work: Callable[[Item], Answer], items: Iterable[Item]
    ) -> Generator[Answer | None, None, None]:
        ticket = next(self._tickets)
        left = enumerate(items)
        answers: dict[int, Any] = {}
        given = wanted = 0
        over = False
        while True:
            for member in self._idle():
                following = None if over else next(left, None)
                if following is None:
                    over = True
                    break
                given = following[0] + 1
                member.give(_Piece(ticket, following[0], work, following[1]))
            if over and wanted == given:
                return
            for piece, answer in self._answers():
                # What a map that was closed had asked for is of no interest any more.
                if piece.ticket == ticket:
                    answers[piece.number] = answer
            while wanted in answers:
                answer = answers.pop(wanted)
                wanted += 1
                if isinstance(answer, _Raised):
                    raise answer.error
                yield answer
            yield None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for member in self._members:
            member.process.terminate()  # each takes its time, so all at once
        for member in self._members:
            member.end()
        self._members.clear()

    def _idle(self) -> list[_Member]:
        while len(self._members) < self._number:
            self._members.append(_Member())
        return [member for member in self._members if member.piece is None]

    def _answers(self) -> Iterator[tuple[_Piece, Any]]:
        """What has come within a moment; a worker that has died or done its share makes room for a new one."""
        busy = {member.connection: member for member in self._members if member.piece is not None}
        for ready in connection.wait(list(busy), LOOK_UP_SECONDS):
            member = busy[ready]  # type: ignore[index]
            piece = member.piece
            assert piece is not None
            answer = member.receive()
            if isinstance(answer, _Gone) or member.runs >= RUNS_PER_WORKER:
                member.end()
                self._members.remove(member)
            yield piece, _Raised(WorkerDied(_epitaph(member, piece))) if isinstance(answer, _Gone) else answer


@dataclass(frozen=True, slots=True)
class _Piece:
    ticket: int
    number: int
    work: Callable[[Any], Any]
    item: Any


@dataclass(frozen=True, slots=True)
class _Raised:
    error: BaseException


class _Gone:
    """Instead of an answer: there is nobody left to give one."""


class _Member:
    """A worker process as it is seen from here. ``piece``: what it is at; ``runs``: how many it has done."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.piece: _Piece | None = None
        self.runs = 0
        level = logging.root.manager.disable
        self.process = context.Process(target=serve, args=(theirs, level), name="sim-worker", daemon=True)
        with _born_deaf_to_ctrl_c():
            self.process.start()
        theirs.close()

    def give(self, piece: _Piece) -> None:
        self.piece = piece
        # A worker that has died meanwhile is noticed where its answer is read.
        with contextlib.suppress(OSError):
            self.connection.send((piece.work, piece.item))

    def receive(self) -> Any:
        self.piece = None
        self.runs += 1
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            return _Gone()

    def end(self) -> None:
        self.connection.close()
        self.process.terminate()
        self.process.join(END_SECONDS)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


@contextlib.contextmanager
def _born_deaf_to_ctrl_c() -> Iterator[None]:
    """Ctrl-C reaches every process of the terminal; a worker ends when it is told to. The block is inherited."""
    resource_tracker.ensure_running()  # else the start of the first process does it, and unblocks the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _epitaph(member: _Member, piece: _Piece) -> str:
    code = member.process.exitcode
    how = f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with status {code}"
    return f"a worker process {how} in the middle of: {piece.item}"


def serve(work_comes: connection.Connection, log_level: int) -> None:
    """The worker: until its owner closes the connection, tells it to end, or is gone."""
    logging.disable(log_level)
    signal.signal(signal.SIGTERM, _leave)
    threading.Thread(target=_end_with_owner, name="owner", daemon=True).start()
    with contextlib.suppress(EOFError, OSError):
        while True:
            work, item = work_comes.recv()
            work_comes.send(_answer(work, item))
    # It is on its way out, and its owner, who has closed the connection, tells it to end besides.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _leave(_number: int, _frame: FrameType | None) -> NoReturn:
    """Also in the middle of a run, which takes with it what it has started. It is told once."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(128 + signal.SIGTERM)


def _end_with_owner() -> None:
    """A run may be long, and only between two is it noticed at the connection that nobody waits for them."""
    owner = multiprocessing.parent_process()
    assert owner is not None
    owner.join()
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(END_SECONDS)
    os._exit(128 + signal.SIGTERM)


def _answer(work: Callable[[Any], Any], item: Any) -> Any:
    try:
        return work(item)
    except Exception as error:
        return _Raised(_portable(error))


def _portable(error: Exception) -> Exception:
    """The error itself where it can travel, with the worker's traceback as a note."""
    where = "".join(traceback.format_exception(error))
    try:
        found = pickle.loads(pickle.dumps(error))
    except Exception:  # whatever an error's own pickling may raise
        found = SimulatorError(f"{type(error).__name__}: {error}")
    assert isinstance(found, Exception)
    found.add_note(f"in a worker process:\n{where}")
    return found
