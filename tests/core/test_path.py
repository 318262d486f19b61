"""Probability paths against their papers, autograd and each other."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from flowtts.path import (
    SCHEDULES,
    CondOT,
    Cosine,
    Discrete,
    OffsetCosine,
    Prediction,
    Schedule,
    VarianceExploding,
    VariancePreserving,
    interpolate,
    log_snr,
    to_data,
    to_noise,
    to_velocity,
)
from flowtts.types import UserError

KINDS: tuple[Prediction, ...] = ("velocity", "data", "noise")


def pair(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(0)
    x0, x1 = torch.randn(2, 5, 7, 3, generator=rng, dtype=torch.float64).to(dtype)
    return x0, x1


TIMES = torch.tensor([0.05, 0.3, 0.5, 0.77, 0.98], dtype=torch.float64)


@pytest.fixture(params=sorted(SCHEDULES))
def schedule(request: pytest.FixtureRequest) -> Schedule:
    return SCHEDULES[request.param]


def test_derivatives_equal_autograd(schedule: Schedule) -> None:
    t = torch.linspace(0.01, 0.99, 99, dtype=torch.float64, requires_grad=True)
    alpha, sigma, d_alpha, d_sigma = schedule(t)
    for value, derivative in ((alpha, d_alpha), (sigma, d_sigma)):
        # A constant (alpha of the exploding path) has no graph: its derivative is zero.
        gradient = (
            torch.autograd.grad(value.sum(), t, retain_graph=True)[0] if value.requires_grad else torch.zeros_like(t)
        )
        torch.testing.assert_close(derivative, gradient, rtol=1e-10, atol=1e-12)


def test_signal_to_noise_grows(schedule: Schedule) -> None:
    alpha, sigma, _, _ = schedule(torch.linspace(0, 1, 101, dtype=torch.float64)[:-1])
    assert ((alpha / sigma).diff() > 0).all()


def test_time_of_inverts_the_ratio_of_data_to_noise(schedule: Schedule) -> None:
    t = torch.linspace(0, 1, 203, dtype=torch.float64)[1:-1]
    torch.testing.assert_close(schedule.time_of(log_snr(schedule, t)), t, rtol=0, atol=1e-11)
    # Ends, whether finite or not, and beyond.
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    assert torch.equal(schedule.time_of(log_snr(schedule, ends)).round(decimals=9), ends)
    assert torch.equal(schedule.time_of(torch.tensor([-torch.inf, torch.inf], dtype=torch.float64)), ends)
    assert torch.equal(schedule.time_of(torch.tensor([-50.0, 50.0], dtype=torch.float64)).round(decimals=9), ends)


def test_velocity_is_the_time_derivative_of_the_point(schedule: Schedule) -> None:
    x0, x1 = pair()
    # Between the steps of the discrete schedule, where its rate changes.
    h, t = 1e-6, TIMES + 0.0004
    ahead, _ = interpolate(schedule, x0, x1, t + h)
    behind, _ = interpolate(schedule, x0, x1, t - h)
    _, velocity = interpolate(schedule, x0, x1, t)
    torch.testing.assert_close((ahead - behind) / (2 * h), velocity, rtol=1e-6, atol=1e-6)


def test_all_predictions_are_one(schedule: Schedule) -> None:
    x0, x1 = pair()
    x, velocity = interpolate(schedule, x0, x1, TIMES)
    for kind, prediction in zip(KINDS, (velocity, x1, x0), strict=True):
        for convert, wanted in ((to_velocity, velocity), (to_data, x1), (to_noise, x0)):
            got = convert(schedule, kind, prediction, x, TIMES)
            # The exploding path starts at 50 times the data's size, which costs digits of the data.
            torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-9)


def test_a_scalar_time_serves_the_whole_batch(schedule: Schedule) -> None:
    x0, x1 = pair()
    scalar = torch.tensor(0.3, dtype=torch.float64)
    x, velocity = interpolate(schedule, x0, x1, scalar)
    many, _ = interpolate(schedule, x0, x1, scalar.expand(5))
    assert torch.equal(x, many)
    torch.testing.assert_close(to_velocity(schedule, "noise", x0, x, scalar), velocity)


@pytest.mark.parametrize("sigma", [0.0, 1e-5, 0.1])
def test_condot_is_the_paper(sigma: float) -> None:
    x0, x1 = pair()
    t = TIMES[:, None, None]
    x, velocity = interpolate(CondOT(sigma), x0, x1, TIMES)
    torch.testing.assert_close(x, (1 - (1 - sigma) * t) * x0 + t * x1)
    torch.testing.assert_close(velocity, x1 - (1 - sigma) * x0)
    eulerian = (x1 - (1 - sigma) * x) / (1 - (1 - sigma) * t)
    assert (eulerian - velocity).abs().max() < 1e-6
    start, _ = interpolate(CondOT(sigma), x0, x1, torch.zeros(5))
    end, _ = interpolate(CondOT(sigma), x0, x1, torch.ones(5))
    assert torch.equal(start, x0)
    torch.testing.assert_close(end, x1 + sigma * x0, rtol=0, atol=1e-15)


def test_condot_keeps_its_digits_at_the_data_in_float32() -> None:
    assert CondOT(1e-5)(torch.tensor(1.0)).sigma.item() == torch.tensor(1e-5).item()


def test_variance_preserving_is_the_paper() -> None:
    x0, x1 = pair()
    vp = VariancePreserving(0.1, 20.0)
    alpha, sigma, _, _ = vp(TIMES)
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones_like(alpha))
    # T(1) = beta_min + (beta_max - beta_min) / 2 = 10.05 at the noise end, 0 at the data end.
    torch.testing.assert_close(vp(torch.tensor(0.0)).alpha, torch.tensor(-10.05 / 2).exp())
    assert vp(torch.tensor(1.0)).alpha == 1 and vp(torch.tensor(1.0)).sigma == 0
    # u_t = alpha'/(1 - alpha^2) (alpha x - x1), alpha' taken in the paper's diffusion time.
    x, velocity = interpolate(vp, x0, x1, TIMES)
    s = (1 - TIMES).requires_grad_()
    a = torch.exp(-(0.1 * s + 19.9 * s**2 / 2) / 2)
    slope = torch.autograd.grad(a.sum(), s)[0][:, None, None]
    a = a.detach()[:, None, None]
    torch.testing.assert_close(velocity, slope / (1 - a**2) * (a * x - x1))


def test_cosine_and_exploding_ends() -> None:
    t = torch.tensor([0.0, 1.0], dtype=torch.float64)
    alpha, sigma, _, _ = Cosine()(t)
    torch.testing.assert_close(alpha, t)
    torch.testing.assert_close(sigma, 1 - t)
    alpha, sigma, _, _ = VarianceExploding(0.02, 80.0)(t)
    torch.testing.assert_close(alpha, torch.ones_like(t))
    torch.testing.assert_close(sigma, torch.tensor([80.0, 0.02], dtype=torch.float64))


def test_the_offset_cosine_is_the_paper() -> None:
    """Eq. 17: bar(t) = f(t) / f(0), f(t) = cos^2((t / T + s) / (1 + s) pi / 2), from data to noise."""
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    f = torch.cos((t + 0.008) / 1.008 * torch.pi / 2) ** 2
    alpha, sigma, _, _ = OffsetCosine()(1 - t)
    torch.testing.assert_close(alpha**2, f / f[0])
    torch.testing.assert_close(sigma**2, 1 - f / f[0], rtol=1e-9, atol=1e-15)
    assert sigma[0] == 0 and alpha[-1] == 0


@pytest.mark.parametrize("steps", [50, 1000, 4000])
def test_a_discrete_schedule_holds_the_products_of_its_betas(steps: int) -> None:
    schedule = Discrete.linear(steps)
    assert schedule.betas[0] == pytest.approx(0.1 / steps) and schedule.betas[-1] == pytest.approx(20 / steps)
    bars = torch.cumprod(1 - torch.tensor(schedule.betas, dtype=torch.float64), 0)
    t = 1 - torch.arange(1, steps + 1, dtype=torch.float64) / steps
    alpha, sigma, _, _ = schedule(t)
    torch.testing.assert_close(alpha**2, bars, rtol=1e-9, atol=0)
    torch.testing.assert_close(sigma**2, 1 - bars, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(schedule.timestep(t), torch.arange(steps, dtype=torch.float64), rtol=0, atol=1e-9)
    assert schedule(torch.tensor(1.0)).alpha == 1 and schedule(torch.tensor(1.0)).sigma == 0
    # Many steps are the continuous path of the same rates.
    if steps == 4000:
        vp = VariancePreserving()(t)
        torch.testing.assert_close(alpha, vp.alpha, rtol=2e-2, atol=1e-4)


def test_discrete_cosine_betas_are_clipped_and_follow_the_curve() -> None:
    schedule, curve = Discrete.cosine(1000), OffsetCosine()
    assert max(schedule.betas) == 0.999
    t = torch.linspace(0.01, 0.999, 50, dtype=torch.float64)
    torch.testing.assert_close(schedule(t).alpha, curve(t).alpha, rtol=1e-3, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_dtype_follows_the_data(schedule: Schedule, dtype: torch.dtype) -> None:
    x0, x1 = pair(dtype)
    x, velocity = interpolate(schedule, x0, x1, TIMES.float())
    assert x.dtype == velocity.dtype == to_velocity(schedule, "noise", x0, x, TIMES.float()).dtype == dtype


def test_impossible_schedules_are_refused() -> None:
    for build in (lambda: CondOT(-0.1), lambda: CondOT(1.0), lambda: VariancePreserving(0.0, 1.0),
                  lambda: VariancePreserving(2.0, 1.0), lambda: VarianceExploding(1.0, 1.0),
                  lambda: OffsetCosine(0.0), lambda: Discrete(()), lambda: Discrete((0.5, 1.0))):  # fmt: skip
        with pytest.raises(ValueError, match="needs"):
            build()


def test_unknown_prediction_is_refused() -> None:
    x0, _ = pair()
    with pytest.raises(UserError, match="velocity, data or noise"):
        to_velocity(CondOT(), "score", x0, x0, TIMES)  # type: ignore[arg-type]
