"""Started by ``accelerate launch`` in test_train.py: trains, is stopped by a signal to rank 1, resumes."""

from __future__ import annotations

import itertools
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from flowtts.checkpoint import Card, save_tensors
from flowtts.train import TrainConfig, fit


@dataclass(frozen=True)
class Pairs:
    x: Tensor
    y: Tensor

    def to(self, device: torch.device) -> Pairs:
        return Pairs(self.x.to(device), self.y.to(device))


class Line(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 1)

    def loss(self, batch: Pairs, rng: torch.Generator) -> Mapping[str, Tensor]:
        values = {"loss": (self.linear(batch.x) - batch.y).square().mean(), "size": torch.tensor(float(len(batch.x)))}
        rank = int(os.environ.get("RANK", "0"))
        return values | {f"draw{rank}": torch.rand((), generator=rng)}


def batches(start: int, stride: int, together: int = 1) -> Iterator[Pairs]:
    """Batch i holds what ``together`` consecutive batches of four would."""
    for index in itertools.count(start, stride):
        parts = [
            torch.randn(4, 3, generator=torch.Generator().manual_seed(index * together + part))
            for part in range(together)
        ]
        x = torch.cat(parts)
        yield Pairs(x, x.sum(1, keepdim=True) + 1)


def interrupted(start: int, stride: int) -> Iterator[Pairs]:
    """Rank 1 gets a signal while it makes its thirteenth batch, in its seventh update."""
    for number, batch in enumerate(batches(start, stride)):
        if start == 1 and number == 12:
            os.kill(os.getpid(), signal.SIGTERM)
        yield batch


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return Line()


CARD = Card(kind="line", config={})
CONFIG = TrainConfig(
    steps=12, learning_rate=0.05, warmup=2, accumulate=2, ema=0.9, log_every=4, tensorboard=False, prefetch=0, cpu=True
)

if __name__ == "__main__":
    out = Path(sys.argv[1])
    rank = int(os.environ["RANK"])
    # Other weights on each rank: those of rank 0 must win.
    run = fit(network(rank), interrupted, config=CONFIG, out=out / "two", card=CARD)
    assert (run.finished, run.step) == (False, 7), run
    trained = network(5 + rank)
    run = fit(trained, batches, config=CONFIG, out=out / "two", card=CARD, resume=True)
    assert (run.finished, run.step) == (True, 12), run
    save_tensors(out / f"rank-{rank}.safetensors", trained.state_dict())
