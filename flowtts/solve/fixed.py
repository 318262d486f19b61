"""The one loop that interprets any tableau over any grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from flowtts.solve.tableau import Tableau
from flowtts.types import Field, UserError


@dataclass(frozen=True)
class FixedStep:
    """A Runge-Kutta method that steps from grid point to grid point.

    Costs (points - 1) x stages evaluations. Items of a batch do not influence one another.

    Attributes:
        tableau: the method.
    """

    tableau: Tableau

    def tuned(self, value: float) -> FixedStep:
        """Refuses: a table has no parameter.

        Raises:
            UserError: always.
        """
        raise UserError(f"solver '{self.tableau.name}' takes no parameter, but was given {value:g}: drop the ':'")

    def __call__(self, field: Field, x0: Tensor, grid: Tensor) -> Tensor:
        """Integrate from ``grid[0]`` to ``grid[-1]``.

        Args:
            field: the velocity.
            x0: (B, T, C) where to start.
            grid: (n + 1,) float64 monotone times, on the CPU.

        Returns:
            (B, T, C) the end point.
        """
        c = torch.tensor(self.tableau.c, dtype=grid.dtype)
        # All times move to the device at once, so that no step waits for a copy; lerp hits both ends exactly.
        times = torch.lerp(grid[:-1, None], grid[1:, None], c).to(x0.dtype).to(x0.device)
        x = x0
        for h, stages in zip(grid.diff().tolist(), times, strict=True):
            slopes: list[Tensor] = []
            for row, t in zip(self.tableau.a, stages, strict=True):
                slopes.append(field(t, _advance(x, h, row, slopes)))
            x = _advance(x, h, self.tableau.b, slopes)
        return x


def _advance(x: Tensor, h: float, weights: Sequence[float], slopes: Sequence[Tensor]) -> Tensor:
    """Where a weighted mean of slopes leads: x + h sum_i weights_i slopes_i."""
    for weight, slope in zip(weights, slopes, strict=True):
        if weight:
            x = torch.add(x, slope, alpha=h * weight)
    return x
