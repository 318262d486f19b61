"""The settings of a benchmark: lists that are multiplied, or rows of a plan."""

from __future__ import annotations

import difflib
import hashlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flowtts.config import read_yaml
from flowtts.solve import guided, solve
from flowtts.solve.strength import Guidance
from flowtts.types import Condition, Sampling, UserError

Choices = Mapping[str, Sequence[Any]]
"""Values to multiply, by key: those of ``KEYS``. A key that is absent means what the model recommends."""

KEYS: Mapping[str, type] = {
    "model": str, "solver": str, "grid": str, "steps": int, "guidance": str, "temperature": float
}  # fmt: skip
"""What a setting consists of, and what its values are. A guidance is a scale or what ``--guidance`` takes."""

REFERENCE = Sampling(solver="rk4", grid="uniform", steps=32)
"""Converged for every field seen so far: 128 evaluations, error far below that of any setting worth measuring."""


@dataclass(frozen=True)
class Setting:
    """A model and how it samples."""

    model: str
    sampling: Sampling

    @property
    def name(self) -> str:
        """A name that differs between settings and can be a folder's."""
        how = self.sampling
        said = f"{Path(self.model).name}-{how.solver}-{how.grid}-{how.steps}-g{how.guidance}"
        plain = re.sub(r"[^\w.+-]+", "_", said)
        if plain == said and Path(self.model).name == self.model and how.temperature == Sampling().temperature:
            return plain
        return f"{plain}-{hashlib.sha256(repr(self).encode()).hexdigest()[:6]}"

    def as_json(self) -> dict[str, Any]:
        """Everything that was chosen."""
        how = self.sampling
        return {
            "model": self.model, "solver": how.solver, "grid": how.grid, "steps": how.steps,
            "guidance": how.guidance, "temperature": how.temperature,
        }  # fmt: skip

    def __str__(self) -> str:
        how = self.sampling
        return f"{self.model} {how.solver} {how.grid} {how.steps}, guidance {how.guidance}"


def expand(rows: Sequence[Choices], recommended: Callable[[str], Sampling]) -> list[Setting]:
    """Every combination of every row, each setting once, in the order of the rows.

    Args:
        rows: each holds at least ``model``.
        recommended: what a model is to be sampled with where a row says nothing.
    """
    found: dict[Setting, None] = {}
    for row in rows:
        keys = [key for key in KEYS if key in row]
        for values in product(*(row[key] for key in keys)):
            chosen = dict(zip(keys, values, strict=True))
            model = chosen.pop("model")
            found[Setting(model, replace(recommended(model), **chosen))] = None
    return list(found)


def reference_of(setting: Setting, chosen: Mapping[str, Any]) -> Setting:
    """The converged run that a setting is compared with: of its model, guidance and temperature unless chosen."""
    mine = replace(setting.sampling, solver=REFERENCE.solver, grid=REFERENCE.grid, steps=REFERENCE.steps)
    how = {key: value for key, value in chosen.items() if key != "model"}
    return Setting(chosen.get("model", setting.model), replace(mine, **how))


def read_plan(path: Path) -> tuple[list[Choices], dict[str, Any]]:
    """Rows and the reference from a YAML file.

        settings:
          - {solver: euler, grid: [uniform, sway], steps: [4, 8, 16]}   # lists are multiplied
          - {solver: rk4, steps: 4, guidance: 1.0}
        reference: {solver: rk4, steps: 64}                             # may be left out

    Raises:
        UserError: unreadable, an unknown key, or a value that is none.
    """
    content = read_yaml(path)
    unknown = [key for key in content if key not in ("settings", "reference")]
    if unknown:
        raise UserError(f"{path}: unknown key {unknown[0]!r}; there are settings and reference")
    rows, reference = content.get("settings"), content.get("reference", {})
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{path}: settings must be a list of rows such as {{solver: euler, grid: sway, steps: [4, 8]}}")
    if not isinstance(reference, dict):
        raise UserError(f"{path}: reference must be one row such as {{solver: rk4, steps: 64}}")
    made: list[Choices] = []
    for number, row in enumerate(rows, 1):
        where = f"{path} setting {number}"
        made.append({key: _several(key, values, where) for key, values in row.items()})
    return made, {key: value_of(key, value, f"{path} reference") for key, value in reference.items()}


def _several(key: str, values: Any, where: str) -> list[Any]:
    given = values if isinstance(values, list) else [values]
    if not given:
        raise UserError(f"{where}: {key} has no value; give one or leave it out")
    return [value_of(key, value, where) for value in given]


def value_of(key: str, value: Any, where: str) -> Any:
    """A value of a setting as its key wants it, from YAML or from the command line.

    Raises:
        UserError: no such key, or not such a value.
    """
    if key not in KEYS:
        near = difflib.get_close_matches(str(key), KEYS, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(KEYS)}"
        raise UserError(f"{where}: unknown key {key!r}; {hint}")
    if key == "guidance":
        return _guidance(value, where)
    try:
        made = KEYS[key](str(value).strip())
    except ValueError:
        raise UserError(f"{where}: {key} {str(value)!r} is not a {_SPOKEN[KEYS[key]]}") from None
    if (isinstance(made, str) and not made) or (isinstance(made, float) and not (math.isfinite(made) and made >= 0)):
        raise UserError(f"{where}: {key} {str(value)!r} is not a value to work with")
    return made


_SPOKEN: Mapping[type, str] = {int: "whole number", float: "number", str: "word"}


def _guidance(value: Any, where: str) -> float | str:
    """A scale as a number, so that 1.3 and "1.30" are one setting; everything else in its shortest spelling."""
    try:
        return Guidance.parse(str(value)).spelled
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


@dataclass(frozen=True)
class Cost:
    """What one solve costs.

    Attributes:
        nfe: evaluations of the field.
        network_calls: calls of the network.
    """

    nfe: int
    network_calls: int


def estimate(sampling: Sampling) -> Cost | None:
    """What a solve costs, found by solving a field of zeros under the same guidance; None where that cannot tell.

    Exact for every solver whose steps are its own choice; adaptive ones find a field of zeros easy and give a minimum.
    """
    none = torch.zeros(1, 2, dtype=torch.bool)
    cond = Condition(none.long(), torch.zeros(1, 2, 1), none, ~none, torch.ones(1, dtype=torch.bool))
    for grid in (sampling.grid, "uniform"):  # one that only the model knows costs what an equidistant one does
        try:
            rng = torch.Generator().manual_seed(0)
            field = guided(_Still(), cond, sampling.guidance)
            found = solve(field, torch.zeros(1, 2, 1), replace(sampling, grid=grid), rng=rng)
        except UserError:
            continue
        return Cost(found.nfe, found.network_calls)
    return None


class _Still:
    """A network that moves nothing, whatever a solver asks of it."""

    def __init__(self, branches: int = 1) -> None:
        self._branches = branches

    def prepare(self, cond: Condition) -> _Still:
        """With a condition of so many branches."""
        return _Still(len(cond.text))

    def without_text(self, cond: Condition) -> Condition:
        """The condition, for separate guidance."""
        return cond

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        return x.new_zeros(self._branches * len(x), *x.shape[1:])

    def average(self, t: Tensor, s: Tensor, x: Tensor) -> Tensor:
        """The mean of no velocity."""
        return self(t, x)
