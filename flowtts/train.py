"""Training: one loop for every recipe, on one device or on many machines with the same command.

The recipe brings a network with a ``loss``, the data brings batches that are functions of their index, and
``accelerate launch`` brings the processes. The loop adds a schedule, an average of the weights, checkpoints
and a record of what happened; it knows nothing of speech.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path
from time import monotonic
from typing import Any, NoReturn, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from flowtts import checkpoint, train_state
from flowtts.checkpoint import Card, save_tensors
from flowtts.ema import EMA
from flowtts.train_config import TrainConfig, learning_rate, make_optimiser, progress
from flowtts.train_log import RunLog
from flowtts.train_process import (
    Processes,
    Stopper,
    fork_random,
    in_processes,
    prefetch,
    scalars,
    threads,
    to_device,
)
from flowtts.train_state import Position
from flowtts.types import PathLike, Trainable, UserError

__all__ = ["Batches", "Diverged", "Run", "Sample", "TrainConfig", "derived_seed", "fit"]

logger = logging.getLogger(__name__)


class Batches(Protocol):
    """Training data: an endless sequence in which batch i is a function of i (and of a seed) alone."""

    def __call__(self, start: int, stride: int) -> Iterator[Any]:
        """Batches start, start + stride, start + 2 stride, …; each has ``to(device)``, like ``flowtts.types.Batch``.

        A run on W processes calls it with stride W on each, so that they never make the same batch.
        """
        ...


Sample = Callable[[int, nn.Module], Mapping[str, float] | None]
"""(step, network with the averaged weights, in evaluation mode) -> numbers to log, e.g. a validation loss."""


class Diverged(Exception):
    """A loss or gradient is NaN or infinite; the message says where the offending batch was saved."""


@dataclass(frozen=True)
class Run:
    """How a call of ``fit`` ended.

    Attributes:
        folder: the newest checkpoint.
        step: updates done.
        finished: False if a signal stopped it; ``fit(…, resume=True)`` then continues.
    """

    folder: Path
    step: int
    finished: bool


def fit(
    network: nn.Module,
    batches: Batches,
    *,
    config: TrainConfig,
    out: PathLike,
    card: Card,
    sample: Sample | None = None,
    resume: bool = False,
) -> Run:
    """Trains a network.

    The same call serves one process and, under ``accelerate launch``, several on one or many machines; ``out`` must
    then be shared by all machines. On one machine and with a fixed number of processes, a run that was stopped and
    resumed computes exactly what an unbroken one does.

    Args:
        network: implements ``flowtts.types.Trainable``; moved to the device and trained in place.
        batches: the data.
        config: how to train.
        out: where: ``checkpoints/``, ``log.jsonl``, ``tensorboard/``, and ``failed/`` if it diverges.
        card: what the checkpoints say beside their weights.
        sample: called by the main process every ``sample_every`` updates and at the end; what it raises is logged.
        resume: continue what ``out`` holds, if it holds something.

    Raises:
        UserError: ``out`` holds a run already or another model's, a missing package, data that ends, too little memory.
        Diverged: a loss or gradient is not finite.
    """
    if not isinstance(network, Trainable):
        raise TypeError(f"{type(network).__name__} has no loss(batch, rng)")
    out = Path(out)
    newest = _newest(out, resume)
    processes = Processes.join(cpu=config.cpu)
    with threads(config.threads), fork_random(processes.device):
        loop = _Loop.start(network, config=config, out=out, card=card, processes=processes, newest=newest)
        try:
            return loop.run(batches, sample)
        except torch.cuda.OutOfMemoryError as error:
            raise UserError(
                f"not enough memory on {processes.device}: make batches smaller and raise accumulate"
            ) from error


def derived_seed(*numbers: int) -> int:
    """A seed for one purpose from a run's seed, a step, a rank …; neighbours are unrelated."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _newest(out: Path, resume: bool) -> Path | None:
    """The checkpoint to continue from."""
    saved = checkpoint.steps(out)
    if saved and not resume:
        raise UserError(f"{out} holds a run already: resume it, or choose another folder")
    return saved[-1] if saved else None


