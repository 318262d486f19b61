"""What the tests of solvers share: a Gaussian whose flow is known in closed form on every path."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from flowtts.path import CondOT, Schedule
from flowtts.solve import Rng, solve
from flowtts.types import Sampling


def noise(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def order(steps: list[int], errors: list[float]) -> float:
    """The slope of log(error) against log(1 / steps), least squares."""
    x, y = torch.tensor(steps).double().log(), torch.tensor(errors).double().log()
    return -float(((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum())


_CONDOT = CondOT()


@dataclass(frozen=True)
class Gaussian:
    """Data N(mu, s^2) on a path: exact marginal velocity, flow map and mean velocity."""

    schedule: Schedule = _CONDOT
    mu: float = 1.3
    s: float = 0.4

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        alpha, sigma, d_alpha, d_sigma = (float(c) for c in self.schedule(t))
        r = (x - alpha * self.mu) / (alpha**2 * self.s**2 + sigma**2)
        return d_alpha * (self.mu + alpha * self.s**2 * r) + d_sigma * sigma * r

    def moments(self, t: float | Tensor) -> tuple[float, float]:
        alpha, sigma, _, _ = self.schedule(torch.as_tensor(t, dtype=torch.float64))
        return float(alpha * self.mu), float(torch.sqrt(alpha**2 * self.s**2 + sigma**2))

    def flow(self, x: Tensor, start: float | Tensor = 0.0, end: float | Tensor = 1.0) -> Tensor:
        (m0, s0), (m1, s1) = self.moments(start), self.moments(end)
        return m1 + (x - m0) * (s1 / s0)

    def average(self, t: Tensor, s: Tensor, x: Tensor) -> Tensor:
        return (self.flow(x, t, s) - x) / float(s - t)

    def start(self, *shape: int, t: float = 0.0) -> Tensor:
        mean, deviation = self.moments(t)
        return mean + deviation * noise(*shape)

    def error(
        self, solver: str, steps: int, span: tuple[float, float] = (0.0, 1.0), grid: str = "uniform", draw: Rng = None
    ) -> float:
        x0 = self.start(4, 50, 1, t=span[0])
        how = Sampling(solver=solver, grid=grid, steps=steps)
        with torch.inference_mode():
            got = solve(self, x0, how, span, schedule=self.schedule, rng=draw).x
        return float((got - self.flow(x0, *span)).abs().max())
