"""The one loop that interprets any tableau over any grid, and the loop of flow maps."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from flowtts.solve.problem import Problem
from flowtts.solve.tableau import Tableau
from flowtts.types import UserError


@dataclass(frozen=True)
class FixedStep:
    """A Runge-Kutta method that steps from grid point to grid point.

    Costs (points - 1) x stages evaluations. Items of a batch do not influence one another. A slope is added to every
    stage that needs it as soon as it is known, so that none is kept: the field may return the same buffer each time.

    Attributes:
        tableau: the method.
    """

    tableau: Tableau

    def tuned(self, value: float) -> FixedStep:
        """Refuses: a table has no parameter.

        Raises:
            UserError: always.
        """
        raise no_parameter(self.tableau.name, value)

    def __call__(self, problem: Problem) -> Tensor:
        """Integrate from the first to the last grid point.

        Without autograd the loop allocates nothing, and neither waits for the device nor copies to it.

        Returns:
            (B, T, C) the end point.
        """
        field, x, grid, table = problem.field, problem.x, problem.grid, self.tableau
        count = len(table.b)
        # Column i: which later stages, and at last the result, take slope i, and with what weight.
        rows = (*table.a, table.b)
        uses = [[(j, rows[j][i]) for j in range(i + 1, count + 1) if rows[j][i]] for i in range(count)]
        # lerp hits both ends exactly.
        times = torch.lerp(grid[:-1, None], grid[1:, None], torch.tensor(table.c, dtype=grid.dtype))
        # Two rooms take turns at the result: a field may return its very argument, which must outlive the step.
        *room, spare = problem.buffers(count + 1)
        for h, stages in zip(grid.diff().tolist(), [list(row.unbind()) for row in times], strict=True):
            points = [x] * (count + 1)
            for i, t in enumerate(stages):
                slope = field(t, points[i])
                for j, weight in uses[i]:
                    points[j] = torch.add(points[j], slope, alpha=h * weight, out=room[j - 1])
            x = points[count]
            room[-1], spare = spare, room[-1]
        return x


@dataclass(frozen=True)
class FlowMapStep:
    """Follows a field that knows the mean velocity between two times: one evaluation and no error per step.

    x(s) = x(t) + (s - t) average(t, s, x(t)): mean flows (arXiv 2505.13447, eq. 12), shortcuts (arXiv 2410.12557).
    """

    name: str = "flowmap"

    def tuned(self, value: float) -> FlowMapStep:
        """Refuses: there is no parameter.

        Raises:
            UserError: always.
        """
        raise no_parameter(self.name, value)

    def __call__(self, problem: Problem) -> Tensor:
        """Jump from grid point to grid point.

        Raises:
            UserError: the field is no `flowtts.solve.FlowMap`.
        """
        x, times = problem.x, problem.grid.unbind()
        room, spare = problem.buffers(2)
        for h, t, s in zip(problem.grid.diff().tolist(), times[:-1], times[1:], strict=True):
            x = torch.add(x, problem.field.average(t, s, x, self.name), alpha=h, out=room)
            room, spare = spare, room
        return x


def no_parameter(name: str, value: float) -> UserError:
    """What to raise where a solver without a parameter is given one."""
    return UserError(f"solver '{name}' takes no parameter, but was given {value:g}: drop the ':'")
