"""Time grids: where a fixed solver looks. Each is a warp of u in [0, 1] onto t in [0, 1], end points fixed."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from flowtts.solve.spelling import lookup
from flowtts.types import PathLike, UserError


def _equidistant(steps: int) -> Tensor:
    """(steps + 1,) float64, u_i = i / steps."""
    return torch.linspace(0, 1, steps + 1, dtype=torch.float64)


@dataclass(frozen=True)
class Grid:
    """A named family of grids.

    Attributes:
        name: as users spell it; "name:value" sets the parameter.
        warp: (u, parameter) -> t, strictly increasing, 0 to 0 and 1 to 1.
        parameter: of the warp.
        limits: closed range of the parameter; None where the warp has none.
        knots: steps -> u.

    Raises:
        UserError: the parameter is outside its limits.
    """

    name: str
    warp: Callable[[Tensor, float], Tensor]
    parameter: float = 0.0
    limits: tuple[float, float] | None = None
    knots: Callable[[int], Tensor] = _equidistant

    def __post_init__(self) -> None:
        if self.limits and not self.limits[0] <= self.parameter <= self.limits[1]:
            low, high = self.limits
            raise UserError(f"grid '{self.name}' takes a number from {low:g} to {high:.4f}, not {self.parameter:g}")

    def tuned(self, value: float) -> Grid:
        """The same family with another parameter.

        Raises:
            UserError: the family has no parameter, or ``value`` is outside its limits.
        """
        if self.limits is None:
            raise UserError(f"grid '{self.name}' takes no parameter, but was given {value:g}: drop the ':'")
        return replace(self, parameter=value)

    def __call__(self, steps: int) -> Tensor:
        """(steps + 1,) float64 strictly increasing times from exactly 0 to exactly 1.

        Raises:
            UserError: ``steps`` is less than 1.
        """
        if steps < 1:
            raise UserError(f"steps must be at least 1, not {steps}")
        t = self.warp(self.knots(steps), self.parameter)
        t[0], t[-1] = 0.0, 1.0
        if not bool((t.diff() > 0).all()):
            raise ValueError(f"grid {self.name} does not increase: {t.tolist()}")
        return t


def _identity(u: Tensor, _: float) -> Tensor:
    return u


def _sway(u: Tensor, s: float) -> Tensor:
    return u + s * (torch.cos(u * math.pi / 2) - 1 + u)


def _cosine(u: Tensor, _: float) -> Tensor:
    return (1 - torch.cos(u * math.pi)) / 2


def _shift(u: Tensor, ratio: float) -> Tensor:
    # The paper shifts the noise level 1 - t: sigma' = ratio sigma / (1 + (ratio - 1) sigma).
    return u / (u + ratio * (1 - u))


def _logit_normal(u: Tensor, m: float) -> Tensor:
    return torch.sigmoid(m + torch.special.ndtri(u))


def _whole(u: Tensor, intervals: float) -> Tensor:
    if len(u) - 1 > intervals:
        raise UserError(f"grid 'whole:{intervals:g}' has room for {intervals:g} steps, not {len(u) - 1}")
    # From the data's end, where discrete diffusion models count from: halves round to their even steps.
    return 1 - torch.round((1 - u) * intervals) / intervals


def _pruned(steps: int) -> Tensor:
    points = {
        5: (0, 2, 4, 8, 16, 32),
        6: (0, 2, 4, 6, 8, 16, 32),
        7: (0, 2, 4, 6, 8, 16, 24, 32),
        10: (0, 2, 4, 6, 8, 12, 16, 20, 24, 28, 32),
        12: (0, 2, 4, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32),
        16: (*range(9), 10, 12, 14, 16, 20, 24, 28, 32),
    }.get(steps)
    return _equidistant(steps) if points is None else torch.tensor(points, dtype=torch.float64) / 32


# Beyond these ends the derivative 1 + s (1 - (pi/2) sin(pi u/2)) changes its sign, at u = 0 and u = 1.
_MONOTONE_SWAY = (-1.0, 2 / (math.pi - 2))

UNIFORM = Grid("uniform", _identity)
"""Equal intervals."""

SWAY = Grid("sway", _sway, parameter=-1.0, limits=_MONOTONE_SWAY)
"""u + s (cos(pi u/2) - 1 + u), F5-TTS (arXiv 2410.06885): s < 0 crowds the noise end, s = -1 is 1 - cos(pi u/2)."""

COSINE = Grid("cosine", _cosine)
"""(1 - cos(pi u)) / 2: crowds both ends alike (the Chebyshev-Lobatto points)."""

SHIFTED = Grid("shifted", _shift, parameter=3.0, limits=(1e-2, 1e2))
"""u / (u + r (1 - u)), arXiv 2403.03206, eq. 23: r > 1 spends more steps on the noise end."""

LOGIT_NORMAL = Grid("logit-normal", _logit_normal, limits=(-4.0, 4.0))
"""The quantiles of a logit-normal density, arXiv 2403.03206, eq. 19, with s = 1: crowds the middle, with large steps at
both ends. The parameter is m in our time, the logarithm of the odds t / (1 - t): m < 0 moves it to the noise."""

PRUNED = Grid("pruned", _sway, parameter=-1.0, limits=_MONOTONE_SWAY, knots=_pruned)
"""Empirically pruned steps (EPSS, arXiv 2505.19931) for 5, 6, 7, 10, 12 and 16 steps, equal ones otherwise.
The parameter is the sway applied on top; 0 keeps the published lists."""

WHOLE = Grid("whole", _whole, parameter=3999.0, limits=(1.0, 1e6))
"""Equal intervals, each time rounded to a multiple of 1 / n, n being the parameter. From the first to the last of the T
steps of `flowtts.path.Discrete`, n = T - 1 keeps to steps the model was trained on (arXiv 2102.09672, section 4)."""

GRIDS: Mapping[str, Grid] = {grid.name: grid for grid in (UNIFORM, SWAY, COSINE, LOGIT_NORMAL, SHIFTED, PRUNED, WHOLE)}
"""Every grid by name."""

FITTED = "fitted"
"""How users name the grid that was fitted to the model they use."""

GRID_FILE = "grid.json"
"""Its name in a checkpoint's folder."""


