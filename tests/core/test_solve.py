"""Solvers against exact solutions: order, cost, precision, invariance."""

from __future__ import annotations

import dataclasses
import itertools
import math

import pytest
import torch
from solving import Gaussian, noise, order
from torch import Tensor

from flowtts.path import SCHEDULES, Prediction, to_velocity
from flowtts.solve import SOLVERS, TABLEAUX, Tableau, solve, solver_named
from flowtts.solve.adaptive import Adaptive
from flowtts.types import Sampling, UserError

FIXED = sorted(TABLEAUX)
ADAPTIVE = sorted(name for name, solver in SOLVERS.items() if isinstance(solver, Adaptive))


def sampling(solver: str, steps: int = 8, grid: str = "uniform") -> Sampling:
    return Sampling(solver=solver, grid=grid, steps=steps)


def swinging(t: Tensor, x: Tensor) -> Tensor:
    """x' = x cos t: x(t) = x(0) exp(sin t)."""
    return x * torch.cos(t)


SWUNG = math.exp(math.sin(1.0))


def test_the_registry_holds_every_table_under_its_name() -> None:
    assert set(TABLEAUX) < set(SOLVERS)
    assert all(tableau.name == name for name, tableau in TABLEAUX.items())


def test_euler_halves_and_midpoint_quarters_on_the_gaussian() -> None:
    euler = [Gaussian().error("euler", n) for n in (8, 16, 32, 64)]
    midpoint = [Gaussian().error("midpoint", n) for n in (4, 8, 16, 32, 64)]
    assert all(1.8 < coarse / fine < 2.2 for coarse, fine in itertools.pairwise(euler))
    assert all(coarse / fine >= 4 for coarse, fine in itertools.pairwise(midpoint))


@pytest.mark.parametrize("solver", FIXED)
def test_observed_order(solver: str) -> None:
    steps = [16, 32, 64, 128, 256]
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    errors = [abs(solve(swinging, one, sampling(solver, n)).x.item() - SWUNG) for n in steps]
    assert order(steps, errors) == pytest.approx(TABLEAUX[solver].order, abs=0.2)


@pytest.mark.parametrize("solver", FIXED)
@pytest.mark.parametrize("grid", ["uniform", "sway", "cosine"])
def test_evaluations_are_intervals_times_stages(solver: str, grid: str) -> None:
    seen: list[float] = []

    def field(t: Tensor, x: Tensor) -> Tensor:
        assert t.ndim == 0
        seen.append(t.item())
        return -x

    solution = solve(field, noise(2, 3, 4), sampling(solver, 5, grid))
    assert solution.nfe == len(seen) == 5 * len(TABLEAUX[solver].b) == solution.network_calls
    assert min(seen) == 0 and max(seen) <= 1


def test_constant_velocity_and_exact_time_ends() -> None:
    ends: list[float] = []

    def field(t: Tensor, x: Tensor) -> Tensor:
        ends.append(t.item())
        return torch.full_like(x, 3.0)

    x0 = noise(2, 3, 4)
    for solver in [*FIXED, *ADAPTIVE, "ab2", "ab3"]:
        torch.testing.assert_close(solve(field, x0, sampling(solver, 7, "sway:0.9")).x, x0 + 3)
    assert min(ends) == 0 and max(ends) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"b": (0.5, 0.6)}, "order 1 needs 1"),
        ({"c": (0.0, 0.4)}, "not to c = 0.4"),
        ({"c": (0.1, 0.5)}, "not to c = 0.1"),
        ({"order": 3}, "order 3"),
        ({"order": 5}, "cannot be checked"),
        ({"b": (1.0, 0.0)}, "order 2 needs 0.5"),
        ({"a": ((), (0.25, 0.25))}, "row of i entries"),
        ({"b": (1.0,)}, "row of i entries"),
    ],
)
def test_an_inconsistent_tableau_cannot_be_built(change: dict[str, tuple[float, ...] | int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TABLEAUX["midpoint"], **change)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", FIXED)
def test_no_tableau_claims_less_than_it_does(name: str) -> None:
    table = TABLEAUX[name]
    with pytest.raises(ValueError, match="order"):
        Tableau(name, table.order + 1, table.a, table.b, table.c)


@pytest.mark.parametrize("solver", ADAPTIVE)
@pytest.mark.parametrize("tolerance", [1e-3, 1e-5, 1e-7])
def test_adaptive_meets_its_tolerance_and_counts(solver: str, tolerance: float) -> None:
    if solver.startswith("adaptive-heun") and tolerance < 1e-5:
        pytest.skip("a method of order 2 needs thousands of steps for that")
    calls: list[float] = []

    def field(t: Tensor, x: Tensor) -> Tensor:
        calls.append(t.item())
        return Gaussian()(t, x)

    x0 = noise(4, 100, 1)
    solution = solve(field, x0, sampling(f"{solver}:{tolerance}"))
    assert (solution.x - Gaussian().flow(x0)).abs().max() < 50 * tolerance
    assert solution.nfe == len(calls) > 10
    assert min(calls) >= 0 and max(calls) <= 1


def test_a_tighter_tolerance_costs_more() -> None:
    counts = [solve(Gaussian(), noise(2, 50, 1), sampling(f"dopri5:{tol}")).nfe for tol in (1e-3, 1e-6, 1e-9)]
    assert counts[0] < counts[1] < counts[2]


def test_adaptive_gives_up_in_one_line() -> None:
    with pytest.raises(UserError, match="loosen it") as caught:
        solve(lambda t, x: x / (t - 0.5) ** 2, noise(1, 2, 1), sampling("dopri5:1e-8"))
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="finite"):
        solve(lambda t, x: x * math.nan, noise(1, 2, 1), sampling("bosh3"))


