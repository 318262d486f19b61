"""`solve`: from noise to data through any field, by any solver, over any grid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from flowtts.solve.adaptive import Adaptive
from flowtts.solve.fixed import FixedStep
from flowtts.solve.grid import GRIDS, Grid
from flowtts.solve.spelling import lookup
from flowtts.solve.tableau import TABLEAUX
from flowtts.types import Field, Sampling


class Solver(Protocol):
    """A way of following a field. It sees the whole grid, so that multistep methods fit as well."""

    def tuned(self, value: float) -> Solver:
        """Itself with the parameter users write after a colon, or a `UserError` if it has none."""
        ...

    def __call__(self, field: Field, x0: Tensor, grid: Tensor) -> Tensor:
        """From ``x0`` (B, T, C) at ``grid[0]`` to the state at ``grid[-1]``; ``grid`` (n + 1,) float64 on the CPU."""
        ...


@runtime_checkable
class Costed(Protocol):
    """A field that runs its network other than once per evaluation. A wrapper of such a field should be one too."""

    @property
    def calls_per_evaluation(self) -> int:
        """Network calls that one evaluation costs."""
        ...


@dataclass(frozen=True, eq=False)
class Solution:
    """The end of a trajectory and its cost.

    Attributes:
        x: (B, T, C) in the dtype of the start.
        nfe: evaluations of the field.
        network_calls: nfe times the field's calls per evaluation (2 under guidance).
    """

    x: Tensor
    nfe: int
    network_calls: int


SOLVERS: Mapping[str, Solver] = {
    **{name: FixedStep(tableau) for name, tableau in TABLEAUX.items()},
    "dopri5": Adaptive("dopri5"),
    "bosh3": Adaptive("bosh3"),
}
"""Every solver by name."""


def solver_named(spelling: str) -> Solver:
    """The solver called "midpoint", "dopri5", "dopri5:1e-4" (tolerance) ...

    Raises:
        UserError: no such solver, or a parameter that it refuses.
    """
    solver, value = lookup("solver", SOLVERS, spelling)
    return solver if value is None else solver.tuned(value)


def grid_named(spelling: str) -> Grid:
    """The grid called "uniform", "sway" (s = -1), "sway:-0.5" ...

    Raises:
        UserError: no such grid, or a parameter that it refuses.
    """
    grid, value = lookup("grid", GRIDS, spelling)
    return grid if value is None else grid.tuned(value)


def solve(field: Field, x0: Tensor, sampling: Sampling, *, span: tuple[float, float] = (0.0, 1.0)) -> Solution:
    """Follow dx/dt = field(t, x) from ``x0``.

    Reads the solver, grid and steps of ``sampling``; guidance lives in the field (`flowtts.solve.guided`) and
    temperature in ``x0``. Gradients flow through a fixed solver if enabled: to sample, call under
    ``torch.inference_mode()``. The state is kept in float32 at least, whatever dtype the field computes in.

    Args:
        field: (t scalar, x (B, T, C)) -> velocity (B, T, C); sees x in the dtype of ``x0``, t in that of the state.
        x0: (B, T, C) the state at ``span[0]``.
        sampling: how to solve.
        span: first and last time. Stop short of a singular end (see `flowtts.path.to_velocity`);
            (1, 0) inverts data to noise over the same grid points.

    Raises:
        UserError: unknown solver or grid, a parameter out of range, fewer than one step, or an adaptive solver
            that cannot reach its tolerance.
    """
    solver = solver_named(sampling.solver)
    low, high = (torch.tensor(end, dtype=torch.float64) for end in sorted(span))
    grid = torch.lerp(low, high, grid_named(sampling.grid)(sampling.steps))
    if span[0] > span[1]:
        grid = grid.flip(0)
    metered = _Metered(field, x0.dtype)
    x = solver(metered, x0.to(torch.promote_types(x0.dtype, torch.float32)), grid)
    calls = field.calls_per_evaluation if isinstance(field, Costed) else 1
    return Solution(x.to(x0.dtype), metered.count, metered.count * calls)


@dataclass
class _Metered:
    """A field that counts its evaluations and stands between the dtype of the state and its own."""

    field: Field
    dtype: torch.dtype
    count: int = 0

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        self.count += 1
        velocity = self.field(t, x.to(self.dtype))
        if velocity.shape != x.shape:
            # Broadcasting would hide this and integrate nonsense.
            raise ValueError(f"the field returned {tuple(velocity.shape)} for x of {tuple(x.shape)}")
        return velocity.to(x.dtype)
