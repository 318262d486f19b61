"""Time grids: closed forms, ends, monotone ranges, refusals."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor

from flowtts.solve.fitting import equidistribute, fit_grid, local_errors, reference_times, spans_of
from flowtts.solve.grid import GRIDS, Grid, GridTable, grid_named, read_grid, resolved
from flowtts.solve.integrate import solve
from flowtts.types import Field, Sampling, UserError

SPELLINGS = [
    *GRIDS,
    "sway:-0.5",
    "logit-normal:-2",
    "logit-normal:3",
    "sway:0",
    f"sway:{2 / (math.pi - 2)}",
    "shifted:0.2",
    "shifted:10",
    "pruned:0",
]


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


@pytest.mark.parametrize("m", [-1.5, 0.0, 0.8])
def test_logit_normal_are_the_quantiles_of_its_density(m: float) -> None:
    t = grid_named(f"logit-normal:{m}")(10)
    for low, high in zip(t[:-1].tolist(), t[1:].tolist(), strict=True):
        at = torch.linspace(low, high, 20_001, dtype=torch.float64)[1:-1]
        logit = torch.log(at / (1 - at))
        density = torch.exp(-((logit - m) ** 2) / 2) / (math.sqrt(2 * math.pi) * at * (1 - at))
        assert torch.trapezoid(density, at).item() == pytest.approx(0.1, abs=1e-3)
    assert grid_named(f"logit-normal:{m}")(2)[1].item() == pytest.approx(1 / (1 + math.exp(-m)))


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
        ("logit-normal:5", "from -4 to 4"),
        ("fitted", "this model has no grid 'fitted'"),
        ("gone/grid.json", "cannot read the grid gone/grid.json: No such file"),
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


# --- tables


def table(path: Path, knots: object) -> str:
    path.write_text(json.dumps({"knots": knots}), encoding="utf-8")
    return str(path)


def test_a_table_is_read_from_a_file_and_linear_between_its_knots(tmp_path: Path) -> None:
    grid = grid_named(table(tmp_path / "grid.json", [0, 0.1, 0.4, 1]))
    assert grid(3).tolist() == [0, 0.1, 0.4, 1]
    torch.testing.assert_close(grid(6), torch.tensor([0, 0.05, 0.1, 0.25, 0.4, 0.7, 1], dtype=torch.float64))
    assert grid(1).tolist() == [0, 1] and (grid(1000).diff() > 0).all()
    with pytest.raises(UserError, match="takes no parameter"):
        grid.tuned(1.0)


def test_a_table_serves_a_solver(tmp_path: Path) -> None:
    how = Sampling(solver="euler", grid=table(tmp_path / "grid.json", [0, 0.1, 0.4, 1]), steps=3)
    seen: list[float] = []

    def field(t: Tensor, x: Tensor) -> Tensor:
        seen.append(float(t))
        return torch.ones_like(x)

    torch.testing.assert_close(solve(field, torch.zeros(1, 2, 3), how).x, torch.ones(1, 2, 3))
    assert seen == [0.0, 0.1, 0.4]


@pytest.mark.parametrize(
    "knots",
    [[], [0], [0, 0.5], [0.1, 1], [0, 0.5, 0.5, 1], [0, 0.7, 0.6, 1], [0, float("nan"), 1], ["0", "1"], [False, True],
     3, None, {"0": 1}, [0, 10**400]],
)  # fmt: skip
def test_bad_tables_are_refused(knots: object, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no grid: it needs"):
        read_grid(table(tmp_path / "grid.json", knots))


@pytest.mark.parametrize("content", [b"", b"[0, 1]", b"{}", b"\xff\xfe", b"null"])
def test_bad_grid_files_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "grid.json").write_bytes(content)
    with pytest.raises(UserError, match="is no grid: it needs") as caught:
        grid_named(str(tmp_path / "grid.json"))
    assert "\n" not in str(caught.value)


def test_fitted_means_the_grid_in_the_checkpoint(tmp_path: Path) -> None:
    assert resolved("fitted", None) == resolved("fitted", tmp_path) == "fitted"
    path = table(tmp_path / "grid.json", [0, 0.2, 1])
    assert resolved("fitted", tmp_path) == path and resolved("sway", tmp_path) == "sway"
    assert grid_named(resolved("fitted", tmp_path))(2).tolist() == [0, 0.2, 1]


# --- fitting

X0 = torch.ones(1, 2, 3, dtype=torch.float64)


def exponential(rate: float) -> Field:
    """A field whose every derivative grows as exp(rate t)."""
    return lambda t, x: torch.exp(rate * t).expand_as(x)


def stiff(t: Tensor, x: Tensor) -> Tensor:
    """Quiet but for one region."""
    return -(1 + 40 * torch.exp(-(((t - 0.15) / 0.05) ** 2))) * x


STIFF_END = math.exp(-(1 + 40 * 0.05 * math.sqrt(math.pi) / 2 * (math.erf(0.85 / 0.05) + math.erf(0.15 / 0.05))))


def follow(field: Field, order: int, times: Tensor) -> Tensor:
    """By Euler or the midpoint rule."""
    x = X0
    for start, end in pairwise(times):
        h = end - start
        x = x + h * (field(start, x) if order == 1 else field(start + h / 2, x + h / 2 * field(start, x)))
    return x


@pytest.mark.parametrize(("order", "rate"), [(1, 2.0), (2, 3.0), (2, -3.0), (4, 5.0)])
def test_the_density_of_steps_follows_the_local_error(order: int, rate: float) -> None:
    """x' = exp(k t) errs by exp(k t) h^(p+1): the steps that equalise it have density exp(k t / (p + 1)).

    But for order 3: without x on the right Kutta's method is Simpson's rule, of order 4.
    """
    fitted = fit_grid([(exponential(rate), X0)], order=order, knots=33)
    k, u = rate / (order + 1), torch.linspace(0, 1, 33, dtype=torch.float64)
    torch.testing.assert_close(
        torch.tensor(fitted.knots).double(), torch.log1p(u * math.expm1(k)) / k, rtol=0, atol=1e-3
    )
    assert (fitted.order, fitted.utterances) == (order, 1)


def test_local_errors_are_those_of_long_steps() -> None:
    """Euler's step of x' = exp(t): exp(t + h) - exp(t) - h exp(t); the reference errs much less."""
    times = reference_times(64)
    start, end = spans_of(times).T
    assert len(start) == 31 and start[0] == 0 and end[-1] == 1
    exact = torch.exp(end) - torch.exp(start) - (end - start) * torch.exp(start)
    for x0 in (X0, X0.float()):
        torch.testing.assert_close(local_errors(exponential(1.0), x0, 1, times), exact, rtol=1e-2, atol=0)


def test_equal_errors_make_equal_steps_and_no_error_too() -> None:
    edges = torch.linspace(0, 1, 11, dtype=torch.float64)
    spans = torch.stack([edges[:-1], edges[1:]], dim=1)
    for errors in (torch.full((10,), 3e-4), torch.zeros(10)):
        knots = torch.tensor(equidistribute(errors, 2, spans, 9), dtype=torch.float64)
        torch.testing.assert_close(knots, torch.linspace(0, 1, 9, dtype=torch.float64))


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("steps", [12, 16, 32, 64])
def test_a_fitted_grid_beats_equal_steps_on_a_stiff_field(order: int, steps: int) -> None:
    grid = fit_grid([(stiff, X0)], order=order).grid
    errors = [
        (follow(stiff, order, times) - STIFF_END).abs().max().item()
        for times in (grid(steps), grid_named("uniform")(steps))
    ]
    assert errors[0] < 0.7 * errors[1], errors


def test_a_fitted_grid_looks_everywhere() -> None:
    """Whatever is measured, it increases and no step is out of proportion."""
    rng = torch.Generator().manual_seed(0)
    for _ in range(20):
        errors = torch.rand(63, generator=rng).double() ** 20 * (torch.rand(63, generator=rng) > 0.3)
        knots = equidistribute(errors, 2, spans_of(reference_times(128)), 64)
        assert GridTable(knots).knots == knots
        assert torch.tensor(knots).diff().max() <= 1 / 63 / 0.04


def test_several_trajectories_are_fitted_together() -> None:
    both = fit_grid([(exponential(3.0), X0), (lambda t, x: exponential(3.0)(1 - t, x), X0 * 2)], order=1)
    assert both.utterances == 2 and both.knots[32] == pytest.approx(1 - both.knots[31], abs=1e-2)
    alone = fit_grid([(exponential(3.0), X0)], order=1)
    assert both.knots[16] < alone.knots[16] - 0.1


def test_fields_may_reuse_the_place_of_their_result() -> None:
    room = torch.empty_like(X0)

    def frugal(t: Tensor, x: Tensor) -> Tensor:
        return torch.mul(x, torch.sin(9 * t), out=room)

    assert fit_grid([(frugal, X0)], order=4) == fit_grid([(lambda t, x: x * torch.sin(9 * t), X0)], order=4)


def test_a_fitted_grid_survives_its_file(tmp_path: Path) -> None:
    fitted = fit_grid([(stiff, X0)], model="small", guidance="2,star", knots=17)
    fitted.save(tmp_path / "grid.json")
    assert torch.equal(grid_named(str(tmp_path / "grid.json"))(16), fitted.grid(16))
    told = json.loads((tmp_path / "grid.json").read_text())
    assert told.pop("knots") == list(fitted.knots)
    assert told == {"solver": "midpoint", "order": 2, "utterances": 1, "model": "small", "guidance": "2,star"}
    with pytest.raises(UserError, match="does not exist"):
        fitted.save(tmp_path / "gone" / "grid.json")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"order": 5}, "order 1 to 4"),
        ({"reference_steps": 126}, "multiple of 4"),
        ({"reference_steps": 8}, "16 at least"),
        ({"knots": 1}, "2 knots"),
    ],
)
def test_nothing_is_fitted_to_nonsense(how: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        fit_grid([(stiff, X0)], **how)


def test_nothing_is_fitted_to_nothing() -> None:
    with pytest.raises(UserError, match="at least one"):
        fit_grid([])
    with pytest.raises(UserError, match="not finite"):
        fit_grid([(lambda t, x: x / 0, X0)])
