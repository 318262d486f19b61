"""How to train: the numbers, the schedule that follows from them, and the optimiser."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn


@dataclass(frozen=True)
class TrainConfig:
    """How to train. The defaults are those of Voicebox's audio model (arXiv 2306.15687, section 5.1).

    A run ends when max(step / steps, elapsed / minutes) reaches 1, and the learning rate falls with that progress:
    with ``minutes`` it is annealed within that time, however fast the machine is.

    Attributes:
        steps: updates.
        minutes: wall-clock limit over all resumptions, or None.
        learning_rate: its peak.
        warmup: updates of linear warm-up.
        schedule: shape of the fall after the warm-up.
        final: where the fall ends, as a share of the peak.
        optimiser: "adam", or "adamw" with ``weight_decay`` on parameters of two or more dimensions.
        betas: of Adam.
        eps: of Adam.
        weight_decay: of AdamW.
        clip: largest norm of the gradient, or None.
        ema: decay of the averaged weights, which are what a checkpoint holds; 0 keeps no average.
        accumulate: batches per update and process.
        precision: "bf16" computes the loss under autocast; weights and optimiser stay float32.
        seed: of every random number of the run.
        threads: CPU threads of one operation, None as PyTorch chooses.
        workers: processes that make batches; 0 makes them in a thread. A GPU is faster than one thread can feed.
        prefetch: batches made ahead, by the thread or by each worker.
        cpu: ignore accelerators.
        log_every: updates per row of the log.
        sample_every: updates between calls of ``sample``; 0 never calls it.
        save_minutes: between checkpoints; there is always one at the end.
        keep: newest checkpoints that stay.
        tensorboard: write for TensorBoard too.
    """

    steps: int = 500_000
    minutes: float | None = None
    learning_rate: float = 1e-4
    warmup: int = 5_000
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    final: float = 0.0
    optimiser: Literal["adam", "adamw"] = "adam"
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.01
    clip: float | None = 0.2
    ema: float = 0.999
    accumulate: int = 1
    precision: Literal["float32", "bf16"] = "float32"
    seed: int = 0
    threads: int | None = None
    workers: int = 0
    prefetch: int = 2
    cpu: bool = False
    log_every: int = 10
    sample_every: int = 0
    save_minutes: float = 15.0
    keep: int = 2
    tensorboard: bool = True

    def __post_init__(self) -> None:
        for name in ("steps", "accumulate", "log_every", "keep", "learning_rate", "eps", "save_minutes"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)}")
        for name in ("warmup", "seed", "workers", "prefetch", "sample_every", "weight_decay"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, not {getattr(self, name)}")
        for name in ("minutes", "clip", "threads"):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive or null, not {getattr(self, name)}")
        if not (0 <= self.ema < 1 and 0 <= self.final <= 1):
            raise ValueError("ema must be in [0, 1) and final in [0, 1]")


def progress(config: TrainConfig, step: int, seconds: float) -> float:
    """Share of the run that is done, 0 to 1."""
    spent = 0.0 if config.minutes is None else seconds / (60.0 * config.minutes)
    return min(1.0, max(step / config.steps, spent))


def learning_rate(config: TrainConfig, step: int, done: float, warmed: float) -> float:
    """Learning rate of an update.

    Args:
        config: the schedule.
        step: updates before this one.
        done: progress before this one.
        warmed: progress at which the warm-up ended.
    """
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    left = min(1.0, (1.0 - done) / max(1.0 - warmed, 1e-12))
    shape = {"linear": left, "cosine": 0.5 * (1.0 - math.cos(math.pi * left)), "constant": 1.0}[config.schedule]
    return config.learning_rate * (config.final + (1.0 - config.final) * shape)


def make_optimiser(network: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Adam or AdamW over what is trainable, in one fused kernel where PyTorch has one."""
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    fused = all(parameter.device.type in ("cpu", "cuda") for parameter in parameters)
    if config.optimiser == "adam":
        return torch.optim.Adam(parameters, lr=0.0, betas=config.betas, eps=config.eps, fused=fused)
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=0.0, betas=config.betas, eps=config.eps, fused=fused)
