"""Networks that predict noise together with a variance (Improved DDPM, arXiv 2102.09672): their loss, their sampling.

The paper counts noising steps i = 0 … T - 1 away from the data; `flowtts.path.Discrete` says at which t they stand.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from flowtts.mask import masked_mean
from flowtts.path import Discrete, Schedule, to_data
from flowtts.solve.problem import Costed, Ranged
from flowtts.types import Field


class LearnedRange:
    """The hybrid loss of a network with 2 C channels: the noise, and where its variance lies in the range it may have.

    A step back from i has the variance exp(v log beta + (1 - v) log beta~) (equation 15), between that of the
    posterior, beta~, and that of the step itself. The network's other C channels, from -1 to 1, are 2 v - 1.

    Args:
        schedule: the steps.
    """

    def __init__(self, schedule: Discrete) -> None:
        betas = torch.tensor(schedule.betas, dtype=torch.float64)
        bars = torch.cumprod(1 - betas, 0)
        before = torch.cat([torch.ones(1, dtype=torch.float64), bars[:-1]])
        least = betas * (1 - before) / (1 - bars)
        # Nothing is left to guess at the first step; its range takes the second one's floor, as the paper's code does.
        least[0] = least[1] if len(betas) > 1 else betas[0]
        self.schedule = schedule
        self.lowest, self.highest = least.log(), betas.log()
        """(T,) float64 log beta~ and log beta."""
        self.reach = betas**2 / ((1 - betas) * (1 - bars))
        """(T,) float64: an error of the noise, squared, times this is that of the mean of the step back."""

    def noisy(self, x1: Tensor, x0: Tensor, step: Tensor) -> Tensor:
        """x_t (B, T, C) of data ``x1`` and noise ``x0`` after the noising steps ``step`` (B,) int64."""
        count = len(self.schedule.betas)
        at = self.schedule(1 - (step.cpu().double() + 1) / count)
        return _shaped(at.alpha, x1) * x1 + _shaped(at.sigma, x1) * x0

    def log_variance(self, share: Tensor, step: Tensor) -> Tensor:
        """Equation 15, (B, T, C), from the network's channels ``share`` (B, T, C) at ``step`` (B,)."""
        v = (share + 1) / 2
        return v * self._at(self.highest, step, v) + (1 - v) * self._at(self.lowest, step, v)

    def bound(self, error: Tensor, share: Tensor, step: Tensor) -> Tensor:
        """(B, T, C) terms of the variational bound in bits (equations 4 to 6): L_i, and L_0 for ``step`` 0.

        For L_0 the paper takes the probability of one of 256 levels of grey; data here are continuous, hence a density.

        Args:
            error: (B, T, C) of the predicted noise.
            share: (B, T, C) the variance channels.
            step: (B,) int64.
        """
        found = self.log_variance(share, step)
        miss = error**2 * self._at(self.reach, step, error) * torch.exp(-found)
        least = self._at(self.lowest, step, error)
        divergence = (found - least + torch.exp(least - found) + miss - 1) / 2
        likelihood = (found + miss + math.log(2 * math.pi)) / 2
        first = (step == 0).to(error.device)[:, None, None]
        return torch.where(first, likelihood, divergence) / math.log(2)

    def loss(
        self, output: Tensor, noise: Tensor, step: Tensor, mask: Tensor, weight: float = 1.0
    ) -> Mapping[str, Tensor]:
        """L_simple + lambda L_vlb (equation 16), over real frames; the bound teaches the variance alone.

        With lambda = 1e-3 and the sum over T steps estimated by one of them, the term drawn counts T / 1000 times.

        Args:
            output: (B, T, 2 C) of the network.
            noise: (B, T, C) that was added.
            step: (B,) int64, drawn uniformly.
            mask: (B, T) bool.
            weight: of the bound.

        Returns:
            Scalars "loss", "mse" and "vlb" (bits per channel and frame, already times T / 1000).
        """
        predicted, share = output.float().chunk(2, dim=-1)
        error = predicted - noise.float()
        mse = masked_mean(error**2, mask)
        terms = self.bound(error.detach(), share, step)
        vlb = masked_mean(terms, mask) * (len(self.schedule.betas) / 1000)
        return {"loss": mse + weight * vlb, "mse": mse, "vlb": vlb}

    def _at(self, table: Tensor, step: Tensor, like: Tensor) -> Tensor:
        return _shaped(table[step.cpu()], like)


@dataclass(frozen=True, eq=False)
class Clipped:
    """A field whose data stay within bounds: what it implies is clipped, and the noise follows from x.

    The usual way of sampling from discrete diffusion models (``clip_denoised``), here for every solver.

    Attributes:
        field: the velocity.
        schedule: its path, with sigma above 0 wherever it is evaluated.
        low: least value of the data.
        high: greatest.
    """

    field: Field
    schedule: Schedule
    low: float = -1.0
    high: float = 1.0

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        """The velocity (B, T, C) at ``t`` (0-dim, on the CPU) and ``x`` (B, T, C)."""
        data = to_data(self.schedule, "velocity", self.field(t, x), x, t).clamp(self.low, self.high)
        alpha, sigma, d_alpha, d_sigma = (float(c) for c in self.schedule(t))
        # d_alpha D + d_sigma E with E = (x - alpha D) / sigma.
        return data * (d_alpha - d_sigma * alpha / sigma) + x * (d_sigma / sigma)

    def calls(self, t: float) -> int:
        """Network calls of one evaluation at ``t``."""
        return self.field.calls(t) if isinstance(self.field, Costed) else 1

    def share(self, t: Tensor) -> Tensor | None:
        """As `flowtts.solve.Ranged` says."""
        return self.field.share(t) if isinstance(self.field, Ranged) else None


def _shaped(values: Tensor, like: Tensor) -> Tensor:
    """(B,) numbers to multiply ``like`` (B, T, C) by, where it is and in its dtype."""
    return values.to(like.dtype).to(like.device)[:, None, None]
