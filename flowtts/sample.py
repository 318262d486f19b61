"""``sample``: a text in voices that the model makes up (arXiv 2306.15687, section 1.5: diverse sampling)."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch

from flowtts import __version__
from flowtts.align import round_to_total
from flowtts.edit.request import EditRequest, Progress
from flowtts.edit.studio import Studio
from flowtts.planning import analyse, audible
from flowtts.request import derive
from flowtts.speech import Candidate, Chunk, Plan, Speech
from flowtts.tasks import Diverse, TimedRecipe, timed
from flowtts.types import Audio, UserError, Utterance

DURATIONS = ("regression", "flow")
GUIDANCE = 1.0
"""The paper samples diverse speech without guidance (its alpha = 0)."""


@dataclass(frozen=True)
class SampleRequest:
    """What to sample.

    Attributes:
        text: what to say.
        n: how many recordings.
        durations: "regression" gives the likeliest durations, "flow" draws them, with the variety of real speech.
        how: seed, sampling and lexicon.
    """

    text: str
    n: int
    durations: str
    how: EditRequest

    def __post_init__(self) -> None:
        if not 1 <= self.n <= 1000:
            raise UserError(f"n is from 1 to 1000, not {self.n}")
        if self.durations not in DURATIONS:
            raise UserError(f"no durations {self.durations!r}; there are {', '.join(DURATIONS)}")
        if self.how.best_of > 1:
            raise UserError("sample makes recordings to choose from by ear: leave out best-of and ask for more of them")


def sample(studio: Studio, request: SampleRequest, progress: Progress | None = None) -> list[Speech]:
    """Say a text several times without a prompt, each time in another voice.

    Args:
        studio: the models.
        request: what to sample.
        progress: called with (recordings done, recordings in all).

    Raises:
        UserError: there is nothing to say, or the recipe has no such durations.
    """
    recipe = timed(studio.recipe, studio.model)
    if isinstance(recipe, Diverse):
        recipe = recipe.with_durations(request.durations)
    elif request.durations != "regression":
        raise UserError(f"the model {studio.model} has no durations {request.durations!r}: take regression")
    made = []
    for index in range(request.n):
        seed = request.how.seed if index == 0 else derive(request.how.seed, "sample", index)
        made.append(_one(studio, recipe, request, seed))
        if progress is not None:
            progress(index + 1, request.n)
    return made


def _one(studio: Studio, recipe: TimedRecipe, request: SampleRequest, seed: int) -> Speech:
    """One recording; parts after the first continue the first, so that the voice stays."""
    started = time.perf_counter()
    prompt: Utterance | None = None
    chunks, parts, nfe, calls = [], [], 0, 0
    for index, (text, analysis) in enumerate(analyse(studio.frontend, request.text)):
        rng = torch.Generator().manual_seed(derive(seed, "durations", index))
        predicted = audible(recipe.durations(analysis.phones, prompt, rng), [analysis])
        frames = round_to_total(predicted, max(1, round(float(predicted.sum()))))
        rng = torch.Generator().manual_seed(derive(seed, "noise", index))
        made = recipe.say(analysis.phones, frames, prompt, request.how.sampling, rng)
        prompt = prompt or Utterance(analysis.phones, frames, made.features)
        words = tuple(word.text for word in analysis.words)
        chunks.append(Chunk(text, analysis.normalised, analysis.phones, words, tuple(frames.tolist())))
        parts.append(made.features)
        nfe, calls = nfe + made.nfe, calls + made.network_calls
    audio = Audio(studio.sound(torch.cat(parts), 1.0).clip(-0.99, 0.99), studio.spec.sample_rate)
    plan = Plan(tuple(chunks), studio.spec.frame_rate, _settings(studio, request))
    spent = time.perf_counter() - started
    return Speech(audio, plan, seed, nfe, calls, spent / max(audio.seconds, 1e-9), [Candidate(seed, {})])


def _settings(studio: Studio, request: SampleRequest) -> dict[str, Any]:
    return {
        "verb": "sample", "text": request.text, "durations": request.durations, "model": studio.model,
        "model_hash": studio.hash, "vocoder": studio.vocoder.name, "engine": studio.engine, "tag": studio.tag,
        **request.how.settings(), "flowtts": __version__,
    }  # fmt: skip
