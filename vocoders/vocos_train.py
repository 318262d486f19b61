"""Trains Vocos (arXiv 2306.00814) from a list of recordings, on anything from one processor core upwards.

``python -m flowtts.vocoders.vocos_train --data LIST --out FOLDER [--config YAML] [key=value ...] [--resume]``

Spectral losses alone come first, discriminators join for the last part of the schedule: on a processor a step with
discriminators costs several times as much, and an untrained generator learns little from them.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import sys
import time
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from torch import Tensor, nn

from flowtts import checkpoint
from flowtts.audio.mel import LogMel
from flowtts.checkpoint import read_torch
from flowtts.compat import require
from flowtts.config import load as load_config
from flowtts.types import UserError

from .clips import Clips, load_clips, read_list
from .copy_synthesis import compare
from .discriminators import build as build_discriminators
from .vocos import VocosConfig, VocosNetwork, VocosVocoder
from .vocos_losses import SpectralLoss

LOG = logging.getLogger(__name__)
STATE = "train_state.pt"


@dataclass(frozen=True)
class VocosTraining:
    """How to train. The schedule's length is ``minutes`` of training if that is positive, ``steps`` otherwise.

    Attributes:
        model: what to train.
        init: a checkpoint of the same sizes to start from, or None.
        seed: of weights and crops.
        steps: length of the schedule in steps.
        minutes: length of the schedule in minutes spent training, over all resumptions.
        batch: crops a step.
        frames: length of a crop.
        adversarial_from: share of the schedule after which discriminators join; 1 for never.
        adversarial_batch: crops a step from then on.
        adversarial_ramp: steps over which the generator starts to listen to them.
        discriminators: "narrow" or "full".
        periods, widths: of the multi-period discriminator (widths: narrow only).
        resolutions, channels: of the multi-resolution discriminator (channels: narrow only).
        windows: FFT sizes of the spectral loss.
        slopes: weight of the phase slopes in it.
        vocos_mel: weight of Vocos' own mel loss beside the spectral loss of weight 1.
        reconstruction: weight of both beside the adversarial losses (Vocos: 45).
        lr: peak learning rate of the generator, falling to zero by a cosine.
        adversarial_lr: peak of the discriminators'.
        betas: of AdamW.
        weight_decay: of AdamW.
        warmup: steps of linear rise.
        clip: largest norm of a gradient.
        ema: decay of the averaged weights, which are the ones saved.
        gain_db: loudness is varied by up to this much.
        bf16: run the backbone in bfloat16.
        threads: of PyTorch; 0 leaves them alone.
        device: of PyTorch.
        save_minutes: between checkpoints.
        valid_minutes: between validations.
        log_steps: between lines of the log.
    """

    model: VocosConfig = field(default_factory=VocosConfig)
    init: str | None = None
    seed: int = 0
    steps: int = 100_000
    minutes: float = 0.0
    batch: int = 8
    frames: int = 64
    adversarial_from: float = 0.55
    adversarial_batch: int = 8
    adversarial_ramp: int = 200
    discriminators: str = "narrow"
    periods: tuple[int, ...] = (2, 3, 5, 7, 11)
    widths: tuple[int, ...] = (8, 16, 32, 64, 64)
    resolutions: tuple[int, ...] = (1024, 512, 256)
    channels: int = 8
    windows: tuple[int, ...] = (2048, 1024, 512, 256, 128)
    slopes: float = 1.0
    vocos_mel: float = 0.0
    reconstruction: float = 45.0
    lr: float = 1e-3
    adversarial_lr: float = 5e-4
    betas: tuple[float, float] = (0.8, 0.99)
    weight_decay: float = 0.01
    warmup: int = 200
    clip: float = 10.0
    ema: float = 0.999
    gain_db: float = 6.0
    bf16: bool = False
    threads: int = 0
    device: str = "cpu"
    save_minutes: float = 5.0
    valid_minutes: float = 10.0
    log_steps: int = 50

    def __post_init__(self) -> None:
        if self.discriminators not in ("narrow", "full"):
            raise ValueError(f"discriminators are narrow or full, not {self.discriminators}")
        if min(self.steps, self.batch, self.frames, self.adversarial_batch, self.log_steps) < 1:
            raise ValueError("steps, batches, frames and log_steps must be at least 1")


class Trainer:
    """One training run in memory. Crops depend on (seed, step) alone, so a resumed run sees what it would have seen."""

    def __init__(self, config: VocosTraining, clips: Clips) -> None:
        """Random weights from ``config.seed``."""
        self.config, self.clips = config, clips
        self.device = torch.device(config.device)
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            self.network = VocosNetwork(config.model).to(self.device)
            if config.init is not None:
                found = checkpoint.load(checkpoint.find(config.init))
                checkpoint.load_state(self.network, found.state, config.init)
            self.judges = build_discriminators(
                config.discriminators, config.periods, config.widths, config.resolutions, config.channels
            ).to(self.device)
        self.average = deepcopy(self.network).requires_grad_(False)
        spec = config.model.mel
        self.mel = LogMel(spec).to(self.device)
        self.spectral = SpectralLoss(spec.sample_rate, config.windows, slopes=config.slopes).to(self.device)
        losses = require("vocos.loss", "")
        self.vocos_mel: nn.Module = losses.MelSpecReconstructionLoss(sample_rate=spec.sample_rate).to(self.device)
        self.listen, self.judge, self.match = (
            losses.GeneratorLoss(), losses.DiscriminatorLoss(), losses.FeatureMatchingLoss()
        )  # fmt: skip
        self.optimiser = _adam(self.network, config.lr, config)
        self.judges_optimiser = _adam(self.judges, config.adversarial_lr, config)
        self.steps = 0
        self.adversarial_steps = 0
        self.seconds = 0.0

    @property
    def progress(self) -> float:
        """Share of the schedule done."""
        config = self.config
        return self.seconds / (60 * config.minutes) if config.minutes > 0 else self.steps / config.steps

    def step(self) -> dict[str, float]:
        """One step of everything that takes part now; returns the losses."""
        began = time.monotonic()
        config = self.config
        progress = self.progress
        adversarial = progress >= config.adversarial_from
        rng = np.random.default_rng([config.seed, self.steps])
        hop = config.model.mel.hop_length
        count = config.adversarial_batch if adversarial else config.batch
        real = self.clips.draw(rng, count, config.frames * hop, config.gain_db).to(self.device)
        self._set_rates(progress)
        made = self.network(self.mel(real), config.bf16)[:, : real.shape[-1]]
        real = real[:, : made.shape[-1]]
        spectral = self.spectral(made, real)
        reconstruction = spectral["spectral"]
        if config.vocos_mel > 0:
            reconstruction = reconstruction + config.vocos_mel * self.vocos_mel(made, real)
        losses = {"reconstruction": reconstruction.detach(), "slopes": spectral["slopes"]}
        total = reconstruction
        if adversarial:
            losses["discriminators"] = self._teach_judges(real, made.detach())
            adversary, matching = self._judged(real, made)
            losses |= {"adversary": adversary.detach(), "matching": matching.detach()}
            ramp = min(1.0, self.adversarial_steps / max(config.adversarial_ramp, 1))
            total = reconstruction * config.reconstruction + ramp * (adversary + matching)
            # Adam does not see a loss's scale, but clipping does.
            total = total / config.reconstruction
            self.adversarial_steps += 1
        norm = _descend(self.optimiser, total, config.clip)
        self._update_average()
        self.steps += 1
        self.seconds += time.monotonic() - began
        return {name: float(value) for name, value in losses.items()} | {"norm": norm}

    def state(self) -> dict[str, Any]:
        """Everything a resumed run needs, tensors and plain values only."""
        modules = {"network": self.network, "average": self.average, "judges": self.judges}
        optimisers = {"optimiser": self.optimiser, "judges_optimiser": self.judges_optimiser}
        counts = {"steps": self.steps, "adversarial_steps": self.adversarial_steps, "seconds": self.seconds}
        return {name: part.state_dict() for name, part in (modules | optimisers).items()} | counts

    def load_state(self, state: dict[str, Any]) -> None:
        """The inverse of ``state``."""
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.judges.load_state_dict(state["judges"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.judges_optimiser.load_state_dict(state["judges_optimiser"])
        self.steps, self.adversarial_steps = int(state["steps"]), int(state["adversarial_steps"])
        self.seconds = float(state["seconds"])

    def vocoder(self) -> VocosVocoder:
        """A copy of the averaged network, on the CPU."""
        return VocosVocoder(deepcopy(self.average).cpu())

    def _set_rates(self, progress: float) -> None:
        config = self.config
        fall = 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
        rates = (
            (self.optimiser, config.lr, self.steps),
            (self.judges_optimiser, config.adversarial_lr, self.adversarial_steps),
        )
        for optimiser, peak, done in rates:
            for group in optimiser.param_groups:
                group["lr"] = peak * fall * min(1.0, (done + 1) / max(config.warmup, 1))

    def _teach_judges(self, real: Tensor, made: Tensor) -> Tensor:
        """A step of the discriminators; the weights of the two ensembles are Vocos'."""
        total = made.new_zeros(())
        for name, weight in (("period", 1.0), ("spectrum", 0.1)):
            true, false, _, _ = self.judges[name](y=real, y_hat=made)
            loss, _, _ = self.judge(disc_real_outputs=true, disc_generated_outputs=false)
            total = total + weight * loss.sum() / len(true)
        _descend(self.judges_optimiser, total, self.config.clip)
        return total.detach()

    def _judged(self, real: Tensor, made: Tensor) -> tuple[Tensor, Tensor]:
        """What the discriminators say to the generator: hinge and feature-matching losses."""
        adversary, matching = made.new_zeros(()), made.new_zeros(())
        self.judges.requires_grad_(False)
        for name, weight in (("period", 1.0), ("spectrum", 0.1)):
            _, false, true_maps, false_maps = self.judges[name](y=real, y_hat=made)
            loss, _ = self.listen(disc_outputs=false)
            adversary = adversary + weight * loss.sum() / len(false)
            matching = matching + weight * self.match(fmap_r=true_maps, fmap_g=false_maps).sum() / len(true_maps)
        self.judges.requires_grad_(True)
        return adversary, matching

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self.config.ema, (1 + self.steps) / (10 + self.steps))
        pairs = zip(self.average.parameters(), self.network.parameters(), strict=True)
        for mean, now in pairs:
            mean.lerp_(now, 1 - decay)


