"""An exponential moving average of a network's weights: what is sampled from, and what a checkpoint ships."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class EMA:
    """The average, held as a network of its own.

    Attributes:
        network: a copy in evaluation mode whose parameters are the average and whose saved buffers follow the source's.
        decay: the weight of the past; 0 makes it a plain copy.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay = decay
        self._parameters: list[Tensor] = list(self.network.parameters())
        # Only buffers that a checkpoint holds: caches of positions and the like may differ in size.
        kept = self.network.state_dict()
        self._buffers = [(name, buffer) for name, buffer in self.network.named_buffers() if name in kept]

    @torch.no_grad()
    def update(self, source: nn.Module, step: int) -> None:
        """Moves towards ``source`` after training step ``step`` (1 is the first).

        The decay warms up as min(decay, (1 + step) / (10 + step)), as in TensorFlow's
        ``ExponentialMovingAverage(num_updates=…)``: a young average must not remember the random beginning.
        """
        decay = min(self.decay, (1 + step) / (10 + step))
        theirs: list[Tensor] = list(source.parameters())
        torch._foreach_lerp_(self._parameters, theirs, 1.0 - decay)
        for name, buffer in self._buffers:
            buffer.copy_(source.get_buffer(name))
