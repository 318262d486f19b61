"""Methods that choose their own steps: torchdiffeq behind the call of every other solver."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from flowtts.types import Field, UserError


@dataclass(frozen=True)
class Adaptive:
    """An embedded Runge-Kutta pair that keeps its estimated local error below rtol |x| + atol.

    Only the ends of the grid matter. The error is a root mean square over the whole batch, so that an item's
    result depends (within the tolerance) on its company and on padding; for batch invariance solve one at a time.

    Attributes:
        method: "dopri5" (Dormand and Prince, order 5) or "bosh3" (Bogacki and Shampine, order 3).
        rtol: relative tolerance.
        atol: absolute tolerance.
        max_steps: attempts before giving up.
    """

    method: Literal["dopri5", "bosh3"]
    rtol: float = 1e-5
    atol: float = 1e-5
    max_steps: int = 1000

    def __post_init__(self) -> None:
        for tolerance in (self.rtol, self.atol):
            if not 0 < tolerance < 1:
                raise UserError(f"solver '{self.method}' needs tolerances between 0 and 1, not {tolerance:g}")

    def tuned(self, value: float) -> Adaptive:
        """The same method with ``value`` as both tolerances.

        Raises:
            UserError: it is not between 0 and 1.
        """
        return replace(self, rtol=value, atol=value)

    def __call__(self, field: Field, x0: Tensor, grid: Tensor) -> Tensor:
        """Integrate from ``grid[0]`` to ``grid[-1]``.

        Args:
            field: the velocity.
            x0: (B, T, C) where to start.
            grid: (n + 1,) float64 monotone times, on the CPU.

        Returns:
            (B, T, C) the end point.

        Raises:
            UserError: no step size satisfies the tolerance.
        """
        from torchdiffeq import odeint

        low, high = sorted((float(grid[0]), float(grid[-1])))

        def inside(t: Tensor, x: Tensor) -> Tensor:
            # The probe for the first step size may look past the end, where no network was trained.
            return field(t.clamp(low, high), x)

        # Apple's GPUs have no float64.
        time_dtype = torch.float32 if x0.device.type == "mps" else torch.float64
        ends = grid[[0, -1]].to(time_dtype).to(x0.device)
        # With step_t the last step ends on the end point; without, it overshoots and interpolates back.
        options = {"dtype": time_dtype, "step_t": ends[1:], "max_num_steps": self.max_steps}
        try:
            path: Tensor = odeint(inside, x0, ends, rtol=self.rtol, atol=self.atol, method=self.method, options=options)
        except AssertionError as failure:
            raise UserError(
                f"solver '{self.method}' found no steps that meet the tolerance {max(self.rtol, self.atol):g}: "
                f"loosen it (for example {self.method}:1e-3), use a fixed solver, or check that the field is finite"
            ) from failure
        return path[-1]
