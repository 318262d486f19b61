"""``flowtts train codec``, ``soundstream``, ``encodec`` and ``mimi``.

A run's folder has ``checkpoints/`` (codecs, with averaged weights), ``log.jsonl``, ``samples/``, ``tensorboard/``,
``train.yaml`` with the whole configuration, ``train_state.pt`` to go on from, and ``failed/`` if it diverges.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from time import monotonic
from typing import Any, NoReturn

import torch
from torch import Tensor

from flowtts import checkpoint, config
from flowtts.audio.io import replacing, write
from flowtts.checkpoint import read_torch, save_tensors
from flowtts.train import Diverged, Run
from flowtts.train_config import progress
from flowtts.train_log import RunLog
from flowtts.train_process import Processes, Stopper, fork_random, in_processes, prefetch, threads, to_device
from flowtts.train_state import Position
from flowtts.types import Audio, PathLike, UserError

from ..clips import Clips
from . import config as runs
from .config import PRESETS
from .data import Crops, read_clips
from .forms import kind_of
from .forms import write as write_codec
from .trainer import Broken, Trainer

logger = logging.getLogger(__name__)

STATE, CONFIG = "train_state.pt", "train.yaml"
LISTENED = 4
"""Held-out crops that are copied as samples."""


def train(
    kind: str,
    manifests: Sequence[PathLike],
    out: PathLike,
    *,
    source: Path | None = None,
    overrides: Sequence[str] = (),
    resume: bool = False,
    vocode: Callable[[Tensor], Any] | None = None,
) -> Run:
    """Train a codec.

    Args:
        kind: "codec", "soundstream", "encodec" or "mimi": what ``config.PRESETS`` says of it.
        manifests: lists of recordings (``clips.read_list``), or manifests that ``flowtts prepare`` made.
        out: the run's folder.
        source: YAML that says what differs from the preset.
        overrides: "train.steps=1000" …
        resume: go on with what ``out`` holds.
        vocode: not used; a codec is heard by itself.

    Returns:
        With the newest checkpoint, which ``flowtts.registry.load_codec`` reads.

    Raises:
        UserError: a wrong configuration or list, or an ``out`` that holds another run.
        Diverged: a loss or gradient is not finite.
    """
    del vocode
    preset = PRESETS[kind]
    run = config.load(type(preset), source, overrides, base=preset)
    return fit_run(run, manifests, out, resume=resume)


def fit_run(run: runs.Run, manifests: Sequence[PathLike], out: PathLike, *, resume: bool) -> Run:
    """`train` with a configuration that has been read.

    Raises:
        UserError: see there.
    """
    out = Path(out)
    saved = _saved(run, out, resume)
    processes = Processes.join(cpu=run.train.cpu)
    with threads(run.train.threads), fork_random(processes.device):
        loop = _Loop.start(run, manifests, out, processes, saved)
        try:
            return loop.run()
        except torch.cuda.OutOfMemoryError as error:
            raise UserError(
                f"not enough memory on {processes.device}: make crops.batch smaller and raise train.accumulate"
            ) from error


def _saved(run: runs.Run, out: Path, resume: bool) -> dict[str, Any] | None:
    """The state to go on from."""
    holds = (out / STATE).is_file()
    if not resume and (holds or checkpoint.steps(out)):
        raise UserError(f"{out} holds a run already: resume it, or choose another folder")
    if not holds:
        if resume and checkpoint.steps(out):
            raise UserError(f"{out} has no {STATE}: its codecs can be used, and trained further as init=FOLDER")
        return None
    state: dict[str, Any] = read_torch(out / STATE)
    for name, now in _fixed(run).items():
        if state["fixed"].get(name) != now:
            raise UserError(f"{out} was trained with another {name}: give the same configuration, or a new folder")
    return state


def _fixed(run: runs.Run) -> dict[str, Any]:
    """What may not change when a run goes on: what its tensors belong to."""
    judges = {"judges": config.plain(run.judges.groups)} if run.losses.judged else {}
    return {"kind": kind_of(run), "model": config.plain(run.model), "decoder_only": run.decoder_only, **judges}


@dataclass
class _Loop:
    """A run in progress. ``saved`` is the position of the newest checkpoint, ``recent`` what the log has yet to see."""

    config: runs.Run
    out: Path
    processes: Processes
    trainer: Trainer
    crops: Crops
    plain: Crops
    valid: Tensor
    position: Position
    saved: Position
    recent: list[dict[str, float]] = field(default_factory=list)

    @staticmethod
    def start(
        run: runs.Run, manifests: Sequence[PathLike], out: Path, processes: Processes, saved: dict[str, Any] | None
    ) -> _Loop:
        """Everything in its place, as it was if there is a state."""
        trainer = Trainer(run, processes)
        spec = trainer.network.spec
        samples = max(1, round(run.crops.seconds * spec.sample_rate / spec.hop_length)) * spec.hop_length
        if run.losses.judged and samples < run.judges.shortest:
            raise UserError(
                f"crops of {samples} samples are shorter than {run.judges.shortest}, which a discriminator hears at "
                "once: raise crops.seconds"
            )
        clips = _clips(run, manifests, out, spec.sample_rate, processes)
        crops = Crops(clips, run.crops.batch, samples, run.crops.gain_db, run.train.seed)
        plain = Crops(clips, run.crops.batch, samples, 0.0, run.train.seed + 1)
        valid = plain[0]
        if run.crops.valid and processes.main:
            held = _clips(run, run.crops.valid, out, spec.sample_rate, processes, alone=True)
            valid = Crops(held, run.crops.batch, samples, 0.0, 0)[0]
        position = Position() if saved is None else trainer.load_state(saved)
        return _Loop(run, out, processes, trainer, crops, plain, valid, position, saved=position)

    def run(self) -> Run:
        """Trains to the end, or to a signal."""
        begun, asked, train = monotonic() - self.position.seconds, False, self.config.train
        if self.processes.main:
            self.out.mkdir(parents=True, exist_ok=True)
            (self.out / CONFIG).write_text(config.dump(self.config), encoding="utf-8")
        with ExitStack() as stack:
            log = None
            if self.processes.main:
                log = stack.enter_context(RunLog(self.out, self.position.step, tensorboard=train.tensorboard))
            stopper = stack.enter_context(Stopper())
            start, stride = self.position.batches + self.processes.rank, self.processes.world
            data = (
                in_processes(self.crops, start, stride, train.workers, train.prefetch)
                if train.workers
                else prefetch(self.crops(start, stride), train.prefetch)
            )
            stack.callback(data.close)
            logger.info("training from step %d on %d processes", self.position.step, self.processes.world)
            while not asked and self.done() < 1.0:
                asked = self.update(data, begun, stopper)
                last = asked or self.done() >= 1.0
                self.report(log, last)
                if self.processes.main:
                    self.sample(log, last)
                    self.save(last)
            self.processes.wait()
        return Run(checkpoint.steps(self.out)[-1], self.position.step, finished=self.done() >= 1.0)

    def done(self) -> float:
        """Progress, 0 to 1; the same on all processes."""
        return progress(self.config.train, self.position.step, self.position.seconds)

    def update(self, data: Iterator[Any], begun: float, stopper: Stopper) -> bool:
        """One update of the weights. Returns whether any process was asked to stop."""
        train, before, done = self.config.train, self.position, self.done()
        warmed = done if before.step <= train.warmup else before.warmed
        batches = [to_device(batch, self.processes.device) for batch in islice(data, train.accumulate)]
        try:
            values = self.trainer.update(batches, done, warmed)
        except Broken as error:
            self.fail(error)
        elapsed = monotonic() - begun if self.processes.main else 0.0
        asked, seconds = self.processes.largest(stopper.asked, elapsed)
        self.position = Position(
            step=before.step + 1, batches=before.batches + train.accumulate * self.processes.world, seconds=seconds,
            warmed=warmed,
        )  # fmt: skip
        self.recent.append({**values, "seconds_per_step": seconds - before.seconds})
        return bool(asked)

    def report(self, log: RunLog | None, last: bool) -> None:
        """A row of the log when one is due; all processes take part in its means."""
        step, names = self.position.step, ("mel", "spectral", "matching", "waveform", "adversarial")
        if log is not None:
            shown = next(self.recent[-1][name] for name in names if name in self.recent[-1])
            log.progress(self.done(), step, shown)
        if last or step % self.config.train.log_every == 0:
            means = self.processes.means(self.recent)
            self.recent.clear()
            if log is not None:
                log.write(step, {**means, "seconds": self.position.seconds})

    def sample(self, log: RunLog | None, last: bool) -> None:
        """Copies of held-out crops, heard and measured; a broken sample must not cost a night of training."""
        step, every = self.position.step, self.config.train.sample_every
        if every == 0 or log is None or not (last or step % every == 0):
            return
        network, trainer = self.trainer.average, self.trainer
        try:
            with torch.no_grad():
                real = self.valid.to(self.processes.device)
                codes = network.coder.encode(network.latents(real[:, None]))
                made = network.from_latents(network.coder.decode(codes))[:, 0]
                apart = (made - real).abs().mean()
                log.write(step, {"valid_waveform": float(apart), "valid_mel": float(trainer.mel(made, real))})
            folder, rate = self.out / "samples", network.spec.sample_rate
            folder.mkdir(parents=True, exist_ok=True)
            for name, samples in (("recorded", real), (f"{step:07d}", made)):
                write(folder / f"{name}.flac", Audio(samples[:LISTENED].flatten().cpu().numpy(), rate))
        except Exception:
            logger.exception("the sample of step %d failed; training goes on", step)

    def save(self, last: bool) -> None:
        """A checkpoint, and what is needed to go on from it, when they are due."""
        train = self.config.train
        due = self.position.seconds - self.saved.seconds >= 60.0 * train.save_minutes
        if not (last or due):
            return
        # A second stage keeps what others know of the latents of the first.
        count = 0 if self.config.decoder_only else self.config.measured
        plain = (batch.to(self.processes.device) for batch in islice(self.plain(0), count))
        write_codec(self.trainer.average, self.out / "checkpoints" / f"step-{self.position.step:08d}", plain)
        with replacing(self.out / STATE) as part:
            torch.save(self.trainer.state(self.position) | {"fixed": _fixed(self.config)}, part)
        for old in checkpoint.steps(self.out)[: -train.keep]:
            shutil.rmtree(old, ignore_errors=True)
        self.saved = self.position

    def fail(self, error: Broken) -> NoReturn:
        """Saves each process's batches and ends the run; no weight was touched."""
        step, rank = self.position.step, self.processes.rank
        path = self.out / "failed" / f"step-{step:08d}-rank-{rank}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        about = {"values": json.dumps({name: str(value) for name, value in error.values.items()})}
        save_tensors(path, {str(index): batch for index, batch in enumerate(self.trainer.used)}, about)
        self.processes.wait()
        raise Diverged(
            f"{error} at step {step}: listen to the batch in {path}, or resume with a lower learning_rate or clip"
        )


def _clips(
    run: runs.Run, manifests: Sequence[PathLike], out: Path, sample_rate: int, processes: Processes, alone: bool = False
) -> Clips:
    """Decoded once, by the main process; the others map what it made."""
    cache = out / "cache" if run.crops.cache is None else Path(run.crops.cache)
    if processes.main:
        read_clips(manifests, sample_rate, cache, logger.info)
    if not alone:
        processes.wait()
    return read_clips(manifests, sample_rate, cache)
