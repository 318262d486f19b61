"""The processes of a run and what surrounds the loop in each: data ahead of time, signals, random state, threads."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from statistics import fmean
from types import FrameType, TracebackType
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from flowtts.compat import require
from flowtts.types import UserError

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """The processes that train together, one per device; alone unless ``accelerate launch`` started several.

    Attributes:
        accelerator: Accelerate's.
        device: this process's.
        rank: number of this process, over all machines.
        world: number of processes.
    """

    accelerator: Any
    device: torch.device
    rank: int
    world: int

    @staticmethod
    def join(*, cpu: bool) -> Processes:
        """Joins the processes that the environment speaks of.

        Raises:
            UserError: Accelerate is not installed, or was told to shard the network.
        """
        accelerator = require("accelerate", "train").Accelerator(mixed_precision="no", cpu=cpu)
        how = accelerator.distributed_type.value
        if how != "NO" and not how.startswith("MULTI_"):
            raise UserError(
                f"accelerate is configured for {how}; flowtts trains with plain data parallelism (multi-GPU)"
            )
        return Processes(accelerator, accelerator.device, accelerator.process_index, accelerator.num_processes)

    @property
    def main(self) -> bool:
        """Whether this one writes files."""
        return self.rank == 0

    def prepare(self, module: nn.Module) -> nn.Module:
        """The module with its gradients averaged over the processes, and the main one's weights in all."""
        return cast(nn.Module, self.accelerator.prepare(module))

    def unsynchronised(self, module: nn.Module) -> AbstractContextManager[Any]:
        """While open, gradients add up locally."""
        return cast(AbstractContextManager[Any], self.accelerator.no_sync(module))

    def largest(self, *values: float) -> list[float]:
        """The maximum of each value over the processes, so that all take the same decision."""
        if self.world == 1:
            return list(values)
        # float64 where there is: hours in seconds need more digits than float32 has.
        dtype = torch.float32 if self.device.type == "mps" else torch.float64
        shared = torch.tensor(values, dtype=dtype, device=self.device)
        torch.distributed.all_reduce(shared, torch.distributed.ReduceOp.MAX)
        return cast(list[float], shared.tolist())

    def means(self, rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
        """Means over the rows of all processes; a name that only some rows have is averaged over those."""
        gathered: list[Sequence[Mapping[str, float]]] = [rows]
        if self.world > 1:
            gathered = [[]] * self.world
            torch.distributed.all_gather_object(gathered, list(rows))
        every = [row for part in gathered for row in part]
        names = dict.fromkeys(name for row in every for name in row)
        return {name: fmean(row[name] for row in every if name in row) for name in names}

    def wait(self) -> None:
        """Returns when all processes are here."""
        self.accelerator.wait_for_everyone()


class Stopper:
    """While open, SIGTERM and Ctrl-C set ``asked`` instead of ending the process; a second one ends it at once."""

    SIGNALS = (signal.SIGTERM, signal.SIGINT)

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Stopper:
        # Python lets only the main thread handle signals; elsewhere whoever owns it does.
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._ask) for number in self.SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


@contextlib.contextmanager
def fork_random(device: torch.device) -> Iterator[None]:
    """Puts PyTorch's default generators back afterwards: dropout can draw from no other."""
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        yield


@contextlib.contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Sets the threads of one operation, and puts the old number back."""
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def prefetch(items: Iterator[T], ahead: int) -> Generator[T, None, None]:
    """The same items, ``ahead`` of them made in a thread while the caller works; 0 makes them on demand.

    What making an item raises is raised where that item would have come. Close the generator to end the thread.
    """
    if ahead == 0:
        yield from items
        return
    end = object()
    pool = ThreadPoolExecutor(1, thread_name_prefix="batches")
    try:
        coming = deque(pool.submit(next, items, end) for _ in range(ahead))
        while (item := coming.popleft().result()) is not end:
            coming.append(pool.submit(next, items, end))
            yield cast(T, item)
    finally:
        pool.shutdown(cancel_futures=True)


class _Share(IterableDataset[Any]):
    """Every so many-th batch, as the worker that iterates is one of so many."""

    def __init__(self, batches: Callable[[int, int], Iterator[Any]], start: int, stride: int) -> None:
        self.batches, self.start, self.stride = batches, start, stride

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        assert worker is not None
        return self.batches(self.start + self.stride * worker.id, self.stride * worker.num_workers)


def in_processes(
    batches: Callable[[int, int], Iterator[Any]], start: int, stride: int, workers: int, ahead: int
) -> Generator[Any, None, None]:
    """Batches start, start + stride, … in this order, made by ``workers`` processes, ``max(ahead, 1)`` ahead in each.

    There are no more processes than processors; the sequence does not depend on their number.
    What making a batch raises ends the sequence as that error. Close the generator to end the processes.
    """
    workers = min(workers, os.cpu_count() or 1)
    loader = DataLoader(
        _Share(batches, start, stride), batch_size=None, num_workers=workers, prefetch_factor=max(ahead, 1)
    )
    # A DataLoader asks its workers in turn, which is the order of the sequence.
    yield from loader


def to_device(batch: Any, device: torch.device) -> Any:
    """A tensor, or anything with a ``to`` such as ``flowtts.types.Batch``, moved."""
    return batch.to(device)


def scalars(values: Mapping[str, Tensor]) -> dict[str, float]:
    """All values in one transfer from the device."""
    stacked = torch.stack([value.detach().float().reshape(()) for value in values.values()])
    return dict(zip(values, stacked.tolist(), strict=True))
