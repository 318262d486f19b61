"""Trains the small codec from a list of recordings, on anything from one processor core upwards.

``python -m flowtts.vocoders.codec.train --data LIST --out FOLDER [--config YAML] [key=value ...] [--resume]``

Spectral losses come first; discriminators join for the last part of the schedule, when there is something for them to judge.
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
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from torch import Tensor, nn

from flowtts.checkpoint import read_torch
from flowtts.compat import require
from flowtts.config import load as load_config
from flowtts.types import UserError

from ..clips import Clips, load_clips, read_list
from ..discriminators import build as build_discriminators
from ..vocos import VocosVocoder
from ..vocos_losses import SpectralLoss
from .network import CodecConfig, CodecNetwork

LOG = logging.getLogger(__name__)
STATE = "train_state.pt"
KIND = "codec"


@dataclass(frozen=True)
class CodecTraining:
    """How to train; the schedule's length is ``minutes`` spent training."""

    model: CodecConfig = field(default_factory=CodecConfig)
    init_vocoder: str = ""
    seed: int = 0
    minutes: float = 80.0
    batch: int = 8
    frames: int = 50
    adversarial_from: float = 0.7
    adversarial_batch: int = 6
    adversarial_ramp: int = 200
    periods: tuple[int, ...] = (2, 3, 5, 7, 11)
    widths: tuple[int, ...] = (8, 16, 32, 64, 64)
    resolutions: tuple[int, ...] = (1024, 512, 256)
    channels: int = 8
    windows: tuple[int, ...] = (2048, 1024, 512, 256, 128)
    slopes: float = 1.0
    waveform: float = 1.0
    commitment: float = 1.0
    reconstruction: float = 15.0
    lr: float = 1e-3
    adversarial_lr: float = 5e-4
    betas: tuple[float, float] = (0.8, 0.99)
    weight_decay: float = 0.01
    warmup: int = 200
    clip: float = 10.0
    ema: float = 0.998
    gain_db: float = 6.0
    threads: int = 1
    save_minutes: float = 5.0
    log_steps: int = 25


class Trainer:
    """One run in memory. Crops depend on (seed, step) alone, so a resumed run sees what it would have seen."""

    def __init__(self, config: CodecTraining, clips: Clips) -> None:
        self.config, self.clips = config, clips
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            self.network = CodecNetwork(config.model).train()
            if config.init_vocoder:
                _start_from(self.network, config.init_vocoder)
            self.judges = build_discriminators(
                "narrow", config.periods, config.widths, config.resolutions, config.channels
            )
        self.average = deepcopy(self.network).requires_grad_(False)
        self.spectral = SpectralLoss(config.model.sample_rate, config.windows, slopes=config.slopes)
        losses = require("vocos.loss", "")
        self.listen, self.judge, self.match = (
            losses.GeneratorLoss(),
            losses.DiscriminatorLoss(),
            losses.FeatureMatchingLoss(),
        )
        self.optimiser = _adam(self.network, config.lr, config)
        self.judges_optimiser = _adam(self.judges, config.adversarial_lr, config)
        self.steps = self.adversarial_steps = 0
        self.seconds = 0.0

    @property
    def progress(self) -> float:
        """Share of the schedule done."""
        return self.seconds / (60 * self.config.minutes)

    def step(self) -> dict[str, float]:
        """One step of everything that takes part now; returns the losses."""
        began, config = time.monotonic(), self.config
        adversarial = self.progress >= config.adversarial_from
        numbers = np.random.default_rng([config.seed, self.steps])
        rng = torch.Generator().manual_seed(int(numbers.integers(1 << 60)))
        count = config.adversarial_batch if adversarial else config.batch
        real = self.clips.draw(numbers, count, config.frames * config.model.hop, config.gain_db)
        self._set_rates()
        made, coded = self.network(real, rng)
        spectral = self.spectral(made, real)
        scale = real.abs().mean().clamp_min(1e-3)
        wave = (made - real).abs().mean() / scale
        total = spectral["spectral"] + config.waveform * 0.1 * wave + config.commitment * coded.loss
        losses = {
            "spectral": spectral["spectral"].detach(),
            "slopes": spectral["slopes"],
            "wave": wave.detach(),
            "commitment": coded.loss.detach(),
        }
        if adversarial:
            losses["discriminators"] = self._teach(real, made.detach())
            adversary, matching = self._judged(real, made)
            losses |= {"adversary": adversary.detach(), "matching": matching.detach()}
            ramp = min(1.0, self.adversarial_steps / max(config.adversarial_ramp, 1))
            total = total + ramp * (adversary + 2 * matching) / config.reconstruction
            self.adversarial_steps += 1
        norm = _descend(self.optimiser, total, config.clip)
        self._update_average()
        self.steps += 1
        self.seconds += time.monotonic() - began
        return {name: float(value) for name, value in losses.items()} | {"norm": norm}

    def state(self) -> dict[str, Any]:
        modules = {"network": self.network, "average": self.average, "judges": self.judges}
        optimisers = {"optimiser": self.optimiser, "judges_optimiser": self.judges_optimiser}
        counts = {"steps": self.steps, "adversarial_steps": self.adversarial_steps, "seconds": self.seconds}
        return {name: part.state_dict() for name, part in (modules | optimisers).items()} | counts

    def load_state(self, state: dict[str, Any]) -> None:
        for name in ("network", "average", "judges", "optimiser", "judges_optimiser"):
            getattr(self, name).load_state_dict(state[name])
        self.steps, self.adversarial_steps = int(state["steps"]), int(state["adversarial_steps"])
        self.seconds = float(state["seconds"])

    def _set_rates(self) -> None:
        config = self.config
        fall = 0.5 * (1 + math.cos(math.pi * min(self.progress, 1.0)))
        for optimiser, peak, done in (
            (self.optimiser, config.lr, self.steps),
            (self.judges_optimiser, config.adversarial_lr, self.adversarial_steps),
        ):
            for group in optimiser.param_groups:
                group["lr"] = peak * fall * min(1.0, (done + 1) / max(config.warmup, 1))

    def _teach(self, real: Tensor, made: Tensor) -> Tensor:
        total = made.new_zeros(())
        for name, weight in (("period", 1.0), ("spectrum", 0.1)):
            true, false, _, _ = self.judges[name](y=real, y_hat=made)
            loss, _, _ = self.judge(disc_real_outputs=true, disc_generated_outputs=false)
            total = total + weight * loss.sum() / len(true)
        _descend(self.judges_optimiser, total, self.config.clip)
        return total.detach()

    def _judged(self, real: Tensor, made: Tensor) -> tuple[Tensor, Tensor]:
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
        for mean, now in zip(self.average.parameters(), self.network.parameters(), strict=True):
            mean.lerp_(now, 1 - decay)
        # Codebooks are averages already.
        for mean, now in zip(self.average.buffers(), self.network.buffers(), strict=True):
            mean.copy_(now)


