"""Diffusion samplers on any Gaussian path, with and without noise.

All of them are linear in what they are given: x' = a x + b v + c (D - D_before) + d z, with the velocity v, the data
D that it implies and fresh noise z. A solver is a table of these numbers, worked out in float64 before the first
evaluation from x = alpha D + sigma E, v = alpha' D + sigma' E. No step divides by alpha or by a sigma that may be
zero, so that paths which start without data or end without noise need no care.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from flowtts.path import Coefficients, log_snr
from flowtts.solve.fixed import no_parameter
from flowtts.solve.problem import Problem
from flowtts.types import UserError


class _Step(NamedTuple):
    """x' = of_x x + of_v v + change (D - D_before) + noise exp(share spread) z, with D = data_x x + data_v v."""

    of_x: float
    of_v: float
    data_x: float
    data_v: float
    change: float
    noise: float
    spread: float


@dataclass(frozen=True)
class Diffusion:
    """Exponential integrators in lambda = log(alpha / sigma): DDPM, DDIM and DPM-Solver++ in one formula.

    From s to t, with h = lambda_t - lambda_s and the share k of the estimated noise E that is kept,

        x_t = alpha_t D + sigma_t (k E + sqrt(1 - k^2) z) + (alpha_t - k alpha_s sigma_t / sigma_s) (D - D_before) / 2r,

    the last term for order 2 only, r = h_before / h. k = 1 is deterministic; k = exp(-h) is the ancestral posterior
    of any Gaussian path (for the variance-preserving one that of DDPM, arXiv 2006.11239, eq. 6 and 7); between them
    lie k = sqrt(1 - eta^2 (1 - exp(-2h))), DDIM's (arXiv 2010.02502, eq. 16), and k = exp(-eta h), that of the
    reverse SDE (SDE-DPM-Solver++, arXiv 2211.01095, eq. 18 and 19, for eta = 1). One evaluation per step.

    Where the network learnt the variance of its steps, ``learned`` takes it: its share v of the logarithm between the
    posterior's, beta~ = sigma_t^2 (1 - k^2), and the step's own, beta = beta~ (sigma_s / sigma_t)^2 (arXiv 2102.09672,
    eq. 15). Other fields keep beta~.

    Order 2 falls back to 1 at the first step, at the last (whose h is large or infinite) and beside infinite lambdas.

    Attributes:
        name: as users spell it.
        order: 1 or 2.
        eta: how much noise; 0 none, 1 that of the reverse process.
        noising: which of the two formulas for k.
        tunable: whether users may write eta after a colon.
        learned: whether the network's own variance counts.
    """

    name: str
    order: Literal[1, 2] = 1
    eta: float = 0.0
    noising: Literal["ddim", "sde"] = "ddim"
    tunable: bool = False
    learned: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise UserError(f"solver '{self.name}' takes an eta from 0 (no noise) to 1, not {self.eta:g}")

    def tuned(self, value: float) -> Diffusion:
        """The same solver with another eta.

        Raises:
            UserError: it has none, or ``value`` is not between 0 and 1.
        """
        if not self.tunable:
            raise no_parameter(self.name, value)
        return replace(self, eta=value)

    def __call__(self, problem: Problem) -> Tensor:
        """Sample along the grid.

        Raises:
            UserError: noise is wanted and there is no rng, or the grid leads from data to noise.
        """
        if self.eta:
            problem.require_forward(self.name)
            problem.require_rng(self.name)
        return _run(problem, self._steps(problem))

    def _steps(self, problem: Problem) -> list[_Step]:
        grid = problem.grid
        here, there = _split(problem.schedule(grid))
        # exp(-h), finite even where lambda is not.
        decay = here.alpha * there.sigma / (there.alpha * here.sigma)
        if not self.eta:
            keep = torch.ones_like(decay)
        elif self.noising == "ddim":
            keep = torch.sqrt(1 - self.eta**2 * (1 - decay**2))
        else:
            keep = decay**self.eta
        x, v = mix(here, there.alpha, there.sigma * keep)
        data_x, data_v = mix(here, torch.ones_like(decay), torch.zeros_like(decay))
        weight = there.alpha - keep * here.alpha * there.sigma / here.sigma
        noise = there.sigma * torch.sqrt((1 - keep**2).clamp(min=0))
        change = torch.zeros_like(weight)
        if self.order == 2:
            h = log_snr(problem.schedule, grid).diff()
            growth = h[1:] / (2 * h[:-1])
            # Inside, between an infinite step and the last: everything else is first order.
            change[1:-1] = torch.where(growth.isfinite(), weight[1:] * growth, 0.0)[:-1]
        spread = torch.zeros_like(noise)
        if self.learned:
            spread = torch.where(noise > 0, torch.log(here.sigma / there.sigma), 0.0)
        return _table(x, v, data_x, data_v, change, noise, spread)


