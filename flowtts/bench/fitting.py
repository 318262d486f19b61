"""``--fit-grid``: a time grid fitted to a model on trajectories of the sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from flowtts.bench.speak import Speaker, Utterance
from flowtts.types import Field, PathLike, Phone, Sampling, UserError
from flowtts.voice import Voice


@runtime_checkable
class Fielded(Protocol):
    """A recipe that shows the field it follows."""

    def field(
        self, phones: Sequence[Phone], durations: Tensor, features: Tensor, known: Tensor, guidance: float | str
    ) -> Field:
        """The guided field of one utterance (B = 1).

        Args:
            phones: all L phones.
            durations: (L,) int64 frames, summing to T.
            features: (T, C) features; read only where ``known``.
            known: (T,) bool.
            guidance: a scale, or what ``--guidance`` takes.
        """
        ...


def fit(
    speaker: Speaker, voices: Mapping[str, Voice], utterances: Sequence[Utterance], sampling: Sampling, path: PathLike
) -> None:
    """Fit a grid to the trajectories of some utterances and write it.

    Args:
        speaker: of the model.
        voices: prompts by name.
        utterances: what to say; one trajectory for each part of each.
        sampling: its guidance and temperature are used.
        path: of the JSON file that ``--grid`` reads.

    Raises:
        UserError: the recipe does not show its field, or the file cannot be written.
    """
    from flowtts.solve.fitting import fit_grid

    recipe = speaker.tts.recipe
    if not isinstance(recipe, Fielded):
        raise UserError(f"--fit-grid: the recipe {recipe.name} does not show its field; fit a grid to another model")
    with torch.no_grad():
        fields = _trajectories(recipe, speaker, voices, utterances, sampling)
        fit_grid(fields, model=speaker.tts.name, guidance=sampling.guidance).save(path)


def _trajectories(
    recipe: Fielded, speaker: Speaker, voices: Mapping[str, Voice], utterances: Sequence[Utterance], sampling: Sampling
) -> Iterator[tuple[Field, Tensor]]:
    """A field and its start (1, T, C) for every part: the prompt is its known beginning, as in zero-shot speech."""
    for utterance in utterances:
        prompt = voices[utterance.voice].prompt
        heard, channels = prompt.features.shape
        for index, chunk in enumerate(speaker.chunks(utterance, sampling)):
            durations = torch.cat([prompt.durations, torch.tensor(chunk.frames, dtype=torch.long)])
            total = int(durations.sum())
            features = torch.cat([prompt.features, torch.zeros(total - heard, channels)])
            known = torch.arange(total) < heard
            field = recipe.field((*prompt.phones, *chunk.phones), durations, features, known, sampling.guidance)
            noise = torch.randn(1, total, channels, generator=speaker.noise(index)) * sampling.temperature
            yield field, noise.to(speaker.device)