def _adam(module: nn.Module, lr: float, config: VocosTraining) -> torch.optim.Optimizer:
    return torch.optim.AdamW(module.parameters(), lr, betas=config.betas, weight_decay=config.weight_decay)


def _descend(optimiser: torch.optim.Optimizer, loss: Tensor, clip: float) -> float:
    """One step; a gradient that is not finite is skipped. Returns the gradient's norm."""
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    norm = float(nn.utils.clip_grad_norm_(parameters, clip))
    if math.isfinite(norm):
        optimiser.step()
    return norm


def run(
    config: VocosTraining, data: Path, out: Path, valid: Path | None, resume: bool, readme: str | None = None
) -> Path:
    """Train to the end of the schedule.

    Args:
        config: how.
        data: list of recordings, see ``clips.read_list``.
        out: folder of the run: ``config.json``, ``log.jsonl``, the training state and ``checkpoint/``.
        valid: list of recordings to copy now and then; PESQ and mel distance go to the log.
        resume: continue from the state in ``out``.
        readme: for the checkpoint.

    Returns:
        The folder of the final checkpoint.

    Raises:
        UserError: unreadable recordings, nothing to resume, or a run already there.
    """
    if config.threads > 0:
        torch.set_num_threads(config.threads)
    state_file = out / STATE
    if resume and not state_file.is_file():
        raise UserError(f"{out} holds no {STATE} to resume from; start without --resume")
    if state_file.is_file() and not resume:
        raise UserError(f"{out} already holds a run; continue it with --resume or choose another folder")
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.json").write_text(json.dumps(asdict(config), indent=1), encoding="utf-8")
    clips = load_clips(read_list(data), config.model.mel.sample_rate, out / "cache", LOG.info)
    held_out = [source.audio for source in read_list(valid)] if valid else []
    trainer = Trainer(config, clips)
    if resume:
        trainer.load_state(read_torch(state_file))
    with open(out / "log.jsonl", "a", encoding="utf-8") as log:
        _loop(trainer, out, held_out, log, readme)
    return out / "checkpoint"


