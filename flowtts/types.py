"""The nouns every part of flowtts speaks in, and the protocols that recipes, vocoders and metrics meet.

Shapes use one vocabulary throughout the project: B batch, T feature frames, C feature channels,
L phones, N samples, K codebooks. Masks are bool and True means real. Times are seconds unless a
name says frames or samples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flowtts.spec import VOCOS_MEL as VOCOS_MEL
from flowtts.spec import VOICEBOX_MEL as VOICEBOX_MEL
from flowtts.spec import CodeSpec as CodeSpec
from flowtts.spec import FeatureSpec as FeatureSpec
from flowtts.spec import LatentSpec as LatentSpec
from flowtts.spec import MelSpec as MelSpec
from flowtts.spec import Spec as Spec

Samples = NDArray[np.float32]
"""float32 audio in [-1, 1]: (N,) mono, or (N, channels)."""

Field = Callable[[Tensor, Tensor], Tensor]
"""A vector field: (t, x (B, T, C)) -> dx/dt (B, T, C). t, 0 (noise) to 1 (data), is 0-dim float64 on the CPU."""


class UserError(Exception):
    """The user asked for something that cannot be done: one clear line, exit status 2.

    The message says what is wrong, where, and what to do about it.
    """


@dataclass(frozen=True, eq=False)
class Audio:
    """Sound with its sampling rate.

    Attributes:
        samples: float32, (N,) mono or (N, channels).
        sample_rate: Hz.
    """

    samples: Samples
    sample_rate: int

    def __post_init__(self) -> None:
        if self.samples.dtype != np.float32 or self.samples.ndim not in (1, 2):
            raise ValueError("Audio needs float32 samples of shape (N,) or (N, channels)")
        if self.sample_rate <= 0:
            raise ValueError(f"sample_rate must be positive, not {self.sample_rate}")

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.sample_rate

    def mono(self) -> Audio:
        """The mean of the channels."""
        if self.samples.ndim == 1:
            return self
        return replace(self, samples=self.samples.mean(axis=1, dtype=np.float32))


@dataclass(frozen=True)
class Phone:
    """One phone of an utterance and where it comes from.

    Attributes:
        symbol: the vocabulary's symbol, e.g. "AH0_B", "SIL".
        word: index of its word in the utterance, or -1 for a pause.
        start: first character of that word in the normalised text (for a pause: where it stands).
        end: one past its last character.
    """

    symbol: str
    word: int
    start: int
    end: int


@dataclass(frozen=True)
class Word:
    """A word with its time. Confidence is None where nothing measured it."""

    text: str
    start: float
    end: float
    confidence: float | None = None


@dataclass(frozen=True)
class Condition:
    """Everything a network needs beside x and t.

    Attributes:
        text: (B, T) int64 phone ids repeated to frames (Voicebox's z), or (B, L) for recipes without durations.
        prompt: (B, T, C) known frames, exactly zero where unknown.
        known: (B, T) bool, True where ``prompt`` holds a real frame.
        mask: (B, T) bool, True where the frame exists (not padding).
        keep: (B,) bool; False asks for the unconditional model: the network drops text and prompt.
    """

    text: Tensor
    prompt: Tensor
    known: Tensor
    mask: Tensor
    keep: Tensor

    def null(self) -> Condition:
        """The same condition with everything dropped: serves training dropout and guidance alike."""
        return replace(self, keep=torch.zeros_like(self.keep))

    def to(self, device: torch.device | str) -> Condition:
        """Moved to a device."""
        moved = (x.to(device) for x in (self.text, self.prompt, self.known, self.mask, self.keep))
        return Condition(*moved)


@dataclass(frozen=True)
class Batch:
    """A training batch.

    Attributes:
        features: (B, T, C) normalised log-mel, zero on padding.
        frames: (B,) int64 real frames of each item.
        phones: (B, L) int64 phone ids, 0 on padding.
        durations: (B, L) int64 frames per phone, 0 on padding and for ghost silences; sums to ``frames``.
        lengths: (B,) int64 real phones of each item.
        transcribed: (B,) bool, False where the text is unknown and must be dropped.
        ids: B names.
    """

    features: Tensor
    frames: Tensor
    phones: Tensor
    durations: Tensor
    lengths: Tensor
    transcribed: Tensor
    ids: tuple[str, ...] = ()

    def to(self, device: torch.device | str) -> Batch:
        """Moved to a device."""
        names = ("features", "frames", "phones", "durations", "lengths", "transcribed")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})


@dataclass(frozen=True)
class Sampling:
    """How to sample.

    Attributes:
        solver: a name of ``flowtts.solve.SOLVERS``.
        grid: a name of ``flowtts.solve.GRIDS``, "fitted" (to the model), or the path of a grid's JSON file.
        steps: intervals of the grid (adaptive solvers ignore it).
        guidance: g in null + g (cond - null), 1 is none; or a spelling of ``flowtts.solve.Guidance``: "2,rescale=0.7".
        temperature: standard deviation of the initial noise.
    """

    solver: str = "midpoint"
    grid: str = "uniform"
    steps: int = 8
    guidance: float | str = 1.3
    temperature: float = 0.75


@dataclass(frozen=True, eq=False)
class Utterance:
    """Phones with durations and features: a prompt, or what a recipe made.

    Attributes:
        phones: L phones.
        durations: (L,) int64 frames of each.
        features: (T, C), T = durations.sum(); a recipe's normalised log-mel.
    """

    phones: tuple[Phone, ...]
    durations: Tensor
    features: Tensor


@dataclass(frozen=True, eq=False)
class Generated:
    """What a recipe returns.

    Attributes:
        features: (T, C) normalised log-mel of the target alone.
        durations: (L,) int64 frames of each target phone.
        nfe: evaluations of the field.
        network_calls: calls of the network; guidance makes two of one evaluation.
    """

    features: Tensor
    durations: Tensor
    nfe: int
    network_calls: int


@runtime_checkable
class Recipe(Protocol):
    """A way of turning text and a voice into features: ``flowtts.tasks`` has the kinds."""

    name: str
    tasks: frozenset[str]

    @property
    def spec(self) -> Spec:
        """What it emits; must equal the vocoder's."""
        ...

    @property
    def symbols(self) -> Sequence[str]:
        """The vocabulary: index is the phone id."""
        ...

    @property
    def sampling(self) -> Sampling:
        """What the checkpoint's author recommends; requests start from it."""
        ...


@runtime_checkable
class Trainable(Protocol):
    """What ``flowtts.train.fit`` needs of a recipe's network."""

    def loss(self, batch: Any, rng: torch.Generator) -> Mapping[str, Tensor]:
        """Scalars by name; the one called "loss" is minimised, the others are logged."""
        ...


@runtime_checkable
class Copier(Protocol):
    """A vocoder that copies sound otherwise than through its features: a codec does it through codes."""

    def copy(self, samples: Tensor) -> Tensor:
        """(B, N) -> (B, N) samples in [-1, 1]."""
        ...


@runtime_checkable
class Vocoder(Protocol):
    """Features to sound."""

    name: str

    @property
    def spec(self) -> FeatureSpec:
        """What it reads; must equal the recipe's."""
        ...

    def decode(self, features: Tensor) -> Tensor:
        """(B, T, C) features -> (B, T * hop_length) samples in [-1, 1]."""
        ...


@dataclass(frozen=True, eq=False)
class Item:
    """One row of an evaluation.

    Attributes:
        audio: what was made.
        text: what it should say.
        reference: a recording of the same text, where there is one.
        prompt: the recording whose voice it should have.
        id: the row's name.
    """

    audio: Audio
    text: str
    reference: Audio | None = None
    prompt: Audio | None = None
    id: str = ""


@dataclass(frozen=True)
class Score:
    """A metric over a set of items.

    Attributes:
        value: the metric; low, high: its bootstrap 95 % interval.
        backend: which model or program judged, with its version.
        sample_rate: Hz at which the audio was judged.
        count: items judged.
        dropped: ids of the items that could not be judged, with the reason.
        items: per-item values by id.
        weights: what each item counts for in the mean, by id, e.g. its words; empty if all count alike.
        heard: what a recogniser heard, by id.
    """

    value: float
    low: float
    high: float
    backend: str
    sample_rate: int
    count: int
    dropped: Mapping[str, str] = field(default_factory=dict)
    items: Mapping[str, float] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    heard: Mapping[str, str] = field(default_factory=dict)


@runtime_checkable
class Metric(Protocol):
    """A judge of items."""

    name: str
    higher_is_better: bool

    def __call__(self, items: Sequence[Item]) -> Score:
        """Judge all items together."""
        ...


PathLike = str | Path
