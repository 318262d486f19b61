"""A field trained on one path, followed along another: a change of time and of scale."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from flowtts.path import Schedule, log_snr
from flowtts.solve.problem import Costed
from flowtts.solve.stochastic import mix
from flowtts.types import Field


@dataclass(frozen=True, eq=False)
class Rescheduled:
    """The field of ``sampled_on`` that belongs to the same network as the field of ``trained_on``.

    Attributes:
        field: the velocity on ``trained_on``.
        trained_on: its path.
        sampled_on: the path of this field.
    """

    field: Field
    trained_on: Schedule
    sampled_on: Schedule

    def calls(self, t: float) -> int:
        """Network calls of one evaluation at ``t`` of ``sampled_on``."""
        if not isinstance(self.field, Costed):
            return 1
        return self.field.calls(float(self._time(torch.tensor(t, dtype=torch.float64))))

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        """The velocity (B, T, C) along ``sampled_on`` at ``t`` (0-dim) and ``x`` (B, T, C)."""
        there = self._time(t)
        wanted, at = self.sampled_on(t), self.trained_on(there)
        # Equal ratios alpha / sigma: any combination of both gives the scale, this one is never zero.
        scale = float(torch.hypot(at.alpha, at.sigma) / torch.hypot(wanted.alpha, wanted.sigma))
        of_x, of_v = (float(weight) for weight in mix(at, wanted.d_alpha, wanted.d_sigma))
        velocity = self.field(there, x * scale)
        return torch.add(x * (of_x * scale), velocity, alpha=of_v)

    def _time(self, t: Tensor) -> Tensor:
        return self.trained_on.time_of(log_snr(self.sampled_on, t.double().cpu()))


def reschedule(field: Field, trained_on: Schedule, sampled_on: Schedule) -> Field:
    """Follow a field along another Gaussian path than the one it was trained on.

    Points of two paths with the same alpha / sigma differ by a factor, and the same data and noise are expected at
    both; the velocity here is that of these end points on the path wanted. Exact wherever both paths have the
    ratio; beyond it the training path's nearer end serves (VariancePreserving never reaches pure noise, CondOT
    starts with it). Karras et al., arXiv 2206.00364, section 4; Pokle et al., arXiv 2310.07894, section 3.

    Args:
        field: the velocity on ``trained_on``.
        trained_on: the path the network knows.
        sampled_on: the path to solve along; pass it to `flowtts.solve.solve` as ``schedule`` too.

    Returns:
        A field on ``sampled_on``; ``field`` itself if the two are equal.
    """
    return field if trained_on == sampled_on else Rescheduled(field, trained_on, sampled_on)