class _Objective(nn.Module):
    """The loss as a forward pass, which is where data parallelism hooks in."""

    def __init__(self, network: nn.Module, device: torch.device, bf16: bool) -> None:
        super().__init__()
        self.network = network
        self.device_type = device.type
        self.bf16 = bf16

    def forward(self, batch: Any, rng: torch.Generator) -> dict[str, Tensor]:
        assert isinstance(self.network, Trainable)
        with torch.autocast(self.device_type, torch.bfloat16, enabled=self.bf16):
            return dict(self.network.loss(batch, rng))


@dataclass
class _Loop:
    """A run in progress. ``saved`` is the position of the newest checkpoint, ``recent`` what the log has yet to see."""

    config: TrainConfig
    out: Path
    card: Card
    processes: Processes
    network: nn.Module
    objective: nn.Module
    optimiser: torch.optim.Optimizer
    ema: EMA | None
    position: Position
    saved: Position
    recent: list[dict[str, float]] = field(default_factory=list)

    @staticmethod
    def start(
        network: nn.Module, *, config: TrainConfig, out: Path, card: Card, processes: Processes, newest: Path | None
    ) -> _Loop:
        """Everything in its place, as it was if there is a checkpoint."""
        network.to(processes.device).train()
        ema = EMA(network, config.ema) if processes.main else None
        optimiser = make_optimiser(network, config)
        position = Position()
        if newest is not None:
            position = train_state.load(newest, card, network, ema, optimiser)
        least, most = processes.largest(-position.step, position.step)
        if -least != most:
            raise UserError(f"{out} holds other checkpoints on another machine: give a folder that all machines share")
        objective = processes.prepare(_Objective(network, processes.device, config.precision == "bf16"))
        return _Loop(config, out, card, processes, network, objective, optimiser, ema, position, saved=position)

    def run(self, batches: Batches, sample: Sample | None) -> Run:
        """Trains to the end, or to a signal."""
        begun = monotonic() - self.position.seconds
        asked = False
        with ExitStack() as stack:
            log = self.open_log(stack)
            stopper = stack.enter_context(Stopper())
            start = self.position.batches + self.processes.rank
            stride, ahead = self.processes.world, self.config.prefetch
            if self.config.workers:
                data = in_processes(batches, start, stride, self.config.workers, ahead)
            else:
                data = prefetch(batches(start, stride), ahead)
            stack.callback(data.close)
            logger.info("training from step %d on %d processes", self.position.step, self.processes.world)
            while not asked and (done := self.done()) < 1.0:
                asked = self.update(data, done, begun, stopper)
                ended = self.done() >= 1.0
                self.report(log, last=asked or ended)
                if self.processes.main:
                    self.sample(log, sample, last=ended)
                    self.save(last=asked or ended)
            self.processes.wait()
        return Run(checkpoint.steps(self.out)[-1], self.position.step, finished=self.done() >= 1.0)

    def done(self) -> float:
        """Progress, 0 to 1; the same on all processes."""
        return progress(self.config, self.position.step, self.position.seconds)

    def open_log(self, stack: ExitStack) -> RunLog | None:
        """The main process's log."""
        if not self.processes.main:
            return None
        return stack.enter_context(RunLog(self.out, self.position.step, tensorboard=self.config.tensorboard))

    def update(self, data: Iterator[Any], done: float, begun: float, stopper: Stopper) -> bool:
        """One update of the weights. Returns whether any process was asked to stop."""
        config, before = self.config, self.position
        warmed = done if before.step <= config.warmup else before.warmed
        rate = learning_rate(config, before.step, done, warmed)
        values, used = self.gradients(data)
        bad = not (math.isfinite(values["loss"]) and math.isfinite(values["grad_norm"]))
        elapsed = monotonic() - begun if self.processes.main else 0.0
        asked, failed, seconds = self.processes.largest(stopper.asked, bad, elapsed)
        if failed:
            self.fail(used, values)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.position = Position(
            step=before.step + 1,
            batches=before.batches + config.accumulate * self.processes.world,
            seconds=seconds,
            warmed=warmed,
        )
        if self.ema is not None:
            self.ema.update(self.network, self.position.step)
        self.recent.append({**values, "learning_rate": rate, "seconds_per_step": seconds - before.seconds})
        return bool(asked)

    def gradients(self, data: Iterator[Any]) -> tuple[dict[str, float], list[Any]]:
        """Clipped gradients of one update, its losses with the norm before clipping, and the batches used."""
        config, processes = self.config, self.processes
        place = (config.seed, self.position.step, processes.rank)
        rng = torch.Generator(processes.device).manual_seed(derived_seed(*place, 0))
        torch.manual_seed(derived_seed(*place, 1))  # dropout's, which takes no generator
        total: dict[str, Tensor] = {}
        used = []
        for index in range(config.accumulate):
            used.append(self.next(data))
            last = index + 1 == config.accumulate
            with nullcontext() if last else processes.unsynchronised(self.objective):
                losses = self.objective(used[-1], rng)
                processes.accelerator.backward(losses["loss"] / config.accumulate)
            for name, value in losses.items():
                total[name] = total.get(name, 0.0) + value.detach() / config.accumulate
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), math.inf if config.clip is None else config.clip)
        return scalars({**total, "grad_norm": norm}), used

    def next(self, data: Iterator[Any]) -> Any:
        """The next batch, on the device."""
        batch = next(data, None)
        if batch is None:
            raise UserError(f"the training data ended at step {self.position.step}: it must repeat without end")
        return to_device(batch, self.processes.device)

    def report(self, log: RunLog | None, *, last: bool) -> None:
        """A row of the log when one is due; all processes take part in its means."""
        step = self.position.step
        if log is not None:
            log.progress(self.done(), step, self.recent[-1]["loss"])
        if last or step % self.config.log_every == 0:
            means = self.processes.means(self.recent)
            self.recent.clear()
            if log is not None:
                log.write(step, {**means, "seconds": self.position.seconds})

    def sample(self, log: RunLog | None, sample: Sample | None, *, last: bool) -> None:
        """Calls ``sample`` when it is due; a broken sample must not cost a night of training."""
        step, every = self.position.step, self.config.sample_every
        if sample is None or every == 0 or self.ema is None or not (last or step % every == 0):
            return
        try:
            with torch.no_grad():
                values = sample(step, self.ema.network)
        except Exception:
            logger.exception("the sample of step %d failed; training goes on", step)
            return
        if values and log is not None:
            log.write(step, values)

    def save(self, *, last: bool) -> None:
        """A checkpoint when one is due."""
        due = self.position.seconds - self.saved.seconds >= 60.0 * self.config.save_minutes
        if self.ema is None or not (last or due):
            return
        train_state.save(
            self.out, self.card, self.position, self.network, self.ema, self.optimiser,
            config=self.config, keep=self.config.keep,
        )  # fmt: skip
        self.saved = self.position

    def fail(self, used: list[Any], values: Mapping[str, float]) -> NoReturn:
        """Saves each process's batches and ends the run before the weights are touched."""
        step, rank = self.position.step, self.processes.rank
        path = self.out / "failed" / f"step-{step:08d}-rank-{rank}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        tensors: dict[str, Tensor] = {}
        about: dict[str, str] = {"values": json.dumps({name: str(value) for name, value in values.items()})}
        for index, batch in enumerate(used):
            parts = vars(batch) if is_dataclass(batch) else batch if isinstance(batch, Mapping) else {"batch": batch}
            for name, part in parts.items():
                if isinstance(part, Tensor):
                    tensors[f"{index}.{name}"] = part
                else:
                    about[f"{index}.{name}"] = json.dumps(part, default=str)
        save_tensors(path, tensors, about)
        if step > self.saved.step:
            self.save(last=True)  # the weights are still those from before this step
        self.processes.wait()
        found = f"loss {values['loss']} and gradient norm {values['grad_norm']} at step {step}"
        raise Diverged(f"{found}: look at the batch in {path}, or resume with a lower learning_rate or clip")
