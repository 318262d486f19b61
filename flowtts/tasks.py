"""What a model can be asked to do, and the refusal of what it cannot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from flowtts.decode import Decoding
from flowtts.latents import Latents
from flowtts.registry import TASKS, can
from flowtts.text import Analysis
from flowtts.types import Audio, Generated, Phone, Recipe, Sampling, UserError, Utterance

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
class TimedRecipe(Recipe, Protocol):
    """A recipe that knows how long every phone lasts before it speaks."""

    def durations(self, phones: Sequence[Phone], prompt: Utterance | None, rng: torch.Generator) -> Tensor:
        """(L,) float frames predicted for ``phones``, in the context of the prompt's durations."""
        ...

    def say(
        self, phones: Sequence[Phone], durations: Tensor, prompt: Utterance | None, sampling: Sampling,
        rng: torch.Generator,
    ) -> Generated:  # fmt: skip
        """Features of ``phones`` lasting ``durations`` (L,) int64 frames, in the prompt's voice."""
        ...


@runtime_checkable
class Infilling(Protocol):
    """A recipe that can generate a part of an utterance between parts that are known."""

    name: str
    tasks: frozenset[str]

    def durations(self, phones: Sequence[Phone], prompt: object, rng: torch.Generator) -> Tensor:
        """As ``TimedRecipe.durations``."""
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
    """One utterance to say; see ``TimedRecipe.say``."""

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
        """As ``TimedRecipe.say`` for each, up to rounding."""
        ...


@runtime_checkable
class Diverse(Protocol):
    """A recipe with more than one model of durations."""

    def with_durations(self, variant: str) -> TimedRecipe:
        """The same recipe, its durations from "regression" or "flow"."""
        ...


class Spoken(Protocol):
    """One take of a text that a free recipe has drawn and not yet made audible."""

    @property
    def frames(self) -> int:
        """How long it is by itself."""
        ...

    @property
    def network_calls(self) -> int:
        """What drawing it cost, its share of what was drawn together."""
        ...


@dataclass(frozen=True)
class Preset:
    """A customary bargain between speed and quality.

    Attributes:
        best_of: takes.
        steps: of the sampler.
        guidance: as in ``Sampling``.
    """

    best_of: int
    steps: int
    guidance: float | str


@runtime_checkable
class FreeRecipe(Recipe, Protocol):
    """A recipe whose speech lasts as long as it happens to last: autoregressive models.

    It first draws any number of takes of a text, can judge them, and makes audible those that are wanted.
    """

    @property
    def decoding(self) -> Decoding:
        """What the checkpoint's author recommends for drawing."""
        ...

    @property
    def presets(self) -> Mapping[str, Preset]:
        """By name."""
        ...

    def voice(self, clips: Sequence[Audio]) -> Latents:
        """What the model knows of a voice, from recordings of it."""
        ...

    def random_voice(self, rng: torch.Generator) -> Latents:
        """A voice that nobody has.

        Raises:
            UserError: the checkpoint has none.
        """
        ...

    def draw(
        self, analysis: Analysis, voice: Latents, decoding: Decoding, rngs: Sequence[torch.Generator]
    ) -> Sequence[Spoken]:
        """As many takes as there are generators; each depends on its own alone."""
        ...

    def judge(self, analysis: Analysis, takes: Sequence[Spoken]) -> Tensor:
        """(takes,) how well each fits the text; more is better.

        Raises:
            UserError: the checkpoint has no judge.
        """
        ...

    def render(
        self, analysis: Analysis, take: Spoken, voice: Latents, sampling: Sampling, rng: torch.Generator, pace: float
    ) -> Generated:
        """Features of a take, ``pace`` times as long as it is; the durations are empty."""
        ...


def timed(recipe: Recipe, name: str | None = None) -> TimedRecipe:
    """The recipe as one that times its phones.

    Raises:
        UserError: it does not.
    """
    if not isinstance(recipe, TimedRecipe):
        raise UserError(f"the model {name or recipe.name} does not time its phones beforehand: take one that does")
    return recipe


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
