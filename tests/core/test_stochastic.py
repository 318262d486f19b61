"""Diffusion samplers: their papers' formulas, exact marginals, observed orders."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from solving import Gaussian, noise, order, rng
from torch import Tensor

from flowtts.path import SCHEDULES, CondOT, Discrete, Schedule, VariancePreserving, log_snr, to_data, to_noise
from flowtts.solve import Problem, solve, solver_named
from flowtts.solve.problem import Metered
from flowtts.types import Sampling

NAMES = sorted(SCHEDULES)
ANCESTRAL = ["ddpm", "ddim:0", "ddim:0.5", "ddim:1", "sde-dpm++1", "sde-dpm++1:0.3", "sde-dpm++2m", "sde-dpm++2m:0.5"]


def along(field: Gaussian, solver: str, x0: Tensor, grid: Tensor, seed: int = 0) -> Tensor:
    """Solve over any times."""
    metered = Metered(field, x0.dtype)
    with torch.inference_mode():
        return solver_named(solver)(Problem(metered, x0, grid, field.schedule, rng(seed)))


def even_lambda(schedule: Schedule, steps: int, start: float, end: float) -> Tensor:
    """Times whose lambdas lie at equal distances."""
    first, last = log_snr(schedule, torch.tensor([start, end], dtype=torch.float64)).tolist()
    return schedule.time_of(torch.linspace(first, last, steps + 1, dtype=torch.float64))


@pytest.mark.parametrize("name", NAMES)
def test_without_noise_ddim_dpm_and_the_sde_are_one(name: str) -> None:
    field = Gaussian(SCHEDULES[name])
    x0, grid = field.start(2, 50, 1, t=0.01), torch.linspace(0.01, 0.97, 12, dtype=torch.float64)
    first = along(field, "dpm++1", x0, grid)
    for other in ("ddim", "ddim:0", "sde-dpm++1:0"):
        torch.testing.assert_close(along(field, other, x0, grid), first, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(
        along(field, "sde-dpm++2m:0", x0, grid), along(field, "dpm++2m", x0, grid), rtol=1e-10, atol=1e-10
    )
    assert not torch.allclose(along(field, "ddim:0.5", x0, grid), first, atol=1e-2)


@pytest.mark.parametrize("sigma_min", [0.0, 1e-5, 0.1])
def test_on_straight_lines_ddim_is_euler(sigma_min: float) -> None:
    field, x0 = Gaussian(CondOT(sigma_min)), noise(2, 50, 1)
    for span in ((0.0, 1.0), (0.95, 0.05)):
        euler, ddim = (
            solve(field, x0, Sampling(solver=s, grid="sway", steps=9), span, schedule=field.schedule).x
            for s in ("euler", "ddim")
        )
        torch.testing.assert_close(euler, ddim, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_a_step_on_the_discrete_schedule_is_that_of_the_papers(eta: float) -> None:
    """DDIM (arXiv 2010.02502, eq. 12 and 16) in its own symbols; with eta = 1 the posterior of DDPM."""
    schedule = Discrete.linear(1000)
    field, betas = Gaussian(schedule), torch.tensor(schedule.betas, dtype=torch.float64)
    bars = torch.cumprod(1 - betas, 0)
    s, t = 600, 599
    bar_s, bar_t = float(bars[s]), float(bars[t])
    grid = 1 - torch.tensor([s + 1, t + 1, t], dtype=torch.float64) / 1000
    x = field.start(3, 40, 1, t=float(grid[0]))
    v = field(grid[0], x)
    epsilon, data = (f(schedule, "velocity", v, x, grid[0]) for f in (to_noise, to_data))
    deviation = eta * math.sqrt((1 - bar_t) / (1 - bar_s)) * math.sqrt(1 - bar_s / bar_t)
    drawn = torch.empty_like(x).normal_(generator=rng(4))
    wanted = math.sqrt(bar_t) * data + math.sqrt(1 - bar_t - deviation**2) * epsilon + deviation * drawn
    got = along(field, f"ddim:{eta}", x, grid[:2], seed=4)
    torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-9)
    if eta == 1:
        # arXiv 2006.11239, eq. 11 and 6: the same mean and variance, from beta alone.
        beta = float(betas[s])
        mean = (x - beta / math.sqrt(1 - bar_s) * epsilon) / math.sqrt(1 - beta)
        posterior = mean + math.sqrt(beta * (1 - bar_t) / (1 - bar_s)) * drawn
        torch.testing.assert_close(got, posterior, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(got, along(field, "ddpm", x, grid[:2], seed=4), rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(got, along(field, "sde-dpm++1", x, grid[:2], seed=4), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("solver", ANCESTRAL)
def test_marginals_of_a_single_datum_are_exact_after_any_steps(solver: str, name: str) -> None:
    """All data is mu: the data is known at any noise, so that each step must land on N(alpha mu, sigma^2) exactly."""
    field, count = Gaussian(SCHEDULES[name], s=0.0), 20_000
    start, end = 0.05, 0.7
    mean, deviation = field.moments(end)
    for steps in (1, 4):
        grid = torch.linspace(start, end, steps + 1, dtype=torch.float64)
        x = along(field, solver, field.start(1, count, 1, t=start), grid, seed=steps)
        assert float(x.mean()) == pytest.approx(mean, abs=4 * deviation / math.sqrt(count))
        assert float(x.std()) == pytest.approx(deviation, rel=4 / math.sqrt(2 * count))


@pytest.mark.parametrize("name", ["condot", "vp", "cosine", "ddpm"])
@pytest.mark.parametrize(
    "solver", ["ddpm", "ddim:0.5", "sde-dpm++1", "sde-dpm++2m", "euler-maruyama", "euler-maruyama:3"]
)
def test_marginals_of_a_gaussian_approach_the_closed_form(solver: str, name: str) -> None:
    field, count = Gaussian(SCHEDULES[name]), 8000
    mean, deviation = field.moments(0.95)
    grid = torch.linspace(0.01, 0.95, 129, dtype=torch.float64)
    x = along(field, solver, field.start(1, count, 1, t=0.01), grid)
    # 4 standard errors, and the error of 128 steps.
    assert float(x.mean()) == pytest.approx(mean, abs=4 * deviation / math.sqrt(count) + 0.01)
    assert float(x.std()) == pytest.approx(deviation, rel=4 / math.sqrt(2 * count) + 0.05)


def test_noise_forgets_the_start_and_its_absence_does_not() -> None:
    field = Gaussian()
    x0, grid = field.start(1, 2000, 1), torch.linspace(0, 1, 65, dtype=torch.float64)

    def memory(solver: str) -> float:
        return float(torch.corrcoef(torch.stack((x0.flatten(), along(field, solver, x0, grid).flatten())))[0, 1])

    assert memory("ddim") > 0.999 and memory("euler-maruyama:0") > 0.999
    assert abs(memory("ddpm")) < 0.1
    assert 0.1 < memory("euler-maruyama:0.3") < 0.95
    assert memory("ddim:0.3") > memory("ddim:0.6") > memory("ddpm")


def test_the_published_table_of_dpm_solver() -> None:
    """Variance-preserving, equal steps of lambda: 2M falls about fourfold per doubling, first order twofold."""
    field = Gaussian(VariancePreserving())
    x0 = field.start(1, 5000, 1)

    def errors(solver: str, steps: list[int]) -> list[float]:
        grids = [even_lambda(field.schedule, n, 0.0, 1 - 1e-3) for n in steps]
        return [float((along(field, solver, x0, g) - field.flow(x0, 0.0, 1 - 1e-3)).abs().max()) for g in grids]

    steps = [20, 40, 80, 160]
    second, first = errors("dpm++2m", steps), errors("dpm++1", steps)
    assert all(3 < a / b < 5.5 for a, b in itertools.pairwise(second[1:]))
    assert all(1.7 < a / b < 2.2 for a, b in itertools.pairwise(first))
    assert order(steps, second) > 1.7 and order(steps, first) == pytest.approx(1, abs=0.1)
    assert all(a < b / 4 for a, b in zip(second, first, strict=True))


@pytest.mark.parametrize("grid", ["uniform", "sway", "cosine"])
@pytest.mark.parametrize("schedule", [CondOT(), CondOT(0.0), SCHEDULES["cosine"]])
def test_observed_order_across_infinite_lambdas(schedule: Schedule, grid: str) -> None:
    """Of order 2 but for a logarithm of the steps, which the steps beside an infinite lambda cost."""
    steps = [256, 512, 1024]
    field = Gaussian(schedule)
    first, second = ([field.error(s, n, grid=grid) for n in steps] for s in ("dpm++1", "dpm++2m"))
    assert order(steps, first) == pytest.approx(1, abs=0.1)
    assert order(steps, second) > 1.6
    assert all(a < b / 4 for a, b in zip(second, first, strict=True))
