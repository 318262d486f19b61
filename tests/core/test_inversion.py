"""Inversion against exact flows: where the noise lies, how the error falls, and what each method costs."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from flowtts.path import VariancePreserving
from flowtts.solve import solve
from flowtts.solve.inversion import ITERATIONS, invert, round_trip
from flowtts.types import Sampling, UserError

MU, S, SIGMA = 1.3, 0.4, 1e-5


def gaussian(t: Tensor, x: Tensor) -> Tensor:
    """Data N(MU, S^2) under conditional optimal transport; its flow carries x0 to MU + x0 sqrt(S^2 + SIGMA^2)."""
    b = 1 - (1 - SIGMA) * t
    r = (x - t * MU) / (t**2 * S**2 + b**2)
    return (MU + t * S**2 * r) - (1 - SIGMA) * b * r


def bent(t: Tensor, x: Tensor) -> Tensor:
    """A field whose items, frames and channels bend unlike one another."""
    return 3 * torch.sin(2 * x + 5 * t) - x * torch.cos(3 * t)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def sampling(solver: str = "midpoint", steps: int = 8, grid: str = "uniform") -> Sampling:
    return Sampling(solver=solver, grid=grid, steps=steps)


def test_the_noise_of_a_gaussian_is_the_standardised_data() -> None:
    x1 = MU + S * normal(2, 50, 3)
    exact = (x1 - MU) / math.sqrt(S**2 + SIGMA**2)
    found = invert(gaussian, x1, sampling("rk4", 64))
    assert found.nfe == found.network_calls == 256
    assert float((found.x - exact).abs().max()) < 1e-6


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("midpoint", 2), ("heun", 2), ("rk4", 4)])
def test_the_error_of_a_round_trip_falls_with_the_order(solver: str, order: int) -> None:
    x1 = normal(1, 40, 2)
    coarse, fine = (float(round_trip(bent, x1, sampling(solver, steps)).error) for steps in (64, 128))
    # Errors of symmetric parts cancel on the way back, so that more than the order is possible.
    assert fine < coarse * 0.5**order * 1.2


@pytest.mark.parametrize("grid", ["uniform", "sway"])
@pytest.mark.parametrize("solver", ["euler", "midpoint", "rk4"])
def test_fixed_points_invert_the_very_steps_of_the_sampler(solver: str, grid: str) -> None:
    x0 = normal(2, 20, 3)
    settings = sampling(solver, 40, grid)
    made = solve(bent, x0, settings).x
    found = invert(bent, made, settings, method="fixed-point:1e-10")
    assert float((found.x - x0).abs().max()) < 1e-6
    back = round_trip(bent, made, settings, method="fixed-point:1e-10")
    assert float(back.error.max()) < 1e-8
    assert back.nfe == found.nfe + solve(bent, x0, settings).nfe
    torch.testing.assert_close(back.noise, found.x, rtol=0, atol=0)


def test_steps_of_ddim_are_inverted_too() -> None:
    x0, path = normal(1, 10, 2), VariancePreserving()
    settings = sampling("ddim", 20)

    def field(t: Tensor, x: Tensor) -> Tensor:
        at = path(t)
        r = (x - at.alpha * MU) / (at.alpha**2 * S**2 + at.sigma**2)
        return at.d_alpha * (MU + at.alpha * S**2 * r) + at.d_sigma * at.sigma * r

    made = solve(field, x0, settings, (0, 0.999), schedule=path).x
    back = invert(field, made, settings, method="fixed-point:1e-9", span=(0, 0.999), schedule=path)
    assert float((back.x - x0).abs().max()) < 1e-6


def test_acceleration_converges_where_the_plain_iteration_diverges() -> None:
    # Euler's step multiplies by 1 + h L = 3.5: the plain iteration multiplies its error by -2.5.
    def steep(t: Tensor, x: Tensor) -> Tensor:
        return 10 * x

    back = round_trip(steep, normal(3, 5, 2), sampling("euler", 4), method="fixed-point:1e-8")
    assert float(back.error.max()) < 1e-7
    # One step back, then corrections (three of them, exact for a multiple of the identity) and the checks.
    assert back.nfe <= 4 * (1 + ITERATIONS) + 4


def test_a_loose_tolerance_costs_less() -> None:
    x1 = normal(1, 30, 2)
    loose, tight = (invert(bent, x1, sampling(steps=16), method=f"fixed-point:{e}") for e in ("1e-2", "1e-8"))
    # The least is a step back and a check of it.
    assert 16 * 4 <= loose.nfe < tight.nfe <= 16 * 2 * (1 + ITERATIONS)


@pytest.mark.parametrize("method", ["reverse", "fixed-point"])
def test_an_item_does_not_depend_on_its_company(method: str) -> None:
    x1 = torch.cat([normal(1, 12, 3), 4 * normal(1, 12, 3, seed=1)])
    mask = torch.ones(2, 12, dtype=torch.bool)
    mask[0, 8:] = False
    both = invert(bent, x1, sampling(), method=method, mask=mask).x
    again = invert(bent, x1, sampling(), method=method, mask=mask).x
    alone = invert(bent, x1[:1, :8], sampling(), method=method).x
    torch.testing.assert_close(both, again, rtol=0, atol=0)
    torch.testing.assert_close(both[:1, :8], alone, rtol=0, atol=1e-12)


def test_the_error_counts_only_frames_of_the_mask() -> None:
    x1 = normal(2, 6, 2)
    mask = torch.zeros(2, 6, dtype=torch.bool)
    mask[:, 2:4] = True

    def wild_elsewhere(t: Tensor, x: Tensor) -> Tensor:
        return torch.where(mask[..., None], torch.zeros_like(x), bent(t, x))

    trip = round_trip(wild_elsewhere, x1, sampling("euler"), mask=mask)
    assert trip.error.tolist() == [0, 0]
    whole = round_trip(wild_elsewhere, x1, sampling("euler"))
    expected = (whole.x1 - x1).flatten(1).norm(dim=1) / x1.flatten(1).norm(dim=1)
    torch.testing.assert_close(whole.error, expected)
    assert float(expected.min()) > 0.1


def test_network_calls_are_the_fields_own() -> None:
    class Twice:
        def __call__(self, t: Tensor, x: Tensor) -> Tensor:
            return gaussian(t, x)

        def calls(self, t: float) -> int:
            return 2 if t < 0.5 else 1

    trip = round_trip(Twice(), normal(1, 3, 2), sampling("euler", 4))
    # Back at t = 1, 3/4, 1/2, 1/4 and there at 0, 1/4, 1/2, 3/4.
    assert (trip.nfe, trip.network_calls) == (8, 5 + 6)
    fixed = invert(Twice(), normal(1, 3, 2), sampling("euler", 4), method="fixed-point")
    assert fixed.nfe < fixed.network_calls < 2 * fixed.nfe


def test_float32_and_inference_mode() -> None:
    x1 = (MU + S * normal(1, 6, 2)).float()
    with torch.inference_mode():
        trip = round_trip(gaussian, x1, sampling(steps=16), method="fixed-point:1e-6")
    assert trip.noise.dtype == trip.x1.dtype == torch.float32 and trip.error.dtype == torch.float64
    assert float(trip.error) < 1e-5 < float(round_trip(gaussian, x1, sampling(steps=16)).error)


@pytest.mark.parametrize(
    ("method", "solver", "message"),
    [
        ("fixed-pont", "midpoint", "did you mean 'fixed-point'"),
        ("reverse:2", "midpoint", "takes no parameter"),
        ("fixed-point:0", "midpoint", "tolerance above 0"),
        ("fixed-point:x", "midpoint", "not a number"),
        ("fixed-point", "ab2", "'ab2'"),
        ("fixed-point", "dopri5", "'dopri5'"),
        ("fixed-point", "ddpm", "'ddpm'"),
        ("reverse", "ddpm", "ddpm"),
    ],
)
def test_bad_input(method: str, solver: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        invert(bent, normal(1, 2, 2), sampling(solver), method=method)
