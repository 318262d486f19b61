"""Adams-Bashforth on any grid: exact weights, observed orders, cost."""

from __future__ import annotations

import pytest
import torch
from solving import Gaussian, order
from torch import Tensor

from flowtts.solve import grid_named, solve
from flowtts.solve.multistep import AdamsBashforth, variable_weights
from flowtts.types import Sampling

STEPS = [256, 512, 1024]


def test_weights_on_equal_steps_are_the_textbook_ones() -> None:
    assert variable_weights() == (1,)
    assert variable_weights(1) == pytest.approx([3 / 2, -1 / 2])
    assert variable_weights(1, 2) == pytest.approx([23 / 12, -16 / 12, 5 / 12])
    # A step twice as long as the one before: 1 + r / 2 and -r / 2 with r = 2.
    assert variable_weights(0.5) == pytest.approx([2, -1])


@pytest.mark.parametrize("grid", ["uniform", "sway", "sway:1.5", "cosine", "shifted:5"])
@pytest.mark.parametrize("p", [2, 3])
def test_polynomials_below_the_order_are_integrated_exactly(p: int, grid: str) -> None:
    """x' = p t^(p - 1): the slopes lie on a polynomial through p points, so x(1) = 1, bar the start of AB3."""

    def field(t: Tensor, x: Tensor) -> Tensor:
        return torch.full_like(x, p * float(t) ** (p - 1))

    x0 = torch.zeros(1, 1, 1, dtype=torch.float64)
    times = grid_named(grid)(9)
    middle = float((times[0] + times[1]) / 2)
    # The midpoint rule is exact for p = 2; for p = 3 its first step, and AB2's second, leave a known remainder.
    start = float(times[1]) * p * middle ** (p - 1)
    wanted = 1 - float(times[1]) ** p + start
    if p == 3:
        h0, h1 = float(times[1]), float(times[2] - times[1])
        second = h1 * ((1 + h1 / h0 / 2) * 3 * h0**2)
        wanted += second - (float(times[2]) ** 3 - h0**3)
    got = solve(field, x0, Sampling(solver=f"ab{p}", grid=grid, steps=9)).x.item()
    assert got == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("span", [(0.0, 1.0), (1.0, 0.0)])
@pytest.mark.parametrize("grid", ["uniform", "sway", "sway:-0.5", "cosine"])
@pytest.mark.parametrize("p", [2, 3])
def test_observed_order_on_every_grid(p: int, grid: str, span: tuple[float, float]) -> None:
    errors = [Gaussian().error(f"ab{p}", n, span=span, grid=grid) for n in STEPS]
    assert order(STEPS, errors) == pytest.approx(p, abs=0.3)


def test_one_step_is_the_midpoint_rule() -> None:
    x0 = Gaussian().start(2, 3, 1)
    midpoint, ab2, ab3 = (solve(Gaussian(), x0, Sampling(solver=s, steps=1)) for s in ("midpoint", "ab2", "ab3"))
    assert torch.equal(midpoint.x, ab2.x) and torch.equal(midpoint.x, ab3.x)
    assert midpoint.nfe == ab2.nfe == ab3.nfe == 2


def test_a_higher_order_pays_per_evaluation() -> None:
    assert Gaussian().error("ab3", 63) < Gaussian().error("ab2", 63) < Gaussian().error("euler", 64) / 10


def test_an_order_without_a_start_is_refused() -> None:
    with pytest.raises(ValueError, match="order 2 or 3, not 4"):
        AdamsBashforth("ab4", 4)
