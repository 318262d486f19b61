"""Log-densities against closed forms: Gaussians, exact and estimated divergences, masks, orders."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from flowtts.path import CondOT, Cosine, Schedule, VariancePreserving, to_velocity
from flowtts.solve.likelihood import log_likelihood
from flowtts.types import Field, Sampling, UserError

T, C = 2, 2
TIGHT = Sampling(solver="dopri5-batch:1e-8")
PATHS: list[tuple[Schedule, tuple[float, float]]] = [
    (CondOT(), (0.0, 1.0)),
    (CondOT(0.0), (0.0, 0.999)),
    (VariancePreserving(), (0.0, 0.999)),
    (Cosine(), (0.0, 0.99)),
]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Gaussian:
    """Data N(mean, covariance) over all T C numbers of an item, seen by a network that predicts the data."""

    def __init__(self, schedule: Schedule, correlated: bool) -> None:
        self.schedule = schedule
        self.mean = normal(T * C, seed=1)
        mixing = (
            normal(T * C, T * C, seed=2) / 2 if correlated else torch.diag(torch.linspace(0.3, 1.5, T * C).double())
        )
        self.covariance = mixing @ mixing.T + 0.05 * torch.eye(T * C, dtype=torch.float64)

    def at(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and covariance of x_t."""
        alpha, sigma, _, _ = self.schedule(t)
        return alpha * self.mean, alpha**2 * self.covariance + sigma**2 * torch.eye(T * C, dtype=torch.float64)

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        mean, covariance = self.at(t)
        alpha = self.schedule(t).alpha
        data = self.mean + alpha * torch.linalg.solve(covariance, (x.flatten(1) - mean).T).T @ self.covariance
        return to_velocity(self.schedule, "data", data.view_as(x), x, t)

    def draw(self, items: int, t: float) -> Tensor:
        mean, covariance = self.at(torch.tensor(t, dtype=torch.float64))
        drawn: Tensor = mean + normal(items, T * C, seed=3) @ torch.linalg.cholesky(covariance).T
        return drawn.view(items, T, C)

    def log_density(self, x: Tensor, t: float) -> Tensor:
        """(B,) by the formula of the multivariate normal distribution."""
        mean, covariance = self.at(torch.tensor(t, dtype=torch.float64))
        away = x.flatten(1) - mean
        squares = (away * torch.linalg.solve(covariance, away.T).T).sum(1)
        density: Tensor = -(squares + torch.logdet(covariance) + T * C * math.log(2 * math.pi)) / 2
        return density


def swinging(t: Tensor, x: Tensor) -> Tensor:
    """x' = x cos t, divergence n cos t: the log-density changes by n sin 1 exactly."""
    return x * torch.cos(t)


def bent(t: Tensor, x: Tensor) -> Tensor:
    """Neither linear nor diagonal."""
    return torch.sin(2 * x + 3 * t) + x.flip(2) * torch.cos(x.sum((1, 2), keepdim=True) + t)


@pytest.mark.parametrize("correlated", [False, True])
@pytest.mark.parametrize(("schedule", "span"), PATHS)
def test_gaussians_have_their_closed_form(schedule: Schedule, span: tuple[float, float], correlated: bool) -> None:
    model = Gaussian(schedule, correlated)
    x1 = model.draw(3, span[1])
    found = log_likelihood(model, x1, TIGHT, exact=True, span=span, schedule=schedule)
    exact = model.log_density(x1, span[1])
    torch.testing.assert_close(found.divergence, exact - model.log_density(found.noise, span[0]), rtol=0, atol=1e-5)
    # The paths of diffusion begin near N(0, I), not at it: a mean of 0.0066 of the data's.
    near = 1e-5 if float(schedule(torch.tensor(0.0)).alpha) == 0 else 0.1
    torch.testing.assert_close(found.total, exact, rtol=0, atol=near)
    standard = -(found.noise.square() + math.log(2 * math.pi)).sum((1, 2)) / 2
    torch.testing.assert_close(found.prior, standard, rtol=1e-4, atol=0)
    assert found.standard_error.tolist() == [0] * 3 and found.dimensions.tolist() == [T * C] * 3
    torch.testing.assert_close(found.bits_per_dimension, -exact / (T * C) / math.log(2), rtol=0, atol=near)
    torch.testing.assert_close(found.frames.sum(1), found.total)