@torch.no_grad()
def _start_from(network: CodecNetwork, name: str) -> None:
    """A Vocos of the same sizes gives its blocks and head; of its kernels the half that looks back."""
    vocos = VocosVocoder.load(name).network
    backbone, decoder = vocos.backbone, network.decoder
    for ours, theirs in zip(decoder.blocks, backbone.convnext, strict=True):
        ours.depthwise.weight.zero_()
        ours.depthwise.weight[..., 3:] = theirs.dwconv.weight[..., :4]
        # The middle tap now also stands for what it can no longer see.
        ours.depthwise.weight[..., 6:] += theirs.dwconv.weight[..., 4:].sum(-1, keepdim=True)
        ours.depthwise.bias.copy_(theirs.dwconv.bias)
        ours.norm.load_state_dict(theirs.norm.state_dict())
        ours.widen.load_state_dict(theirs.pwconv1.state_dict())
        ours.narrow.load_state_dict(theirs.pwconv2.state_dict())
        ours.scale.copy_(theirs.gamma)
    decoder.norm.load_state_dict(backbone.norm.state_dict())
    decoder.last.load_state_dict(backbone.final_layer_norm.state_dict())
    decoder.head.load_state_dict(vocos.head.out.state_dict())


def _adam(module: nn.Module, lr: float, config: CodecTraining) -> torch.optim.Optimizer:
    return torch.optim.AdamW(module.parameters(), lr, betas=config.betas, weight_decay=config.weight_decay)


def _descend(optimiser: torch.optim.Optimizer, loss: Tensor, clip: float) -> float:
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    norm = float(nn.utils.clip_grad_norm_([p for group in optimiser.param_groups for p in group["params"]], clip))
    if math.isfinite(norm):
        optimiser.step()
    return norm


def run(config: CodecTraining, data: Path, out: Path, resume: bool) -> None:
    """Train to the end of the schedule."""
    if config.threads > 0:
        torch.set_num_threads(config.threads)
    state_file = out / STATE
    if resume and not state_file.is_file():
        raise UserError(f"{out} holds no {STATE} to resume from; start without --resume")
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.json").write_text(json.dumps(asdict(config), indent=1), encoding="utf-8")
    clips = load_clips(read_list(data), config.model.sample_rate, out / "cache", LOG.info)
    trainer = Trainer(config, clips)
    if resume:
        trainer.load_state(read_torch(state_file))
    with open(out / "log.jsonl", "a", encoding="utf-8") as log:
        _loop(trainer, out, log)


def _loop(trainer: Trainer, out: Path, log: TextIO) -> None:
    saved, recent, since = trainer.seconds, list[dict[str, float]](), trainer.seconds
    while trainer.progress < 1:
        recent.append(trainer.step())
        last = trainer.progress >= 1
        if trainer.steps % trainer.config.log_steps == 0 or last:
            means = {name: float(np.mean([x[name] for x in recent if name in x])) for name in recent[-1]}
            speed = len(recent) / max(trainer.seconds - since, 1e-9)
            line = {"step": trainer.steps, "minutes": trainer.seconds / 60, "steps_per_second": speed, **means}
            log.write(json.dumps({name: round(x, 4) for name, x in line.items()}) + "\n")
            log.flush()
            recent, since = [], trainer.seconds
        if trainer.seconds - saved > 60 * trainer.config.save_minutes or last:
            part = out / f"{STATE}.part"
            torch.save(trainer.state(), part)
            os.replace(part, out / STATE)
            saved = trainer.seconds


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. 2 for a user's mistake."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    given = parser.parse_intermixed_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        run(load_config(CodecTraining, given.config, given.overrides), given.data, given.out, given.resume)
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
