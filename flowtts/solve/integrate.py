"""`solve`: from noise to data through any field, by any solver, over any grid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from flowtts.path import CondOT, Schedule
from flowtts.solve.adaptive import Adaptive
from flowtts.solve.fixed import FixedStep, FlowMapStep
from flowtts.solve.grid import grid_named
from flowtts.solve.multistep import AdamsBashforth
from flowtts.solve.problem import Metered, Problem, Rng, Solver
from flowtts.solve.schedulers import DIFFUSERS
from flowtts.solve.spelling import lookup
from flowtts.solve.stochastic import Diffusion, EulerMaruyama
from flowtts.solve.tableau import TABLEAUX
from flowtts.types import Field, Sampling


@dataclass(frozen=True, eq=False)
class Solution:
    """The end of a trajectory and its cost.

    Attributes:
        x: (B, T, C) in the dtype of the start.
        nfe: evaluations of the field.
        network_calls: what they cost the network, e.g. 2 each under guidance.
    """

    x: Tensor
    nfe: int
    network_calls: int


SOLVERS: Mapping[str, Solver] = {
    **{name: FixedStep(tableau) for name, tableau in TABLEAUX.items()},
    "ab2": AdamsBashforth("ab2", 2),
    "ab3": AdamsBashforth("ab3", 3),
    "flowmap": FlowMapStep(),
    "dpm++1": Diffusion("dpm++1"),
    "dpm++2m": Diffusion("dpm++2m", order=2),
    "ddim": Diffusion("ddim", tunable=True),
    "ddpm": Diffusion("ddpm", eta=1.0, learned=True),
    "sde-dpm++1": Diffusion("sde-dpm++1", eta=1.0, noising="sde", tunable=True),
    "sde-dpm++2m": Diffusion("sde-dpm++2m", order=2, eta=1.0, noising="sde", tunable=True),
    "euler-maruyama": EulerMaruyama(),
    "dopri5": Adaptive("dopri5", "dopri5"),
    "bosh3": Adaptive("bosh3", "bosh3"),
    "adaptive-heun": Adaptive("adaptive-heun", "adaptive_heun"),
    "dopri5-batch": Adaptive("dopri5-batch", "dopri5", together=True),
    "bosh3-batch": Adaptive("bosh3-batch", "bosh3", together=True),
    "adaptive-heun-batch": Adaptive("adaptive-heun-batch", "adaptive_heun", together=True),
    **DIFFUSERS,
}
"""Every solver by name."""


def solver_named(spelling: str) -> Solver:
    """The solver called "midpoint", "dopri5:1e-4" (tolerance), "ddim:0.5" (eta), "diffusers-unipc" ...

    Raises:
        UserError: no such solver, or a parameter that it refuses.
    """
    solver, value = lookup("solver", SOLVERS, spelling)
    return solver if value is None else solver.tuned(value)


_CONDOT = CondOT()


def solve(
    field: Field,
    x0: Tensor,
    sampling: Sampling,
    span: tuple[float, float] = (0.0, 1.0),
    *,
    schedule: Schedule = _CONDOT,
    rng: Rng = None,
) -> Solution:
    """Follow dx/dt = field(t, x) from ``x0``.

    Reads the solver, grid and steps of ``sampling``; guidance lives in the field (`flowtts.solve.guided`) and
    temperature in ``x0``. Gradients flow through all but the adaptive solvers if enabled: to sample, call under
    ``torch.inference_mode()``, where the solvers reuse their buffers. The state is kept in float32 at least,
    whatever dtype the field computes in.

    Args:
        field: (t, x (B, T, C)) -> velocity (B, T, C). ``t`` is a 0-dim float64 tensor on the CPU, so that reading it
            never waits for a GPU; ``x`` has the dtype of ``x0``. Without autograd x is a buffer that the next
            evaluation may overwrite: a field that keeps it must copy it, and none may write to it.
        x0: (B, T, C) the state at ``span[0]``.
        sampling: how to solve.
        span: first and last time. Stop short of a singular end (see `flowtts.path.to_velocity`);
            (1, 0) inverts data to noise over the same grid points.
        schedule: the path of the field, for solvers that see data and noise in its velocity (dpm++, ddim, ddpm ...).
        rng: where stochastic solvers draw: one generator, or one per item for results that do not depend on company.

    Raises:
        UserError: unknown solver or grid, a parameter out of range, fewer than one step, an adaptive solver
            that cannot reach its tolerance, a stochastic one without rng or from data to noise, or "flowmap" with a
            field that is none.
        ValueError: the field returns another shape than it was given.
    """
    solver = solver_named(sampling.solver)
    low, high = (torch.tensor(end, dtype=torch.float64) for end in sorted(span))
    grid = torch.lerp(low, high, grid_named(sampling.grid)(sampling.steps))
    if span[0] > span[1]:
        grid = grid.flip(0)
    metered = Metered(field, x0.dtype)
    start = x0.to(torch.promote_types(x0.dtype, torch.float32))
    x = solver(Problem(metered, start, grid, schedule, rng))
    return Solution(x.to(x0.dtype), metered.nfe, metered.network_calls)
