"""Judging what was said, in other processes if asked: sampling is timed alone, so judging comes after it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from flowtts.audio.io import read
from flowtts.crew import reason_of
from flowtts.registry import load_metric
from flowtts.types import Item


@dataclass(frozen=True)
class Task:
    """A metric over the recordings of one setting.

    Attributes:
        setting: its name.
        metric: what judges.
        rows: (id, recording, text, prompt) of every utterance.
        device: where a neural judge computes.
    """

    setting: str
    metric: str
    rows: tuple[tuple[str, Path, str, Path], ...]
    device: str = "cpu"


def score(task: Task) -> dict[str, Any]:
    """The score of one task as plain values, those of its items included."""
    prompts = {path: read(path) for path in {row[3] for row in task.rows}}
    items = [Item(read(audio), text, prompt=prompts[prompt], id=id) for id, audio, text, prompt in task.rows]
    metric = load_metric(task.metric, device=task.device)
    found = metric(items)
    return {
        "value": _number(found.value), "low": _number(found.low), "high": _number(found.high),
        "backend": found.backend, "sample_rate": found.sample_rate, "count": found.count,
        "dropped": dict(found.dropped), "higher_is_better": metric.higher_is_better,
        "items": {id: _number(value) for id, value in found.items.items()},
    }  # fmt: skip


def score_all(
    tasks: Sequence[Task], jobs: int, done: Callable[[Task, dict[str, Any] | None, str | None], None]
) -> None:
    """Run every task; a failure is reported and the others go on.

    Args:
        tasks: what to judge.
        jobs: processes; with 1 this one does it.
        done: called with each task as it ends, its score or the reason why there is none.
    """
    if jobs == 1 or len(tasks) < 2:
        for task in tasks:
            done(task, *_attempt(task))
        return
    with _pool(min(jobs, len(tasks))) as pool:
        pending = {pool.submit(_attempt, task): task for task in tasks}
        for future in as_completed(pending):
            done(pending[future], *future.result())


def _attempt(task: Task) -> tuple[dict[str, Any] | None, str | None]:
    try:
        return score(task), None
    except Exception as error:  # one setting must not cost the others their scores; the row names it
        return None, reason_of(error)


@contextmanager
def _pool(jobs: int) -> Iterator[ProcessPoolExecutor]:
    # Forked children of a process that has run torch's threads can hang.
    pool = ProcessPoolExecutor(jobs, get_context("spawn"), initializer=_alone)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _alone() -> None:
    """One thread: there are as many processes as the user allows."""
    import torch

    torch.set_num_threads(1)


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