@dataclass(frozen=True)
class EulerMaruyama:
    """The stochastic process with the marginals of the flow: dx = (v - c E) dt + sqrt(2 c sigma) dw.

    E is the estimated noise, -sigma times the score, so that this is arXiv 2401.08740, eq. 4, with w_t = 2 c sigma_t:
    noise stirs the sample and forgets earlier errors. The last step is Euler's, without noise.

    Attributes:
        name: as users spell it.
        churn: c.
    """

    name: str = "euler-maruyama"
    churn: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.churn <= 10:
            raise UserError(f"solver '{self.name}' takes a churn from 0 (Euler) to 10, not {self.churn:g}")

    def tuned(self, value: float) -> EulerMaruyama:
        """The same process with another churn.

        Raises:
            UserError: ``value`` is not between 0 and 10.
        """
        return replace(self, churn=value)

    def __call__(self, problem: Problem) -> Tensor:
        """Sample along the grid.

        Raises:
            UserError: there is no rng, or the grid leads from data to noise.
        """
        if self.churn:
            problem.require_forward(self.name)
            problem.require_rng(self.name)
        here, _ = _split(problem.schedule(problem.grid))
        h = problem.grid.diff()
        churn = torch.full_like(h, self.churn)
        churn[-1] = 0
        zero = torch.zeros_like(h)
        x, v = mix(here, zero, -h * churn)
        noise = torch.sqrt((2 * churn * here.sigma * h).clamp(min=0))
        return _run(problem, _table(1 + x, h + v, zero, zero, zero, noise, zero))


def _split(at: Coefficients) -> tuple[Coefficients, Coefficients]:
    """The beginnings and the ends of all steps."""
    return Coefficients(*(c[:-1] for c in at)), Coefficients(*(c[1:] for c in at))


def mix(at: Coefficients, data: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """What ``data`` D + ``noise`` E takes of x and of v, for x = alpha D + sigma E and v = alpha' D + sigma' E.

    All of one shape; returns two of it. The algebra of `flowtts.path.to_data`, for weights known beforehand.
    """
    determinant = at.d_alpha * at.sigma - at.alpha * at.d_sigma
    return (
        (noise * at.d_alpha - data * at.d_sigma) / determinant,
        (data * at.sigma - noise * at.alpha) / determinant,
    )


def _table(*columns: Tensor) -> list[_Step]:
    return [_Step(*row) for row in torch.stack(columns, dim=1).tolist()]


def _run(problem: Problem, steps: Sequence[_Step]) -> Tensor:
    """The one loop; without autograd it allocates nothing."""
    x = problem.x
    multistep = any(step.change for step in steps)
    room, spare, *keep = problem.buffers(4 if multistep else 2)
    noise = problem.buffers(1)[0] if any(step.noise for step in steps) else None
    before = x
    for n, (t, step) in enumerate(zip(problem.grid[:-1].unbind(), steps, strict=True)):
        v = problem.field(t, x)
        after = torch.mul(x, step.of_x, out=room)
        after = torch.add(after, v, alpha=step.of_v, out=room)
        if multistep:
            data = torch.mul(x, step.data_x, out=keep[n % 2])
            data = torch.add(data, v, alpha=step.data_v, out=keep[n % 2])
            if step.change:
                after = torch.add(after, data, alpha=step.change, out=room)
                after = torch.add(after, before, alpha=-step.change, out=room)
            before = data
        if step.noise:
            drawn = problem.noise(noise)
            share = problem.field.share(t) if step.spread else None
            if share is not None:
                drawn = torch.mul(drawn, torch.exp(share * step.spread), out=noise)
            after = torch.add(after, drawn, alpha=step.noise, out=room)
        x, room, spare = after, spare, room
    return x
