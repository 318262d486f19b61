"""Explicit Runge-Kutta methods as data: a new solver is a table, and a wrong table cannot be built."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Tableau:
    """An explicit Butcher tableau.

        c1 |
        c2 | a21                 k_i = v(t + c_i h, x + h sum_j a_ij k_j)
        c3 | a31 a32             x'  = x + h sum_i b_i k_i
        ---+------------
           | b1  b2  b3

    Attributes:
        name: as users spell it.
        order: p, where the error of a whole solve falls as h^p.
        a: row i holds i entries, the first none.
        b: weights.
        c: stage times as fractions of the step.

    Raises:
        ValueError: the rows do not sum to c, the weights do not sum to 1, or an order condition up to ``order``
            fails (Hairer, Norsett, Wanner, Solving Ordinary Differential Equations I, table II.2.1).
    """

    name: str
    order: int
    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]
    c: tuple[float, ...]

    def __post_init__(self) -> None:
        if not len(self.a) == len(self.b) == len(self.c) or any(len(row) != i for i, row in enumerate(self.a)):
            raise ValueError(f"tableau {self.name}: explicit stage i needs a row of i entries, a weight and a time")
        for row, c in zip(self.a, self.c, strict=True):
            if not _equal(sum(row), c):
                raise ValueError(f"tableau {self.name}: row {row} sums to {sum(row)}, not to c = {c}")
        if not 1 <= self.order <= 4:
            raise ValueError(f"tableau {self.name}: order {self.order} cannot be checked, only 1 to 4")
        for order, tree, value in self._order_conditions():
            if order <= self.order and not _equal(_dot(self.b, tree), value):
                raise ValueError(f"tableau {self.name}: the weights give {_dot(self.b, tree)} where order {order} "
                                 f"needs {value}")  # fmt: skip

    def _order_conditions(self) -> Sequence[tuple[int, Sequence[float], float]]:
        """(order, Phi, 1 / gamma) of every rooted tree with at most four nodes: b . Phi = 1 / gamma."""
        c, ac = self.c, self._inner(self.c)
        squares = [x**2 for x in c]
        return (
            (1, [1.0] * len(c), 1),
            (2, c, 1 / 2),
            (3, squares, 1 / 3),
            (3, ac, 1 / 6),
            (4, [x**3 for x in c], 1 / 4),
            (4, [x * y for x, y in zip(c, ac, strict=True)], 1 / 8),
            (4, self._inner(squares), 1 / 12),
            (4, self._inner(ac), 1 / 24),
        )

    def _inner(self, values: Sequence[float]) -> list[float]:
        """The matrix a applied to one value per stage."""
        return [_dot(row, values[: len(row)]) for row in self.a]


def _dot(x: Sequence[float], y: Sequence[float]) -> float:
    return math.fsum(p * q for p, q in zip(x, y, strict=True))


def _equal(x: float, y: float) -> bool:
    return math.isclose(x, y, abs_tol=1e-12)


EULER = Tableau("euler", 1, a=((),), b=(1.0,), c=(0.0,))
"""One evaluation per step; F5-TTS's default."""

MIDPOINT = Tableau("midpoint", 2, a=((), (1 / 2,)), b=(0.0, 1.0), c=(0.0, 1 / 2))
"""Voicebox's choice: 16 steps, 32 evaluations (arXiv 2306.15687)."""

HEUN = Tableau("heun", 2, a=((), (1.0,)), b=(1 / 2, 1 / 2), c=(0.0, 1.0))
"""The explicit trapezoidal rule. Looks at the end of every interval, so at t = 1 too."""

RALSTON = Tableau("ralston", 2, a=((), (2 / 3,)), b=(1 / 4, 3 / 4), c=(0.0, 2 / 3))
"""Two stages with the least bound on the local error (Ralston 1962)."""

RK3 = Tableau("rk3", 3, a=((), (1 / 2,), (-1.0, 2.0)), b=(1 / 6, 2 / 3, 1 / 6), c=(0.0, 1 / 2, 1.0))
"""Kutta's third-order method."""

RK4 = Tableau(
    "rk4", 4,
    a=((), (1 / 2,), (0.0, 1 / 2), (0.0, 0.0, 1.0)),
    b=(1 / 6, 1 / 3, 1 / 3, 1 / 6),
    c=(0.0, 1 / 2, 1 / 2, 1.0),
)  # fmt: skip
"""The classical fourth-order method."""

TABLEAUX: Mapping[str, Tableau] = {tab.name: tab for tab in (EULER, MIDPOINT, HEUN, RALSTON, RK3, RK4)}
"""Every table by name."""
