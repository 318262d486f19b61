"""Work in other processes that may fail, or die, without costing more than the piece they were at.

A model that runs out of memory takes its process with it, and so does a judge that crashes in compiled code. Whoever
asked learns which piece that was, and goes on with a new process.
"""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Generic, TypeVar

P = TypeVar("P", bound=Hashable)
"""A piece of work; must pickle."""

Work = Callable[[P], Any]


@dataclass(frozen=True)
class Job(Generic[P]):
    """Pieces that one process does one after the other.

    Attributes:
        start: makes the function that does a piece, in the new process: loads models. Must pickle.
        pieces: what is to be done.
        threads: of torch in that process; 0 leaves it as it is.
    """

    start: Callable[[], Work[P]]
    pieces: tuple[P, ...]
    threads: int = 0


Done = Callable[[P, Any, str | None], None]
"""Called with a piece and its result, or None and the reason why there is none, in one line."""


def run(jobs: Sequence[Job[P]], processes: int, done: Done[P]) -> None:
    """Do everything, each job in a process of its own, so many at a time.

    A piece that raises is reported and the next one is done. A piece during which the process dies is reported too, and
    the rest of its job begins anew in another process. Where ``start`` fails, every piece of the job has that reason.

    Args:
        jobs: what to do.
        processes: how many at a time, at least 1.
        done: see ``Done``; called in this process, as pieces end.
    """
    waiting = deque(job for job in jobs if job.pieces)
    with _workers() as workers:
        while waiting or workers:
            while waiting and len(workers) < processes:
                worker = _Worker(waiting.popleft())
                workers[worker.pipe] = worker
            for pipe in wait(list(workers)):
                assert isinstance(pipe, Connection)
                left = workers[pipe].hear(done)
                if left is not None:
                    workers.pop(pipe).process.join()
                    if left.pieces:
                        waiting.appendleft(left)


@contextmanager
def _workers() -> Iterator[dict[Connection, _Worker]]:
    """Processes at work, which do not outlive whoever leaves, for whatever reason."""
    workers: dict[Connection, _Worker] = {}
    try:
        yield workers
    finally:
        for worker in workers.values():
            worker.process.terminate()
        for worker in workers.values():
            worker.process.join(5)
            worker.process.kill()


class _Worker:
    """A process and what it has been heard of.

    Args:
        job: what it does.
    """

    def __init__(self, job: Job[Any]) -> None:
        # Forked children of a process that has run torch's threads can hang.
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe(duplex=False)
        self.job = job
        self._left: deque[Any] = deque(job.pieces)
        self._started = False
        # It ends with us: what nobody waits for any more is no use.
        self.process: BaseProcess = context.Process(target=_work, args=(job, theirs), daemon=True)
        self.process.start()
        theirs.close()

    def hear(self, done: Done[Any]) -> Job[Any] | None:
        """Take one message; returns what is left of the job once the process has ended, else None."""
        try:
            kind, result, reason = self.pipe.recv()
        except (EOFError, OSError):
            return self._ended(done)
        if kind == "ready":
            self._started = True
        elif kind == "piece":
            done(self._left.popleft(), result, reason)
        else:
            self._fail(done, reason)
        return None

    def _ended(self, done: Done[Any]) -> Job[Any]:
        self.process.join()
        if self._left:
            how = _how_it_ended(self.process.exitcode)
            if not self._started:
                self._fail(done, how)
            else:
                done(self._left.popleft(), None, how)
        return Job(self.job.start, tuple(self._left), self.job.threads)

    def _fail(self, done: Done[Any], reason: str) -> None:
        while self._left:
            done(self._left.popleft(), None, reason)


def _how_it_ended(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        return f"its process was ended by {name}" + (", perhaps for want of memory" if name == "SIGKILL" else "")
    return f"its process ended with status {code}"


def _work(job: Job[Any], pipe: Connection) -> None:
    """What the other process does."""
    # Ctrl-C reaches the whole group; whoever started us decides and ends us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if job.threads:
        import torch

        torch.set_num_threads(job.threads)
    try:
        work = job.start()
    except Exception as error:  # the report names it
        pipe.send(("failed", None, reason_of(error)))
        return
    pipe.send(("ready", None, None))
    for piece in job.pieces:
        message: tuple[str, Any, str | None]
        try:
            message = ("piece", work(piece), None)
        except Exception as error:  # one piece must not cost the others
            message = ("piece", None, reason_of(error))
        pipe.send(message)


def reason_of(error: Exception) -> str:
    """An exception in one line; a user's mistake speaks for itself, others say what kind they are."""
    text = " ".join(str(error).split())
    return text if type(error).__name__ == "UserError" else f"{type(error).__name__}: {text}"
