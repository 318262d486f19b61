"""Solvers: fields, grids, guidance, and the one call that joins them."""

from flowtts.solve.grid import GRIDS, Grid
from flowtts.solve.guidance import GuidedField, Network, alpha_of, guided, scale_of
from flowtts.solve.integrate import SOLVERS, Costed, Solution, Solver, grid_named, solve, solver_named
from flowtts.solve.tableau import TABLEAUX, Tableau

__all__ = [
    "GRIDS",
    "SOLVERS",
    "TABLEAUX",
    "Costed",
    "Grid",
    "GuidedField",
    "Network",
    "Solution",
    "Solver",
    "Tableau",
    "alpha_of",
    "grid_named",
    "guided",
    "scale_of",
    "solve",
    "solver_named",
]
