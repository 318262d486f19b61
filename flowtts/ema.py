"""An exponential moving average of a network's weights: what is sampled from, and what a checkpoint ships."""

from __future__ import annotations

import copy

import torch
from torch import nn


class EMA:
    """The average, held as a network of its own.

    Attributes:
        network: a copy in evaluation mode whose parameters are the average and whose buffers follow the source's.
        decay: the weight of the past; 0 makes it a plain copy.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay = decay
        self._parameters = list(self.network.parameters())

    @torch.no_grad()
    def update(self, source: nn.Module, step: int) -> None:
        """Moves towards ``source`` after training step ``step`` (1 is the first).

        The decay warms up as min(decay, (1 + step) / (10 + step)), as in TensorFlow's
        ``ExponentialMovingAverage(num_updates=…)``: a young average must not remember the random beginning.
        """
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._parameters, list(source.parameters()), 1.0 - decay)
        for own, theirs in zip(self.network.buffers(), source.buffers(), strict=True):
            own.copy_(theirs)