def _loop(trainer: Trainer, out: Path, held_out: list[Path], log: TextIO, readme: str | None) -> None:
    config = trainer.config
    saved = validated = trainer.seconds
    recent: list[dict[str, float]] = []
    since = trainer.seconds
    while trainer.progress < 1:
        recent.append(trainer.step())
        last = trainer.progress >= 1
        if trainer.steps % config.log_steps == 0 or last:
            names = recent[-1].keys()
            means = {name: float(np.mean([x[name] for x in recent if name in x])) for name in names}
            speed = len(recent) / max(trainer.seconds - since, 1e-9)
            _write(log, trainer, {"steps_per_second": speed, **means})
            recent, since = [], trainer.seconds
        if trainer.seconds - saved > 60 * config.save_minutes or last:
            _save(trainer, out, readme)
            saved = trainer.seconds
        if held_out and (trainer.seconds - validated > 60 * config.valid_minutes or last):
            result = compare(trainer.vocoder(), held_out, pesq=find_spec("pesq") is not None)
            _write(log, trainer, {f"valid_{name}": value for name, value in asdict(result).items()})
            validated = trainer.seconds


def _write(log: TextIO, trainer: Trainer, values: dict[str, Any]) -> None:
    line = {"step": trainer.steps, "minutes": trainer.seconds / 60, **values}
    short = {name: round(x, 4) if isinstance(x, float) else x for name, x in line.items()}
    log.write(json.dumps(short) + "\n")
    log.flush()
    LOG.info("%s", short)


def _save(trainer: Trainer, out: Path, readme: str | None) -> None:
    part = out / f"{STATE}.part"
    torch.save(trainer.state(), part)
    os.replace(part, out / STATE)
    trainer.vocoder().save(out / "checkpoint", readme)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. 2 for a user's mistake."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="one path a line, or JSONL with audio and weight")
    parser.add_argument("--valid", type=Path, help="recordings to copy now and then, never trained on")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--config", type=Path, help="YAML; only what differs from the defaults")
    parser.add_argument("--readme", type=Path, help="README.md of the checkpoint")
    parser.add_argument("--resume", action="store_true", help="continue the run in --out")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="e.g. minutes=100 threads=1 model.dim=512")
    given = parser.parse_intermixed_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        config = load_config(VocosTraining, given.config, given.overrides)
        readme = given.readme.read_text(encoding="utf-8") if given.readme else None
        run(config, given.data, given.out, given.valid, given.resume, readme)
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
