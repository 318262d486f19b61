"""Solvers: fields, grids, guidance, and the one call that joins them."""

from flowtts.solve.fitting import FittedGrid, fit_grid
from flowtts.solve.graph import Graphs
from flowtts.solve.grid import GRIDS, Grid, GridTable, grid_named, read_grid, resolved
from flowtts.solve.guidance import (
    Conditional,
    GuidedField,
    GuidedMap,
    Network,
    Preparable,
    Prepared,
    PreparedMap,
    Separable,
    alpha_of,
    guided,
    scale_of,
)
from flowtts.solve.integrate import SOLVERS, Solution, solve, solver_named
from flowtts.solve.inversion import RoundTrip, invert, round_trip
from flowtts.solve.likelihood import LogLikelihood, log_likelihood
from flowtts.solve.problem import Costed, FlowMap, Problem, Ranged, Rng, Solver
from flowtts.solve.reschedule import Rescheduled, reschedule
from flowtts.solve.strength import Guidance
from flowtts.solve.tableau import TABLEAUX, Tableau

__all__ = [
    "GRIDS",
    "SOLVERS",
    "TABLEAUX",
    "Conditional",
    "Costed",
    "FittedGrid",
    "FlowMap",
    "Graphs",
    "Grid",
    "GridTable",
    "Guidance",
    "GuidedField",
    "GuidedMap",
    "LogLikelihood",
    "Network",
    "Preparable",
    "Prepared",
    "PreparedMap",
    "Problem",
    "Ranged",
    "Rescheduled",
    "Rng",
    "RoundTrip",
    "Separable",
    "Solution",
    "Solver",
    "Tableau",
    "alpha_of",
    "fit_grid",
    "grid_named",
    "guided",
    "invert",
    "log_likelihood",
    "read_grid",
    "reschedule",
    "resolved",
    "round_trip",
    "scale_of",
    "solve",
    "solver_named",
]
