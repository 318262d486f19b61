"""A field trained on one path, sampled along another: the same end points, exactly."""

from __future__ import annotations

import itertools

import pytest
import torch
from solving import Gaussian, noise
from torch import Tensor

from flowtts.path import SCHEDULES, CondOT, VariancePreserving
from flowtts.solve import Costed, reschedule, solve
from flowtts.types import Sampling

PAIRS = list(itertools.permutations(["condot", "vp", "ve", "cosine", "iddpm"], 2))


@pytest.mark.parametrize(("trained", "sampled"), PAIRS)
def test_the_field_of_the_other_path_is_its_own_marginal_velocity(trained: str, sampled: str) -> None:
    there, here = SCHEDULES[trained], SCHEDULES[sampled]
    field, wanted = reschedule(Gaussian(there), there, here), Gaussian(here)
    x = noise(2, 5, 3)
    # Where both paths have the ratio of data to noise: the exploding path begins at 1 / 50.
    for t in torch.linspace(0.25, 0.9, 7, dtype=torch.float64):
        torch.testing.assert_close(field(t, x), wanted(t, x), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(("trained", "sampled"), [("vp", "condot"), ("condot", "vp"), ("ddpm", "condot")])
def test_both_paths_lead_to_the_same_data(trained: str, sampled: str) -> None:
    there, here = SCHEDULES[trained], SCHEDULES[sampled]
    span, x0 = (0.02, 0.99), noise(2, 20, 1)
    field = reschedule(Gaussian(there), there, here)
    with torch.inference_mode():
        got = solve(field, x0, Sampling(solver="rk4", steps=64), span, schedule=here).x
    torch.testing.assert_close(got, Gaussian(here).flow(x0, *span), rtol=1e-4, atol=1e-4)


def test_equal_paths_are_left_alone() -> None:
    field = Gaussian()
    assert reschedule(field, CondOT(), CondOT()) is field


def test_the_noisier_start_is_met_by_the_nearer_end() -> None:
    """The variance-preserving path never quite reaches the noise that a flow starts from."""
    seen: list[float] = []

    def field(t: Tensor, x: Tensor) -> Tensor:
        seen.append(float(t))
        return Gaussian(VariancePreserving())(t, x)

    there = reschedule(field, VariancePreserving(), CondOT())
    assert there(torch.tensor(0.0, dtype=torch.float64), noise(1, 2, 1)).isfinite().all()
    assert seen == [0.0]


def test_costs_are_asked_at_the_time_of_the_training_path() -> None:
    class Guided(Gaussian):
        def calls(self, t: float) -> int:
            return round(t * 100)

    field = reschedule(Guided(SCHEDULES["cosine"]), SCHEDULES["cosine"], CondOT(0.0))
    assert isinstance(field, Costed)
    assert field.calls(0.5) == 50 and field.calls(0.25) == round(100 * 0.2048)
    assert reschedule(lambda t, x: x, VariancePreserving(), CondOT()).calls(0.5) == 1  # type: ignore[attr-defined]
