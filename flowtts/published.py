"""Weights that others have published, under our names: strictly, so that none is lost and none is made up."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from flowtts import checkpoint
from flowtts.types import PathLike, UserError

Names = Sequence[tuple[str, str]]
"""What to replace in a published name, in this order: a regular expression, and what comes in its place."""


def read_json(path: PathLike) -> dict[str, Any]:
    """A file such as ``config.json``.

    Raises:
        UserError: it cannot be read, or holds no JSON object.
    """
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; fetch the published files again") from None
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise UserError(f"{path} is not JSON of a configuration: fetch the published file again")
    return values


def tensors(held: Any, source: PathLike) -> Mapping[str, Tensor]:
    """What a file of weights holds, if that is weights by name.

    Raises:
        UserError: it is something else.
    """
    if isinstance(held, Mapping) and held and all(isinstance(x, Tensor) for x in held.values()):
        return held
    raise UserError(f"{source} does not hold weights by name: fetch the published file again")


def rename(
    state: Mapping[str, Tensor], names: Names, source: PathLike, ignored: Sequence[str] = ()
) -> dict[str, Tensor]:
    """Weights under our names; `check` finds those that are unknown.

    Args:
        state: weights under published names.
        names: see `Names`.
        source: where they come from, for messages.
        ignored: whole published names, as regular expressions, that are not wanted.

    Raises:
        UserError: two weights get one name.
    """
    made: dict[str, Tensor] = {}
    for theirs, weight in state.items():
        if any(re.fullmatch(pattern, theirs) for pattern in ignored):
            continue
        ours = theirs
        for pattern, replacement in names:
            ours = re.sub(pattern, replacement, ours)
        if ours in made:
            raise UserError(f"{source} is not the published file: it has {theirs} twice")
        made[ours] = weight
    return made


def check(make: Callable[[], nn.Module], state: Mapping[str, Tensor], source: PathLike) -> None:
    """Sees that weights are a network's, all of them and no others, without making the network.

    Raises:
        UserError: a name is missing or unknown, or a shape differs.
    """
    with torch.device("meta"):
        network = make()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns that nothing is copied to where there is no memory
        checkpoint.load_state(network, state, source)


def fold_weight_norm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights that weight normalisation (arXiv 1602.07868) stands for: g v / |v|, one norm for each first index."""
    made: dict[str, Tensor] = {}
    for name, weight in state.items():
        if name.endswith("weight_v") and (gain := state.get(f"{name[:-1]}g")) is not None:
            norm = weight.float().flatten(1).norm(dim=1).view(-1, *[1] * (weight.ndim - 1))
            made[name[: -len("_v")]] = weight.float() * (gain.float() / norm)
        elif not (name.endswith("weight_g") and f"{name[:-1]}v" in state):
            made[name] = weight
    return made
