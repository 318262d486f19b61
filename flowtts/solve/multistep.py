"""Adams-Bashforth methods: a higher order for one evaluation per step, from the slopes of the steps before."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from flowtts.solve.fixed import no_parameter
from flowtts.solve.problem import Problem


@dataclass(frozen=True)
class AdamsBashforth:
    """Integrates the polynomial through the last ``order`` slopes exactly, on any grid (Hairer et al. I, III.5).

    The first step is the midpoint rule, the following ones rise in order: each of them errs by h^3 or less, which
    keeps the order of the whole. Costs points evaluations: one per step and one more for the start.

    Attributes:
        name: as users spell it.
        order: of the method, 2 or 3.
    """

    name: str
    order: int

    def __post_init__(self) -> None:
        if self.order not in (2, 3):
            # A fourth order would need a start of the third.
            raise ValueError(f"Adams-Bashforth methods here have order 2 or 3, not {self.order}")

    def tuned(self, value: float) -> AdamsBashforth:
        """Refuses: there is no parameter.

        Raises:
            UserError: always.
        """
        raise no_parameter(self.name, value)

    def __call__(self, problem: Problem) -> Tensor:
        """Integrate from the first to the last grid point, allocating nothing in the loop without autograd.

        Returns:
            (B, T, C) the end point.
        """
        field, x, grid = problem.field, problem.x, problem.grid
        room, spare, *keep = problem.buffers(2 + self.order)
        times, middle = grid.unbind(), torch.lerp(grid[0], grid[1], 0.5)
        steps, moments = grid.diff().tolist(), grid.tolist()
        # Slopes are copied: the field may return the same buffer at every call.
        slopes = [_kept(field(times[0], x), keep[0])]
        halfway = torch.add(x, slopes[0], alpha=steps[0] / 2, out=room)
        x = torch.add(x, field(middle, halfway), alpha=steps[0], out=spare)
        for n in range(1, len(steps)):
            slopes = [_kept(field(times[n], x), keep[n % self.order]), *slopes[: self.order - 1]]
            ages = [(moments[n] - moments[n - back]) / steps[n] for back in range(1, len(slopes))]
            for weight, slope in zip(variable_weights(*ages), slopes, strict=True):
                x = torch.add(x, slope, alpha=steps[n] * weight, out=room)
            room, spare = spare, room
        return x


def variable_weights(*ages: float) -> tuple[float, ...]:
    """Weights of the slopes in the mean over a step, exact for polynomials through all of them.

    Args:
        ages: how many steps of the coming length ago the older slopes were taken, at most two, the newest first; the
            newest slope of all is of now.

    Returns:
        One weight more than there are ages, the newest slope's first.
    """
    if not ages:
        return (1.0,)
    if len(ages) == 1:
        return 1 + 1 / (2 * ages[0]), -1 / (2 * ages[0])
    # The moments of the monomials: sum w = 1, -a w1 - b w2 = 1/2, a^2 w1 + b^2 w2 = 1/3.
    a, b = ages
    first, second = (1 / 3 + b / 2) / (a * (a - b)), (1 / 3 + a / 2) / (b * (b - a))
    return 1 - first - second, first, second


def _kept(slope: Tensor, room: Tensor | None) -> Tensor:
    return slope if room is None else room.copy_(slope)
