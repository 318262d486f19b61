"""Time grids: closed forms, ends, monotone ranges, refusals."""

from __future__ import annotations

import math

import pytest
import torch

from flowtts.solve import GRIDS, Grid, grid_named
from flowtts.types import UserError

SPELLINGS = [*GRIDS, "sway:-0.5", "sway:0", f"sway:{2 / (math.pi - 2)}", "shifted:0.2", "shifted:10", "pruned:0"]


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("steps", [1, 2, 5, 7, 16, 33, 1000])
def test_every_grid_increases_from_zero_to_one(spelling: str, steps: int) -> None:
    t = grid_named(spelling)(steps)
    assert t.shape == (steps + 1,) and t.dtype == torch.float64
    assert t[0] == 0 and t[-1] == 1
    assert (t.diff() > 0).all()


def test_sway_closed_forms() -> None:
    u = torch.linspace(0, 1, 17, dtype=torch.float64)
    torch.testing.assert_close(grid_named("sway")(16), 1 - torch.cos(math.pi * u / 2), rtol=0, atol=1e-15)
    assert torch.equal(grid_named("sway:0")(16), u)
    assert torch.equal(grid_named("sway:-1")(16), grid_named("sway")(16))
    half = 0.5 - 0.5 * (math.cos(math.pi / 4) - 0.5)
    assert grid_named("sway:-0.5")(2)[1].item() == pytest.approx(half, abs=1e-15)
    assert grid_named("sway:-0.5")(2)[1] < 0.5 < grid_named("sway:0.5")(2)[1]


def test_the_published_range_of_sway_is_exactly_the_monotone_one() -> None:
    low, high = GRIDS["sway"].limits or (0.0, 0.0)
    assert low == -1 and high == pytest.approx(1.7519, abs=1e-4)
    warp, u = GRIDS["sway"].warp, torch.linspace(0, 1, 10_001, dtype=torch.float64)
    for s in (low, -0.3, 0.0, 0.7, high):
        assert (warp(u, s).diff() > 0).all()
    for s in (-1.05, 1.80):
        assert (warp(u, s).diff() < 0).any()


def test_cosine_crowds_both_ends_alike() -> None:
    t = grid_named("cosine")(16)
    torch.testing.assert_close(t, 1 - t.flip(0))
    assert t.diff().argmax() in (7, 8) and t[1] < 1 / 32


def test_shift_moves_the_noise_level() -> None:
    sigma = 1 - torch.linspace(0, 1, 9, dtype=torch.float64)
    torch.testing.assert_close(1 - grid_named("shifted:3")(8), 3 * sigma / (1 + 2 * sigma))
    torch.testing.assert_close(grid_named("shifted:1")(8), 1 - sigma)


def test_pruned_keeps_the_published_points() -> None:
    assert (grid_named("pruned:0")(7) * 32).tolist() == [0, 2, 4, 6, 8, 16, 24, 32]
    assert torch.equal(grid_named("pruned:0")(9), grid_named("uniform")(9))
    # F5-TTS applies the sway to the pruned points.
    torch.testing.assert_close(grid_named("pruned")(7), 1 - torch.cos(math.pi / 2 * grid_named("pruned:0")(7)))


@pytest.mark.parametrize(
    ("spelling", "message"),
    [
        ("swy", "did you mean 'sway'.*known are uniform, sway"),
        ("Sway", "did you mean 'sway'"),
        ("zzz", "unknown grid 'zzz': known are uniform"),
        ("", "unknown grid ''"),
        ("sway:", "'' is not a number"),
        ("sway:fast", "'fast' is not a number"),
        ("sway:-1.05", "from -1 to 1.7519, not -1.05"),
        ("sway:1.8", "from -1 to 1.7519, not 1.8"),
        ("sway:nan", "not nan"),
        ("shifted:-1", "from 0.01 to"),
        ("uniform:2", "takes no parameter"),
    ],
)
def test_bad_spellings_are_refused_in_one_line(spelling: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        grid_named(spelling)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("steps", [0, -3])
def test_no_steps_are_refused(steps: int) -> None:
    with pytest.raises(UserError, match=f"at least 1, not {steps}"):
        grid_named("uniform")(steps)


def test_a_warp_that_turns_back_is_refused() -> None:
    with pytest.raises(ValueError, match="does not increase"):
        Grid("loop", lambda u, _: torch.sin(u * math.pi * 1.5))(8)
