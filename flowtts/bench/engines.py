"""``flowtts bench --tune``: which engine is the fastest here, kept for "auto"."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from flowtts.device import choose_device
from flowtts.engine import ENGINES, EngineName
from flowtts.registry import load_recipe
from flowtts.tasks import TimedRecipe, timed
from flowtts.text import FrontEnd
from flowtts.tuning import LARGEST_ERROR, Measured, best, fingerprint, keep, tune
from flowtts.types import PathLike, Phone, UserError

TEXT = (
    "The birch canoe slid on the smooth planks. Glue the sheet to the dark blue background. It is easy to tell the "
    "depth of a well. These days a chicken leg is a rare dish. Rice is often served in round bowls. The juice of "
    "lemons makes fine punch. The box was thrown beside the parked truck. The hogs were fed chopped corn and garbage. "
    "Four hours of steady work faced us. A large size in stockings is hard to sell."
)
QUICK: tuple[EngineName, ...] = tuple(name for name in ENGINES if name != "compiled")
"""Those that start at once."""


@runtime_checkable
class Engined(Protocol):
    """A recipe whose network is computed by an engine."""

    audio: nn.Module

    @property
    def engine(self) -> str:
        """The engine's name."""
        ...


@dataclass(frozen=True)
class Tuning:
    """What was measured.

    Attributes:
        device: where.
        threads: of the CPU.
        seconds: of the utterance.
        engines: by name.
        refused: why others did not run.
        chosen: what "auto" takes from now on.
        file: where that is kept.
    """

    device: str
    threads: int
    seconds: float
    engines: dict[str, Measured]
    refused: dict[str, str]
    chosen: str
    file: Path

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return {**asdict(self), "file": str(self.file)}


def tune_engines(
    model: PathLike = "voicebox", device: str = "auto", engines: Sequence[str] = QUICK, seconds: float = 5.0,
    rounds: int = 5,
) -> Tuning:  # fmt: skip
    """Time engines against each other on a model, and keep what was found.

    Every figure is a whole solve as the model recommends it, conditioning included; engines run in turns.

    Args:
        model: name or folder.
        device: as everywhere.
        engines: which; "eager" is always among them.
        seconds: length of the utterance, at most 25.
        rounds: runs of each, of which the median counts.

    Raises:
        UserError: an unknown name, or the model has no engines.
    """
    place = choose_device(device)
    exact = load_recipe(model, place)
    if not isinstance(exact, Engined):
        raise UserError(f"the model {model} is computed in one way only: there is nothing to tune")
    phones, durations = _utterance(timed(exact), seconds)
    solves: dict[str, Callable[[], Tensor]] = {"eager": _solve(timed(exact), phones, durations)}
    refused: dict[str, str] = {}
    for name in engines:
        if name == "eager":
            continue
        try:
            solves[name] = _solve(timed(load_recipe(model, place, name)), phones, durations)
            solves[name]()
        except UserError as refusal:
            refused[name] = str(refusal)
            solves.pop(name, None)
    measured = tune(solves, rounds)
    key = fingerprint(exact.audio, place)
    file = keep(key, measured)
    found = best({key: measured}, key)
    length = round(int(durations.sum()) / exact.spec.frame_rate, 2)
    chosen = "eager" if found is None else found[0]
    return Tuning(str(place), torch.get_num_threads(), length, measured, refused, chosen, file)


def verdict(tuning: Tuning) -> str:
    """What follows, in one line."""
    return (
        f"auto is {tuning.chosen} from now on: the fastest whose result is within {LARGEST_ERROR:.0%} of eager's; "
        f"kept in {tuning.file}"
    )


def _utterance(recipe: TimedRecipe, seconds: float) -> tuple[Sequence[Phone], Tensor]:
    """The beginning of TEXT that lasts about so long."""
    phones = FrontEnd().analyse(TEXT).phones
    predicted = recipe.durations(phones, None, torch.Generator().manual_seed(0)).round().clamp(min=1).long()
    ends = predicted.cumsum(0)
    count = max(1, int((ends <= seconds * recipe.spec.frame_rate).sum()))
    return phones[:count], predicted[:count]


def _solve(recipe: TimedRecipe, phones: Sequence[Phone], durations: Tensor) -> Callable[[], Tensor]:
    def run() -> Tensor:
        rng = torch.Generator().manual_seed(0)
        return recipe.say(phones, durations, None, recipe.sampling, rng).features

    return run