@pytest.mark.parametrize("solver", [*FIXED, *ADAPTIVE])
def test_forth_and_back_is_the_identity(solver: str) -> None:
    x0 = noise(2, 20, 3)
    tolerance = 1e-5 if solver.startswith("adaptive-heun") else 1e-8
    how = sampling(solver if solver in FIXED else f"{solver}:{tolerance}", 64, "sway:-0.5")
    x1 = solve(Gaussian(), x0, how).x
    back = solve(Gaussian(), x1, how, span=(1.0, 0.0)).x
    assert (x1 - x0).abs().max() > 1
    assert (back - x0).abs().max() < {"euler": 0.2}.get(solver, 2e-3)


def test_a_span_and_its_way_back_visit_the_same_points() -> None:
    seen: list[float] = []

    def field(t: Tensor, x: Tensor) -> Tensor:
        seen.append(t.item())
        return x

    x0 = noise(1, 2, 1)
    solve(field, x0, sampling("heun", 6, "sway"), span=(0.1, 0.999))
    there, seen = seen, []
    solve(field, x0, sampling("heun", 6, "sway"), span=(0.999, 0.1))
    assert (there[0], there[-1]) == (0.1, 0.999)
    assert seen == there[::-1]


@pytest.mark.parametrize("name", ["condot", "cosine", "vp"])
def test_every_prediction_of_every_schedule_reaches_the_same_data(name: str) -> None:
    """One data point x1: the exact predictions are constant or linear, and the flow ends at alpha x1 + sigma x0."""
    schedule, x0, x1 = SCHEDULES[name], noise(2, 3, 4), noise(2, 3, 4).flip(0) * 2
    start, end = (torch.tensor(t, dtype=torch.float64) for t in (0.02, 0.98))
    at = [schedule(t) for t in (start, end)]
    first, last = (c.alpha * x1 + c.sigma * x0 for c in at)
    predictions: dict[Prediction, Tensor] = {"data": x1, "noise": x0}
    for kind, prediction in predictions.items():

        def field(t: Tensor, x: Tensor, kind: Prediction = kind, prediction: Tensor = prediction) -> Tensor:
            return to_velocity(schedule, kind, prediction, x, t)

        assert (solve(field, first, sampling("rk4", 64), span=(0.02, 0.98)).x - last).abs().max() < 1e-3


@pytest.mark.parametrize("solver", ["euler", "rk4", "ab3", "dpm++2m", "dopri5"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_dtype_is_preserved(solver: str, dtype: torch.dtype) -> None:
    seen: set[tuple[torch.dtype, torch.dtype]] = set()

    def field(t: Tensor, x: Tensor) -> Tensor:
        seen.add((t.dtype, x.dtype))
        return (1.0 - x).to(dtype)

    x0 = noise(2, 3, 4, dtype=dtype)
    solution = solve(field, x0, sampling(solver, 64))
    assert solution.x.dtype == dtype
    assert seen == {(torch.float64, dtype)}
    # The state is at least float32: 64 steps of bfloat16 would lose the small increments.
    exact = 1 + (x0.double() - 1) * math.exp(-1)
    assert (solution.x.double() - exact).abs().max() < 0.02


def test_gradients_flow_through_a_fixed_solver() -> None:
    x0 = torch.ones(1, 1, 1, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(solve(swinging, x0, sampling("rk4", 100)).x.sum(), x0)
    assert gradient.item() == pytest.approx(SWUNG, abs=1e-6)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (sampling("midpiont"), "unknown solver 'midpiont': did you mean 'midpoint'.*known are euler, midpoint"),
        (sampling("rk4:3"), "'rk4' takes no parameter"),
        (sampling("dopri5:0"), "between 0 and 1, not 0"),
        (sampling("dopri5:nan"), "between 0 and 1"),
        (sampling("dopri5:x"), "'x' is not a number"),
        (sampling("euler", 0), "steps must be at least 1, not 0"),
        (sampling("euler", grid="unifrom"), "did you mean 'uniform'"),
    ],
)
def test_bad_requests_are_refused_in_one_line(how: Sampling, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        solve(swinging, noise(1, 2, 1), how)
    assert "\n" not in str(caught.value)


def test_a_tolerance_after_the_colon_sets_both() -> None:
    assert solver_named("bosh3:0.001") == Adaptive("bosh3", "bosh3", rtol=1e-3, atol=1e-3)