@dataclass(frozen=True)
class GridTable:
    """A warp given by its values at equal intervals of u, linear between them.

    Attributes:
        knots: t, strictly increasing from 0 to 1.

    Raises:
        ValueError: they are not.
    """

    knots: tuple[float, ...]

    def __post_init__(self) -> None:
        rising = all(low < high for low, high in pairwise(self.knots))
        if len(self.knots) < 2 or not rising or (self.knots[0], self.knots[-1]) != (0, 1):
            raise ValueError("knots must increase from 0 to 1")

    def __call__(self, u: Tensor, _: float) -> Tensor:
        """The t at ``u``, any shape."""
        knots = torch.tensor(self.knots, dtype=u.dtype)
        place = u * (len(knots) - 1)
        left = place.floor().long().clamp(0, len(knots) - 2)
        return torch.lerp(knots[left], knots[left + 1], place - left)

    def grid(self, name: str) -> Grid:
        """As a grid."""
        return Grid(name, self)


def read_grid(path: PathLike) -> Grid:
    """The grid of a JSON file with its ``knots``: those that `flowtts.solve.fitting` saves, or one's own.

    Raises:
        UserError: it cannot be read, or holds no increasing times from 0 to 1.
    """
    try:
        knots = json.loads(Path(path).read_text(encoding="utf-8"))["knots"]
        return GridTable(tuple(float(t) for t in _numbers(knots))).grid(str(path))
    except OSError as error:
        raise UserError(f"cannot read the grid {path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, OverflowError):
        raise UserError(f'{path} is no grid: it needs {{"knots": [0, …, 1]}}, times that increase') from None


def _numbers(values: object) -> Sequence[float]:
    if not isinstance(values, list) or not all(type(value) in (int, float) for value in values):
        raise TypeError("not a list of numbers")
    return values


def grid_named(spelling: str) -> Grid:
    """The grid called "uniform", "sway" (s = -1), "sway:-0.5" …, or that of a file, "path/to/grid.json".

    Raises:
        UserError: no such grid or file, or a parameter that it refuses.
    """
    if spelling.endswith(".json"):
        return read_grid(spelling)
    if spelling == FITTED:
        raise UserError(
            f"this model has no grid '{FITTED}' ({GRID_FILE} in its folder); name another, or a grid's file"
        )
    grid, value = lookup("grid", GRIDS, spelling)
    return grid if value is None else grid.tuned(value)


def resolved(spelling: str, folder: PathLike | None) -> str:
    """The spelling itself, or for "fitted" the file of the grid in a checkpoint's folder, if it is there."""
    if spelling != FITTED or folder is None or not (Path(folder) / GRID_FILE).is_file():
        return spelling
    return str(Path(folder) / GRID_FILE)
