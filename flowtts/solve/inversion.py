"""Backwards: the noise that a recording came from, and how well the sampler finds its way back to it.

The field's ordinary differential equation runs in both directions (the probability-flow ODE of arXiv 2011.13456,
4.3), so that integrating from t = 1 to t = 0 encodes data as noise. What limits that in practice:

* A discrete step backwards is not the inverse of the step forwards; `METHODS` has two answers to that.
* A conditional speech model decides much near t = 0, and there a recording's noise is the most easily lost: on the
  shipped Voicebox a grid that crowds the noise end ("sway") returns several times as precisely as a uniform one.
* Near t = 1 the exact flow contracts by sigma_min (1e-5) whatever the model holds impossible, and its inverse expands
  that as much. Noise whose deviation is far from 1 says that the recording is not what the model would generate.
  A field that is singular at an end (see `flowtts.path.to_velocity`) needs a ``span`` that stops short of it.
* Guidance: the field of scale 1 carries noise to data and back, and its noise is Gaussian. Any other scale, interval
  or schedule over t is a field too and inverts likewise, less accurately as it is stiffer; but nothing says
  that its noise is Gaussian. The round trip needs the *same* guidance there and back: inverting with one scale and
  generating with another is an edit. Stochastic solvers have no inverse.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from flowtts.path import CondOT, Schedule
from flowtts.solve.fixed import FixedStep
from flowtts.solve.grid import grid_named
from flowtts.solve.integrate import Solution, solve, solver_named
from flowtts.solve.spelling import lookup
from flowtts.solve.stochastic import Diffusion
from flowtts.types import Field, Sampling, UserError

Span = tuple[float, float]

_CONDOT = CondOT()

ITERATIONS = 16
"""Corrections of one step at most."""

TOLERANCE = 1e-5
"""What is left of one step, relative to the state: float32 bears little less, and the way back multiplies it."""


@dataclass(frozen=True, eq=False)
class RoundTrip:
    """A recording to noise and back.

    Attributes:
        noise: (B, T, C) the state at ``span[0]``.
        x1: (B, T, C) what the sampler makes of it.
        error: (B,) float64, |returned - given| / |given| over the frames that count.
        nfe: evaluations of the field, both ways together.
        network_calls: of them.
    """

    noise: Tensor
    x1: Tensor
    error: Tensor
    nfe: int
    network_calls: int


def invert(
    field: Field,
    x1: Tensor,
    sampling: Sampling,
    *,
    method: str = "reverse",
    span: Span = (0.0, 1.0),
    schedule: Schedule = _CONDOT,
    mask: Tensor | None = None,
) -> Solution:
    """The noise from which ``solve(field, noise, sampling, span)`` makes ``x1``, as nearly as the method goes.

    "reverse" solves the same equation with the same solver over the same grid from its end: as many evaluations as
    sampling takes, and an error of the solver's order. "fixed-point" inverts each of the sampler's own steps
    x' = Phi(x): starting from the step taken backwards, x <- x + x' - Phi(x) (arXiv 2309.04907, there for DDIM), each
    item with its own Anderson acceleration of depth one, which converges where the plain iteration does not; at most
    `ITERATIONS` times, until |x' - Phi(x)| <= tolerance |x'|. "fixed-point:1e-4" sets that tolerance. An item stops
    for itself, so that its result does not depend on its company.

    Guidance is the field's; the temperature of ``sampling`` is not read. No gradients are wanted here: call under
    ``torch.inference_mode()``.

    Args:
        field: (t, x (B, T, C)) -> velocity.
        x1: (B, T, C) data, all frames, known ones too.
        sampling: solver, grid and steps.
        method: of `METHODS`, perhaps with a tolerance.
        span: times of noise and data, as for sampling.
        schedule: the path of the field, for the solvers that need it.
        mask: (B, T) bool frames by which "fixed-point" judges its progress; all by default. Give it where there is
            padding, or the padding has a say.

    Raises:
        UserError: an unknown method, or a solver whose steps "fixed-point" cannot invert.
    """
    inverse, tolerance = lookup("inversion method", METHODS, method)
    return inverse(field, x1, sampling, span, schedule, mask, tolerance)


def round_trip(
    field: Field,
    x1: Tensor,
    sampling: Sampling,
    *,
    method: str = "reverse",
    span: Span = (0.0, 1.0),
    schedule: Schedule = _CONDOT,
    mask: Tensor | None = None,
) -> RoundTrip:
    """To noise by `invert` and back by `solve`, with the relative error.

    Args:
        field: as for `invert`, like all that follow.
        x1: (B, T, C) data.
        sampling: solver, grid and steps, the same both ways.
        method: of `METHODS`.
        span: times of noise and data.
        schedule: the path of the field.
        mask: (B, T) bool frames over which the error is taken: the real ones, or those that a model with a prompt
            generates. All by default.

    Raises:
        UserError: as `invert`.
    """
    there = invert(field, x1, sampling, method=method, span=span, schedule=schedule, mask=mask)
    back = solve(field, there.x, sampling, span, schedule=schedule)
    error = _norm(back.x.double() - x1.double(), mask) / _norm(x1.double(), mask)
    return RoundTrip(there.x, back.x, error, there.nfe + back.nfe, there.network_calls + back.network_calls)


def _reverse(
    field: Field,
    x1: Tensor,
    sampling: Sampling,
    span: Span,
    schedule: Schedule,
    mask: Tensor | None,
    tolerance: float | None,
) -> Solution:
    if tolerance is not None:
        raise UserError(f"inversion method 'reverse' takes no parameter, but was given {tolerance:g}: drop the ':'")
    return solve(field, x1, sampling, (span[1], span[0]), schedule=schedule)


def _fixed_point(
    field: Field,
    x1: Tensor,
    sampling: Sampling,
    span: Span,
    schedule: Schedule,
    mask: Tensor | None,
    tolerance: float | None,
) -> Solution:
    tolerance = TOLERANCE if tolerance is None else tolerance
    if not tolerance > 0:
        raise UserError(f"inversion method 'fixed-point' needs a tolerance above 0, not {tolerance:g}")
    solver = solver_named(sampling.solver)
    if not isinstance(solver, FixedStep) and not (
        isinstance(solver, Diffusion) and solver.order == 1 and not solver.eta
    ):
        raise UserError(
            f"inversion method 'fixed-point' needs a solver whose steps stand alone (midpoint, rk4, ddim ...), not "
            f"'{sampling.solver}': choose one, or the method 'reverse'"
        )
    low, high = (torch.tensor(end, dtype=torch.float64) for end in span)
    times = torch.lerp(low, high, grid_named(sampling.grid)(sampling.steps)).tolist()
    one = replace(sampling, grid="uniform", steps=1)
    cost = _Cost()

    def step(x: Tensor, start: float, end: float) -> Tensor:
        return cost.add(solve(field, x, one, (start, end), schedule=schedule))

    x = x1
    for start, end in zip(times[-2::-1], times[:0:-1], strict=True):
        # The step in question leads from start, where x is unknown, to end.
        x = _solve_step(partial(step, start=start, end=end), step(x, end, start), x, mask, tolerance)
    return Solution(x, cost.nfe, cost.network_calls)


def _solve_step(
    phi: Callable[[Tensor], Tensor], x: Tensor, goal: Tensor, mask: Tensor | None, tolerance: float
) -> Tensor:
    """The x with phi(x) = goal, from a guess; items that have arrived stay as they are."""
    allowed = tolerance * _norm(goal, mask)
    last: tuple[Tensor, Tensor] | None = None
    for _ in range(ITERATIONS):
        residual = goal - phi(x)
        going = _norm(residual, mask) > allowed
        if not bool(going.any()):
            break
        move = residual
        if last is not None:
            moved, change = x - last[0], residual - last[1]
            weight = _dot(change, residual, mask) / _dot(change, change, mask)
            # An item that stands still has no change; a weight beyond 1 would bet on what two points cannot show.
            weight = torch.nan_to_num(weight).clamp(-1, 1).to(x.dtype)[:, None, None]
            move = residual - weight * (moved + change)
        last = x, residual
        x = torch.where(going[:, None, None], x + move, x)
    return x


def _dot(x: Tensor, y: Tensor, mask: Tensor | None) -> Tensor:
    """(B,) float64 inner products of (B, T, C) over the frames of ``mask``."""
    product = (x.double() * y.double()).sum(2)
    return (product if mask is None else product.masked_fill(~mask, 0)).sum(1)


def _norm(x: Tensor, mask: Tensor | None) -> Tensor:
    return _dot(x, x, mask).sqrt()


@dataclass
class _Cost:
    """What single steps cost together."""

    nfe: int = 0
    network_calls: int = 0

    def add(self, solution: Solution) -> Tensor:
        self.nfe += solution.nfe
        self.network_calls += solution.network_calls
        return solution.x


Inverse = Callable[[Field, Tensor, Sampling, Span, Schedule, Tensor | None, float | None], Solution]

METHODS: Mapping[str, Inverse] = {"reverse": _reverse, "fixed-point": _fixed_point}
"""Ways of inverting, by name."""