@pytest.mark.parametrize("noise", ["rademacher", "gaussian"])
def test_hutchinson_lies_within_its_standard_error(noise: str) -> None:
    model = Gaussian(CondOT(), correlated=True)
    x1 = model.draw(8, 1.0)
    settings = Sampling(solver="midpoint", steps=8)
    # The same solve with the true divergence: what is left is the estimator's error alone.
    exact = log_likelihood(model, x1, settings, exact=True).total
    found = log_likelihood(model, x1, settings, rng=generator(), probes=40, noise=noise)  # type: ignore[arg-type]
    distance = ((found.total - exact) / found.standard_error).abs()
    assert float(found.standard_error.min()) > 0.01
    assert float(distance.max()) < 4 and float(distance.mean()) < 1.6
    fewer = log_likelihood(model, x1, settings, rng=generator(), probes=10, noise=noise)  # type: ignore[arg-type]
    assert 1.5 < float(fewer.standard_error.mean() / found.standard_error.mean()) < 2.6
    alone = log_likelihood(model, x1, settings, rng=generator())
    assert bool(alone.standard_error.isnan().all())


def test_signs_are_exact_for_a_diagonal_jacobian_and_normal_probes_are_not() -> None:
    model = Gaussian(CondOT(), correlated=False)
    x1, settings = model.draw(2, 1.0), Sampling(solver="rk4", steps=20)
    exact = log_likelihood(model, x1, settings, exact=True)
    signs = log_likelihood(model, x1, settings, rng=generator(), probes=2)
    torch.testing.assert_close(signs.total, exact.total)
    torch.testing.assert_close(signs.frames, exact.frames)
    assert float(signs.standard_error.max()) < 1e-10
    bells = log_likelihood(model, x1, settings, rng=generator(), noise="gaussian")
    assert float((bells.total - exact.total).abs().min()) > 1e-3


