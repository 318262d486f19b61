"""Methods that choose their own steps: torchdiffeq behind the call of every other solver."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from flowtts.solve.problem import Problem
from flowtts.types import UserError


@dataclass(frozen=True)
class Adaptive:
    """An embedded Runge-Kutta pair that keeps its estimated local error below rtol |x| + atol.

    Only the ends of the grid matter. The error is a root mean square over all frames, padded ones included. By
    default each item is integrated by itself, so that its steps do not depend on its company; the field still sees
    the whole batch, the other items waiting at their start, and B items cost the evaluations of all of them. With
    ``together`` one sequence of steps serves the batch: cheaper, but an item then depends (within the tolerance) on
    its company.

    Attributes:
        name: as users spell it.
        method: torchdiffeq's name: "dopri5" (Dormand and Prince, order 5), "bosh3" (Bogacki and Shampine, order 3) or
            "adaptive_heun" (Heun with Euler, order 2).
        together: share the steps among the items of a batch.
        rtol: relative tolerance.
        atol: absolute tolerance.
        max_steps: attempts before giving up.
    """

    name: str
    method: Literal["dopri5", "bosh3", "adaptive_heun"]
    together: bool = False
    rtol: float = 1e-5
    atol: float = 1e-5
    max_steps: int = 2000

    def __post_init__(self) -> None:
        for tolerance in (self.rtol, self.atol):
            if not 0 < tolerance < 1:
                raise UserError(f"solver '{self.name}' needs tolerances between 0 and 1, not {tolerance:g}")

    def tuned(self, value: float) -> Adaptive:
        """The same method with ``value`` as both tolerances.

        Raises:
            UserError: it is not between 0 and 1.
        """
        return replace(self, rtol=value, atol=value)

    def __call__(self, problem: Problem) -> Tensor:
        """Integrate from the first to the last grid point.

        Returns:
            (B, T, C) the end point.

        Raises:
            UserError: no step size satisfies the tolerance.
        """
        if self.together or len(problem.x) == 1:
            return self._integrate(problem, slice(None))
        return torch.cat([self._integrate(problem, slice(i, i + 1)) for i in range(len(problem.x))])

    def _integrate(self, problem: Problem, items: slice) -> Tensor:
        """The end points of some items while the others wait at their start."""
        from torchdiffeq import odeint

        grid, x0 = problem.grid, problem.x
        low, high = sorted((float(grid[0]), float(grid[-1])))
        alone = len(x0[items]) == len(x0)

        def inside(t: Tensor, x: Tensor) -> Tensor:
            # The probe for the first step size may look past the end, where no network was trained.
            t = t.detach().to("cpu", torch.float64).clamp(low, high)
            if alone:
                # A copy: torchdiffeq keeps slopes, and the field may return the same buffer at every call.
                return problem.field(t, x).to(x.dtype, copy=True)
            whole = torch.cat((x0[: items.start], x, x0[items.stop :]))
            return problem.field(t, whole)[items].to(x.dtype, copy=True)

        # Apple's GPUs have no float64.
        time_dtype = torch.float32 if x0.device.type == "mps" else torch.float64
        ends = grid[[0, -1]].to(time_dtype).to(x0.device)
        # With step_t the last step ends on the end point; without, it overshoots and interpolates back.
        options = {"dtype": time_dtype, "step_t": ends[1:], "max_num_steps": self.max_steps}
        try:
            path: Tensor = odeint(
                inside, x0[items], ends, rtol=self.rtol, atol=self.atol, method=self.method, options=options
            )
        except AssertionError as failure:
            raise UserError(
                f"solver '{self.name}' found no steps that meet the tolerance {max(self.rtol, self.atol):g}: "
                f"loosen it (for example {self.name}:1e-3), use a fixed solver, or check that the field is finite"
            ) from failure
        return path[-1]
