"""The loss of held-out data, watched while a network learns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from flowtts.types import Trainable


@dataclass(frozen=True, eq=False)
class Validate:
    """What ``loss`` says of fixed batches, always with the same random numbers; meets ``flowtts.train.Sample``.

    Attributes:
        batches: each with ``to(device)``.
        names: entries of the loss that are logged, each as "valid_NAME".
    """

    batches: Sequence[Any]
    names: tuple[str, ...] = ("loss",)

    def __call__(self, step: int, network: nn.Module) -> Mapping[str, float]:
        """Means over the batches."""
        assert isinstance(network, Trainable) and isinstance(network, nn.Module)
        device = next(network.parameters()).device
        rng = torch.Generator().manual_seed(0)
        with torch.no_grad():
            losses = [network.loss(batch.to(device), rng) for batch in self.batches]
        return {f"valid_{name}": sum(float(x[name]) for x in losses) / len(losses) for name in self.names}
