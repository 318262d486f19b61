"""Losses whose weights are shares of the gradient (EnCodec, arXiv 2210.13438, section 3.4, equation 5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

EPSILON = 1e-12


class Balancer:
    """Makes one gradient with respect to a network's output of those of several losses.

    The gradient g_i of loss i becomes R * w_i / sum_j(w_j) * g_i / <|g_i|>, where <> is an exponential moving average
    (corrected for its beginning at nothing) of the norm of a batch's items. So the weights say what share of the
    gradient a loss has, whatever its scale. As in the authors' program, the mean is of the norms of single items.

    Args:
        norm: R, of the whole gradient of an item, if those of the losses point the same way.
        decay: of the averages.
        balanced: False leaves the gradients as they are: sum_i(w_i * g_i).
    """

    def __init__(self, norm: float = 1.0, decay: float = 0.999, balanced: bool = True) -> None:
        self.norm, self.decay, self.balanced = norm, decay, balanced
        self._sums: dict[str, float] = {}
        self._counts: dict[str, float] = {}

    @property
    def norms(self) -> dict[str, float]:
        """The averages, by loss."""
        return {name: self._sums[name] / self._counts[name] for name in self._sums}

    def __call__(self, losses: Mapping[str, Tensor], weights: Mapping[str, float], output: Tensor) -> Tensor:
        """The gradient.

        Args:
            losses: scalars; those of weight 0 are left out.
            weights: of each.
            output: (B, …) what they were computed from. Only the way from it to the losses is walked, and stays open.

        Returns:
            Shaped as ``output``.
        """
        used = {name: loss for name, loss in losses.items() if weights[name] > 0}
        if not self.balanced:
            total = torch.stack([weights[name] * loss for name, loss in used.items()]).sum()
            return torch.autograd.grad(total, output, retain_graph=True)[0]
        found = {name: torch.autograd.grad(loss, output, retain_graph=True)[0] for name, loss in used.items()}
        means = torch.stack([grad.flatten(1).norm(dim=1).mean() for grad in found.values()]).double()
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(means)
            means /= torch.distributed.get_world_size()
        for name, mean in zip(found, means.tolist(), strict=True):
            self._sums[name] = self.decay * self._sums.get(name, 0.0) + mean
            self._counts[name] = self.decay * self._counts.get(name, 0.0) + 1.0
        whole, norms = sum(weights[name] for name in found), self.norms
        scaled = [self.norm * weights[name] / whole / (EPSILON + norms[name]) * grad for name, grad in found.items()]
        return torch.stack(scaled).sum(0)

    def state_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"sums": dict(self._sums), "counts": dict(self._counts)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse."""
        self._sums, self._counts = dict(state["sums"]), dict(state["counts"])
