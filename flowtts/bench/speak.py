"""One utterance under one setting: its features, its sound, and what each part took."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from flowtts.bench.sentences import Sentence
from flowtts.pipeline import Pipeline
from flowtts.request import derive
from flowtts.speech import Chunk
from flowtts.tasks import timed
from flowtts.types import Audio, Sampling, UserError
from flowtts.voice import Voice


@dataclass(frozen=True)
class Utterance:
    """A sentence in a voice."""

    voice: str
    sentence: Sentence

    @property
    def id(self) -> str:
        """Names its files."""
        return f"{self.voice}-{self.sentence.id}"


@dataclass(frozen=True, eq=False)
class Spoken:
    """What came of it.

    Attributes:
        features: (T, C) generated frames, the prompt left out.
        audio: the sound.
        nfe: evaluations of the field per solve; a long text is solved in parts.
        network_calls: calls of the network per solve.
        sampling: seconds in the recipe: conditioning, solver, network.
        busy: of those, the seconds of computing on the CPU by all threads, which other programs do not change.
        whole: seconds from text to sound, of which a user waits for every one.
    """

    features: Tensor
    audio: Audio
    nfe: float
    network_calls: float
    sampling: float
    busy: float
    whole: float


class Speaker:
    """Says utterances with one model.

    Args:
        tts: the model.
        voices: prompts by name.
        sources: recordings or shipped names that the pipeline is to be asked with, by the same names.
        seed: of durations and noise, the same for every setting.
        device: where the model computes.

    Raises:
        UserError: the model does not time its phones, so that settings would not say the same.
    """

    def __init__(
        self, tts: Pipeline, voices: Mapping[str, Voice], sources: Mapping[str, str], seed: int, device: torch.device
    ) -> None:
        self.tts, self.seed, self.device = tts, seed, device
        self._recipe = timed(tts.recipe, tts.name)
        self._voices, self._sources = voices, sources

    def chunks(self, utterance: Utterance, sampling: Sampling) -> tuple[Chunk, ...]:
        """Phones and durations, predicted by this model.

        Raises:
            UserError: the text cannot be said, or ``sampling`` holds what nothing can be done with.
        """
        return self.tts.plan(
            utterance.sentence.text, voice=self._sources[utterance.voice], seed=self.seed, solver=sampling.solver,
            grid=sampling.grid, steps=sampling.steps, guidance=sampling.guidance, temperature=sampling.temperature,
        ).chunks  # fmt: skip

    def noise(self, index: int) -> torch.Generator:
        """The generator of the ``index``-th part's noise, as ``Pipeline.say`` seeds it."""
        return torch.Generator().manual_seed(derive(self.seed, "noise", index))

    def say(self, utterance: Utterance, sampling: Sampling, chunks: Sequence[Chunk]) -> Spoken:
        """Say an utterance with given durations; the time this model takes to predict its own counts as well.

        Raises:
            UserError: the result is not finite.
        """
        voice, parts, nfe, calls = self._voices[utterance.voice], [], 0, 0
        begun = time.perf_counter()
        self.chunks(utterance, sampling)
        planned, idle = time.perf_counter(), time.process_time()
        for index, chunk in enumerate(chunks):
            frames = torch.tensor(chunk.frames, dtype=torch.long)
            if not int(frames.sum()):
                continue
            made = self._recipe.say(chunk.phones, frames, voice.prompt, sampling, self.noise(index))
            parts.append(made.features)
            nfe, calls = nfe + made.nfe, calls + made.network_calls
        features = torch.cat(parts)
        sampled, busy = time.perf_counter(), time.process_time() - idle
        if not bool(torch.isfinite(features).all()):
            raise UserError(f"{utterance.id}: the solver diverged, its features are not finite; take more steps")
        audio = self.tts.sound(features, voice.gain)
        done = time.perf_counter()
        solves = len(parts)
        return Spoken(features, audio, nfe / solves, calls / solves, sampled - planned, busy, done - begun)


def solves(chunks: Sequence[Chunk]) -> int:
    """How many parts last any time, and so need solving."""
    return sum(any(chunk.frames) for chunk in chunks)
