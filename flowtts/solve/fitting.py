"""Grids fitted to a model: many steps where a solver errs on the model's own trajectories, few where it does not.

One step of length h of a solver of order p errs by about C(t) h^(p+1). With as many steps as a grid has, the greatest
local error is least when all are equal, that is when the density of steps is proportional to C(t)^(1/(p+1)).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from flowtts.audio.io import replacing
from flowtts.solve.grid import COSINE, FITTED, Grid, GridTable
from flowtts.solve.tableau import EULER, MIDPOINT, RK3, RK4, Tableau
from flowtts.types import Field, PathLike, UserError

_SOLVERS: Mapping[int, Tableau] = MappingProxyType({1: EULER, 2: MIDPOINT, 3: RK3, 4: RK4})
"""Whose local error is measured, by order: other solvers of that order want much the same steps."""

_STRIDE = 4
"""Steps of the reference that one measured step covers. The reference then errs 4^p times less than what it judges."""

_FLOOR = 0.05
"""Least density of steps, of the mean one: what was easy on these trajectories may be less so on others."""


@dataclass(frozen=True)
class FittedGrid:
    """A grid and what it was fitted on.

    Attributes:
        knots: t at equal intervals of u, from 0 to 1.
        solver: whose local error was measured.
        order: of that solver.
        utterances: how many trajectories it was measured on.
        model: whose they were, where it was told.
        guidance: of these trajectories, where it was told.
    """

    knots: tuple[float, ...]
    solver: str
    order: int
    utterances: int
    model: str = ""
    guidance: float | str | None = None

    @property
    def grid(self) -> Grid:
        """As every other grid."""
        return GridTable(self.knots).grid(FITTED)

    def save(self, path: PathLike) -> None:
        """Write it as JSON, for `flowtts.solve.grid.read_grid`.

        Raises:
            UserError: the path cannot be written.
        """
        described = {
            "knots": list(self.knots), "solver": self.solver, "order": self.order, "utterances": self.utterances,
            "model": self.model, "guidance": self.guidance,
        }  # fmt: skip
        with replacing(path) as part:
            part.write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")


def fit_grid(
    fields: Iterable[tuple[Field, Tensor]],
    *,
    order: int = 2,
    reference_steps: int = 128,
    knots: int = 64,
    model: str = "",
    guidance: float | str | None = None,
) -> FittedGrid:
    """Measure where a solver errs, and put the steps there.

    Each trajectory is followed in ``reference_steps`` steps, shorter towards both ends, where velocities change most;
    every other step, one step as long as four of them is taken too, and compared. For order 2 that costs 2.5
    evaluations per reference step.

    Args:
        fields: of some utterances, each with the noise x0 (B, T, C) that its trajectory starts from.
        order: of the solver that the grid is for, 1 to 4.
        reference_steps: of the trajectories, a multiple of 4 from 16 on.
        knots: times that the result holds.
        model: name of the model, for the record.
        guidance: what the fields are guided by, for the record.

    Raises:
        UserError: a number is out of range, there is no field, or one is not finite.
    """
    if order not in _SOLVERS:
        raise UserError(f"a grid is fitted to solvers of order 1 to 4, not {order}")
    if reference_steps < 16 or reference_steps % _STRIDE:
        raise UserError(f"a grid is fitted on a multiple of 4 reference steps, 16 at least, not {reference_steps}")
    if knots < 2:
        raise UserError(f"a grid needs 2 knots at least, not {knots}")
    with torch.no_grad():
        times = reference_times(reference_steps)
        squares = [local_errors(field, x0, order, times) ** 2 for field, x0 in fields]
    if not squares:
        raise UserError("no trajectories to fit a grid on: give at least one utterance")
    errors = torch.stack(squares).mean(0).sqrt()
    if not bool(errors.isfinite().all()):
        raise UserError("the model's velocity is not finite along its trajectories: no grid can be fitted to it")
    table = equidistribute(errors, order, spans_of(times), knots)
    return FittedGrid(table, _SOLVERS[order].name, order, len(squares), model, guidance)


def reference_times(steps: int) -> Tensor:
    """(steps + 1,) float64: those of the cosine grid, but for a tenth of equal steps, so that none is too short."""
    u = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    return torch.lerp(COSINE(steps), u, 0.1)


def spans_of(times: Tensor) -> Tensor:
    """(M, 2) beginnings and ends of the long steps that are measured among (n + 1,) reference times."""
    return torch.stack([times[:-_STRIDE:2], times[_STRIDE::2]], dim=1)


def local_errors(field: Field, x0: Tensor, order: int, times: Tensor) -> Tensor:
    """Root mean square error of single long steps along one trajectory.

    Args:
        field: the velocity.
        x0: (B, T, C) where the trajectory starts.
        order: of the solver that is judged.
        times: (n + 1,) float64 of the reference, n even.

    Returns:
        (M,) float64, for the steps `spans_of` the times.
    """
    solver = _SOLVERS[order]
    reference = _SOLVERS[max(order, 2)]
    # Errors of short steps would drown in the rounding of a float32 state; Apple's GPUs have no float64.
    x, found = x0.to(torch.float32 if x0.device.type == "mps" else torch.float64), []
    shown, steps = x0.dtype, len(times) - 1
    long: dict[int, Tensor] = {}

    def exactly(t: Tensor, x: Tensor) -> Tensor:
        # Copied, as a field may write its next velocity to the same place.
        return field(t, x.to(shown)).to(x.dtype, copy=True)

    for i in range(steps + 1):
        if i in long:
            found.append((long.pop(i) - x).double().square().mean().sqrt().cpu())
        if i == steps:
            break
        slope = exactly(times[i], x)
        if i % 2 == 0 and i + _STRIDE <= steps:
            long[i + _STRIDE] = _step(exactly, solver, times[i], times[i + _STRIDE], x, slope)
        x = _step(exactly, reference, times[i], times[i + 1], x, slope)
    return torch.stack(found)


def equidistribute(errors: Tensor, order: int, spans: Tensor, knots: int) -> tuple[float, ...]:
    """Times between which a solver of ``order`` errs equally, if it errs so over some ``spans``.

    Args:
        errors: (M,) local errors.
        order: p.
        spans: (M, 2) float64 beginnings and ends, in order.
        knots: how many times to return, ends included.

    Returns:
        From 0 to 1, strictly increasing.
    """
    if not bool((errors > 0).any()):
        return tuple(torch.linspace(0, 1, knots, dtype=torch.float64).tolist())
    centres, lengths = spans.mean(1), spans[:, 1] - spans[:, 0]
    wanted = errors.double() ** (1 / (order + 1))
    density = (wanted / lengths).clamp_min(_FLOOR * float(wanted.sum() / lengths.sum()))
    # In logarithms, which an exponential growth of the error leaves as it is.
    level = _smooth(density.log())
    fine = torch.linspace(0, 1, 32 * len(centres) + 1, dtype=torch.float64)
    weight = _interpolate(fine, centres, level).exp()
    area = torch.cat([torch.zeros(1, dtype=torch.float64), ((weight[1:] + weight[:-1]) / 2).cumsum(0)])
    u = torch.linspace(0, 1, knots, dtype=torch.float64)
    inner: list[float] = _interpolate(u, area / area[-1], fine).tolist()[1:-1]
    return (0.0, *inner, 1.0)


def _step(field: Field, tableau: Tableau, start: Tensor, end: Tensor, x: Tensor, slope: Tensor) -> Tensor:
    """One step of a tableau whose first slope is known."""
    h = float(end - start)
    slopes = [slope]
    for row, c in zip(tableau.a[1:], tableau.c[1:], strict=True):
        slopes.append(field(torch.lerp(start, end, c), _advance(x, h, row, slopes)))
    return _advance(x, h, tableau.b, slopes)


def _advance(x: Tensor, h: float, weights: Sequence[float], slopes: Sequence[Tensor]) -> Tensor:
    for weight, slope in zip(weights, slopes, strict=True):
        x = torch.add(x, slope, alpha=h * weight)
    return x


def _smooth(values: Tensor, times: int = 2) -> Tensor:
    """Means of neighbours, 1 2 1, more than once; straight lines and the ends stay."""
    for _ in range(times):
        values = torch.cat([values[:1], (values[:-2] + 2 * values[1:-1] + values[2:]) / 4, values[-1:]])
    return values


def _interpolate(at: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Linear interpolation of (x, y), x ascending, continued in straight lines beyond the ends."""
    right = torch.searchsorted(x, at).clamp(1, len(x) - 1)
    x0, x1, y0, y1 = x[right - 1], x[right], y[right - 1], y[right]
    return y0 + (at - x0) / (x1 - x0) * (y1 - y0)