@pytest.mark.parametrize(
    ("solver", "order"), [("euler", 1), ("midpoint", 2), ("heun", 2), ("ab2", 2), ("rk3", 3), ("rk4", 4)]
)
def test_the_divergence_converges_at_the_order_of_the_solver(solver: str, order: int) -> None:
    x1 = normal(1, 1, 2)
    steps = 100 if order < 3 else 20
    truth = log_likelihood(bent, x1, Sampling(solver="rk4", steps=100), exact=True).total

    def error(steps: int) -> float:
        return float((log_likelihood(bent, x1, Sampling(solver=solver, steps=steps), exact=True).total - truth).abs())

    assert math.log2(error(steps // 2) / error(steps)) == pytest.approx(order, abs=0.35)


def test_a_linear_field_exactly() -> None:
    x1 = normal(2, 5, 3)
    found = log_likelihood(swinging, x1, Sampling(solver="rk4", steps=40), rng=generator())
    torch.testing.assert_close(found.divergence, torch.full((2,), -15 * math.sin(1), dtype=torch.float64))
    torch.testing.assert_close(found.noise, x1 * math.exp(-math.sin(1)))
    assert (found.nfe, found.network_calls) == (160, 160)


@pytest.mark.parametrize("exact", [False, True])
def test_only_the_mask_counts_and_the_rest_stands_still(exact: bool) -> None:
    x1 = normal(2, 6, 3)
    mask = torch.zeros(2, 6, dtype=torch.bool)
    mask[0, 1:4], mask[1, 2:] = True, True
    seen: list[Tensor] = []

    def field(t: Tensor, x: Tensor) -> Tensor:
        seen.append(x.detach().clone())
        return swinging(t, x)

    settings = Sampling(solver="rk4", steps=30)
    found = log_likelihood(field, x1, settings, mask=mask, rng=generator(), exact=exact)
    assert found.dimensions.tolist() == [9, 12]
    expected = -math.sin(1) * found.dimensions.double()
    torch.testing.assert_close(found.divergence, expected)
    assert all(torch.equal(x[~mask], x1[~mask]) for x in seen)
    torch.testing.assert_close(found.noise[~mask], x1[~mask], rtol=0, atol=0)
    assert not found.frames[~mask].any() and bool(found.frames[mask].all())
    alone = log_likelihood(swinging, x1[:1, 1:4], settings, rng=generator(), exact=exact)
    torch.testing.assert_close(found.total[:1], alone.total)


@pytest.mark.parametrize("noise", ["rademacher", "gaussian"])
def test_an_item_depends_neither_on_company_nor_on_padding(noise: str) -> None:
    def field(t: Tensor, x: Tensor) -> Tensor:
        return torch.sin(2 * x + 3 * t) + x.flip(2) * torch.cos(x)

    def run(x1: Tensor, mask: Tensor, seeds: list[int]) -> Tensor:
        rngs = [generator(seed) for seed in seeds]
        settings = Sampling(solver="midpoint", steps=6)
        return log_likelihood(field, x1, settings, mask=mask, rng=rngs, probes=3, noise=noise).total  # type: ignore[arg-type]

    x1 = normal(2, 9, 5)
    mask = torch.ones(2, 9, dtype=torch.bool)
    mask[0, 7:] = False
    both = run(x1, mask, [1, 2])
    torch.testing.assert_close(both, run(x1, mask, [1, 2]), rtol=0, atol=0)
    torch.testing.assert_close(both[:1], run(x1[:1, :7], mask[:1, :7], [1]), rtol=0, atol=1e-10)
    torch.testing.assert_close(both[1:], run(x1[1:], mask[1:], [2]), rtol=0, atol=1e-10)
    assert float((both - run(x1, mask, [3, 4])).abs().min()) > 1e-3


def test_runs_under_inference_mode_and_leaves_weights_alone() -> None:
    layer = torch.nn.Linear(3, 3)
    x1 = normal(1, 4, 3).float()

    def field(t: Tensor, x: Tensor) -> Tensor:
        return torch.tanh(layer(x)) * float(t)

    def run() -> Tensor:
        return log_likelihood(field, x1, Sampling(solver="midpoint", steps=4), rng=generator(), probes=2).total

    with torch.inference_mode():
        inside = run()
    with torch.no_grad():
        outside = run()
    torch.testing.assert_close(inside, outside, rtol=0, atol=0)
    assert layer.weight.grad is None and not outside.requires_grad


def test_costs_are_the_fields_own_and_a_field_at_rest_has_no_divergence() -> None:
    class Late:
        """Zero at first, as under CFG-Zero*."""

        def __call__(self, t: Tensor, x: Tensor) -> Tensor:
            return torch.zeros_like(x) if float(t) < 0.5 else x

        def calls(self, t: float) -> int:
            return 0 if t < 0.5 else 2

    found = log_likelihood(Late(), normal(1, 2, 2), Sampling(solver="euler", steps=4), exact=True)
    # At t = 1, 3/4, 1/2: three steps of 1/4 with divergence 4.
    assert (found.nfe, found.network_calls) == (4, 6)
    assert found.divergence.item() == pytest.approx(-3)


@pytest.mark.parametrize("solver", ["dpm++2m", "ddim", "ddpm", "flowmap", "diffusers-euler"])
def test_solvers_of_other_things_than_velocities_are_refused(solver: str) -> None:
    with pytest.raises(UserError, match=r"integrates the velocity"):
        log_likelihood(swinging, normal(1, 2, 2), Sampling(solver=solver), exact=True)


def test_misuse() -> None:
    def run(field: Field, **options: object) -> Callable[[], object]:
        return lambda: log_likelihood(field, normal(1, 2, 2), Sampling(), **options)  # type: ignore[arg-type]

    @torch.no_grad()
    def blind(t: Tensor, x: Tensor) -> Tensor:
        return 2 * x

    for call, message in (
        (run(swinging), "needs a generator"),
        (run(swinging, rng=generator(), probes=0), "at least one probe"),
        (run(swinging, rng=generator(), noise="uniform"), "rademacher or gaussian"),
        (run(blind, exact=True), "no gradient"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
