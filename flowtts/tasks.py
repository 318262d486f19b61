"""What a model can be asked to do, and the refusal of what it cannot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from flowtts.registry import TASKS, can
from flowtts.types import Generated, Phone, Recipe, Sampling, UserError, Utterance

_DOES = {
    "say": "speak a text",
    "edit": "edit a recording",
    "fill": "fill a part of a recording",
    "denoise": "remove noise from a recording",
    "restyle": "give a recording another voice",
    "continue": "continue a recording",
    "sample": "speak without a voice to follow",
}


@runtime_checkable
class Infilling(Protocol):
    """A recipe that can generate a part of an utterance between parts that are known."""

    name: str
    tasks: frozenset[str]

    def durations(self, phones: Sequence[Phone], prompt: object, rng: torch.Generator) -> Tensor:
        """As ``Recipe.durations``."""
        ...

    def fill_durations(self, phones: Sequence[Phone], known: Tensor, given: Tensor, rng: torch.Generator) -> Tensor:
        """(L,) float frames of every phone: ``given`` (L,) int64 where ``known`` (L,) bool, predicted elsewhere."""
        ...

    def infill(
        self,
        phones: Sequence[Phone],
        durations: Tensor,
        features: Tensor,
        known: Tensor,
        sampling: Sampling,
        rng: torch.Generator,
    ) -> Generated:
        """(T, C) features of ``phones`` lasting ``durations`` (L,); those of ``features`` where ``known`` (T,) bool."""
        ...


@dataclass(frozen=True, eq=False)
class Saying:
    """One utterance to say; see ``Recipe.say``."""

    phones: tuple[Phone, ...]
    durations: Tensor
    prompt: Utterance | None
    rng: torch.Generator


@runtime_checkable
class Batched(Protocol):
    """A recipe that can say several utterances at once."""

    @property
    def batches(self) -> bool:
        """Whether that is faster here than one by one."""
        ...

    def say_many(self, sayings: Sequence[Saying], sampling: Sampling) -> list[Generated]:
        """As ``Recipe.say`` for each, up to rounding."""
        ...


@runtime_checkable
class Diverse(Protocol):
    """A recipe with more than one model of durations."""

    def with_durations(self, variant: str) -> Recipe:
        """The same recipe, its durations from "regression" or "flow"."""
        ...


def require(recipe: Recipe, task: str, name: str | None = None) -> None:
    """Refuse what a recipe cannot do.

    Args:
        recipe: the recipe.
        task: one of ``TASKS``.
        name: of the model, as the user gave it; the recipe's by default.

    Raises:
        UserError: it cannot; names the recipes that can.
    """
    if task not in TASKS:
        raise ValueError(f"no task {task!r}; there are {', '.join(TASKS)}")
    if task not in recipe.tasks:
        able = can(task)
        hint = f"take {' or '.join(able)}" if able else "no recipe of this version can"
        raise UserError(f"the model {name or recipe.name} cannot {_DOES[task]} ({task}): {hint}")


def infilling(recipe: Recipe, task: str, name: str | None = None) -> Infilling:
    """The recipe as one that regenerates parts of an utterance, which ``task`` is built on.

    Raises:
        UserError: it cannot do the task.
    """
    require(recipe, task, name)
    if not isinstance(recipe, Infilling):
        raise TypeError(f"the recipe {recipe.name} claims the task {task} and has no method infill")
    return recipe
