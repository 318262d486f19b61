"""Saying a text with a recipe that lasts as long as it happens to last: takes are drawn, judged, and made audible."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from flowtts import __version__
from flowtts.align import round_to_total
from flowtts.alignment.choose import english_aligner
from flowtts.decode import Decoding
from flowtts.judge import Ranker
from flowtts.latents import Latents, mix
from flowtts.listening import Heard, listen
from flowtts.planning import analyse
from flowtts.request import CLVP, Request, derive, make_request
from flowtts.speech import Candidate, Chunk, Plan, Speech
from flowtts.tasks import FreeRecipe, Spoken
from flowtts.text import Analysis, FrontEnd
from flowtts.types import Audio, FeatureSpec, Generated, PathLike, UserError

PHONE_SECONDS = 0.085
"""An English phone's mean length. Only a plan of what was not said yet is made of it."""

Progress = Callable[[int, int], None]
log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class FreeSpeaker:
    """A free recipe and what makes it audible.

    Attributes:
        recipe: draws and renders.
        sound: (T, C) features and a gain to sound.
        spec: of the features.
        about: model, model_hash and the like, for the sidecar.
    """

    recipe: FreeRecipe
    sound: Callable[[Tensor, float], Audio]
    spec: FeatureSpec
    about: Mapping[str, Any]
    _voices: dict[Any, Heard] = field(default_factory=dict, init=False)

    def request(self, text: str, options: Mapping[str, Any]) -> Request:
        """What is asked for: the options that are given, then the preset's, then what the recipe recommends.

        Raises:
            UserError: there is no such preset, or an option is out of range.
        """
        given = {name: value for name, value in options.items() if value is not None}
        preset = given.pop("preset", None)
        if preset is not None:
            if preset not in self.recipe.presets:
                raise UserError(f"no preset {preset!r}; there are {', '.join(self.recipe.presets)}")
            given = {**vars(self.recipe.presets[preset]), **given}
        request = make_request(text, self.recipe.sampling, **given)
        decoding = Decoding.parse(request.decoding or "", self.recipe.decoding)
        return replace(request, rank=request.rank or CLVP, decoding=decoding.changes(self.recipe.decoding))

    def voice(self, recordings: Sequence[PathLike | Audio]) -> Latents:
        """The mean of voices, a folder of recordings counting as many times as it holds some.

        Raises:
            UserError: as `listen` says.
        """
        heard = [self._heard(recording) for recording in recordings]
        return mix([(voice.latents, max(voice.clips, 1)) for voice in heard])

    def plan(self, request: Request, frontend: FrontEnd) -> Plan:
        """What would be said; its times are estimates from the number of phones."""
        spread, chunks = PHONE_SECONDS * self.spec.frame_rate / request.speed, []
        for text, analysis in analyse(frontend, request.text):
            said = sum(phone.word >= 0 for phone in analysis.phones)
            chunks.append(_chunk(text, analysis, _spread(analysis, round(spread * said))))
        if request.duration is not None:
            total = round(request.duration * self.spec.frame_rate)
            every = torch.tensor([float(n) for chunk in chunks for n in chunk.frames])
            counts = iter(round_to_total(every, total).tolist())
            chunks = [replace(chunk, frames=tuple(next(counts) for _ in chunk.frames)) for chunk in chunks]
        return self._plan(request, self._heard(request.voice), chunks, "estimated")

    def say(self, request: Request, frontend: FrontEnd, progress: Progress | None = None) -> Speech:
        """Say a text: draw the takes of each part, choose one of all, and make it audible.

        With the ranker "clvp" takes are judged by what was drawn, and only the best is rendered; the other rankers
        listen, so that all are.
        """
        return self._say(request, frontend, self._heard(request.voice), progress)

    def sample(self, request: Request, frontend: FrontEnd, n: int, progress: Progress | None = None) -> list[Speech]:
        """Say a text n times, each time in a voice that nobody has.

        Raises:
            UserError: the recipe makes no voices up, or ``n`` is out of range.
        """
        if not 1 <= n <= 1000:
            raise UserError(f"n is from 1 to 1000, not {n}")
        made = []
        for index in range(n):
            seed = request.seed if index == 0 else derive(request.seed, "sample", index)
            latents = self.recipe.random_voice(torch.Generator().manual_seed(derive(seed, "voice", 0)))
            heard = Heard("random", latents, latents.gain, None, latents.hash, 0)
            speech = self._say(replace(request, seed=seed), frontend, heard, None)
            settings = {**speech.plan.settings, "verb": "sample", "durations": "regression"}
            made.append(replace(speech, plan=replace(speech.plan, settings=settings)))
            if progress is not None:
                progress(index + 1, n)
        return made

    def _heard(self, voice: PathLike | Audio) -> Heard:
        key = voice if isinstance(voice, Audio) else str(voice)
        if key not in self._voices:
            self._voices[key] = listen(voice, self.spec.sample_rate, self.about["model_hash"], self.recipe.voice)
        return self._voices[key]

    def _say(self, request: Request, frontend: FrontEnd, heard: Heard, progress: Progress | None) -> Speech:
        seeds, parts = request.seeds, analyse(frontend, request.text)
        ranker = Ranker(request.rank, heard.audio) if request.best_of > 1 and request.rank != CLVP else None
        started = time.perf_counter()
        drawn = [self._draw(index, analysis, heard, request) for index, (_, analysis) in enumerate(parts)]
        scores, wanted = [dict[str, float]() for _ in seeds], list(range(len(seeds)))
        if request.best_of > 1 and request.rank == CLVP:
            scores = self._judged(parts, drawn)
            wanted = [max(wanted, key=lambda take: scores[take][CLVP])]
        takes = self._rendered(request, heard, parts, drawn, wanted, progress)
        audio = [self.sound(torch.cat([piece.features for piece in made]), heard.gain) for made in takes]
        spent, best = time.perf_counter() - started, 0
        if ranker is not None:
            analyses = [analysis for _, analysis in parts]
            scores = [ranker(sound, analyses) for sound in audio]
            best = ranker.best(scores)
        chunks, timing = self._timed(parts, takes[best], audio[best])
        calls = sum(take.network_calls for made in drawn for take in made)
        calls += sum(piece.network_calls for made in takes for piece in made)
        return Speech(
            audio[best], self._plan(request, heard, chunks, timing), seeds[wanted[best]],
            sum(piece.nfe for made in takes for piece in made), calls,
            spent / max(sum(sound.seconds for sound in audio), 1e-9), list(map(Candidate, seeds, scores)),
        )  # fmt: skip

    def _draw(self, index: int, analysis: Analysis, heard: Heard, request: Request) -> Sequence[Spoken]:
        """All takes of one part."""
        decoding = Decoding.parse(request.decoding or "", self.recipe.decoding)
        rngs = [torch.Generator().manual_seed(derive(seed, "tokens", index)) for seed in request.seeds]
        return self.recipe.draw(analysis, heard.latents, decoding, rngs)

    def _judged(
        self, parts: Sequence[tuple[str, Analysis]], drawn: Sequence[Sequence[Spoken]]
    ) -> list[dict[str, float]]:
        """The score of each take: the mean over the parts of the text."""
        each = [self.recipe.judge(analysis, takes) for (_, analysis), takes in zip(parts, drawn, strict=True)]
        return [{CLVP: value} for value in torch.stack(each).mean(0).tolist()]

    def _rendered(
        self, request: Request, heard: Heard, parts: Sequence[tuple[str, Analysis]], drawn: Sequence[Sequence[Spoken]],
        wanted: Sequence[int], progress: Progress | None,
    ) -> list[list[Generated]]:  # fmt: skip
        """The wanted takes, each in its parts."""
        done, made = 0, []
        for take in wanted:
            pieces, seed = [], request.seeds[take]
            paces = self._paces(request, [takes[take] for takes in drawn])
            for index, ((_, analysis), takes, pace) in enumerate(zip(parts, drawn, paces, strict=True)):
                rng = torch.Generator().manual_seed(derive(seed, "noise", index))
                pieces.append(self.recipe.render(analysis, takes[take], heard.latents, request.sampling, rng, pace))
                done += 1
                if progress is not None:
                    progress(done, len(wanted) * len(parts))
            made.append(pieces)
        return made

    def _paces(self, request: Request, parts: Sequence[Spoken]) -> list[float]:
        """How much longer than drawn each part of a take is to last."""
        if request.duration is None:
            return [1 / request.speed for _ in parts]
        # Parts are whole frames, and their sum is to be exact.
        own = torch.tensor([float(part.frames) for part in parts])
        wanted = round_to_total(own, round(request.duration * self.spec.frame_rate))
        return (wanted / own.double()).tolist()

    def _timed(
        self, parts: Sequence[tuple[str, Analysis]], pieces: Sequence[Generated], audio: Audio
    ) -> tuple[list[Chunk], str]:
        """What was said and when: the sound of each part is aligned with its text, or its times are estimated."""
        chunks, at, how = [], 0, "aligned"
        per_frame = audio.sample_rate / self.spec.frame_rate
        for (text, analysis), piece in zip(parts, pieces, strict=True):
            frames = len(piece.features)
            samples = audio.samples[round(at * per_frame) : round((at + frames) * per_frame)]
            try:
                found = english_aligner().align(Audio(samples, audio.sample_rate), analysis)
                counts = found.durations(self.spec.frame_rate, frames)
            except UserError as error:
                log.warning("the times of words are estimates: %s", error)
                counts, how = _spread(analysis, frames), "estimated"
            chunks.append(_chunk(text, analysis, counts))
            at += frames
        return chunks, how

    def _plan(self, request: Request, heard: Heard, chunks: Sequence[Chunk], timing: str) -> Plan:
        settings = {
            "text": request.text, **self.about, "voice": heard.info(), **request.settings(),
            "decoding": request.decoding, "timing": timing, "flowtts": __version__,
        }  # fmt: skip
        return Plan(tuple(chunks), self.spec.frame_rate, settings)


def _spread(analysis: Analysis, frames: int) -> Tensor:
    """(L,) frames of phones, the same for each; pauses have none."""
    weights = torch.tensor([float(phone.word >= 0) for phone in analysis.phones])
    return round_to_total(weights, max(1, frames))


def _chunk(text: str, analysis: Analysis, frames: Tensor) -> Chunk:
    words = tuple(word.text for word in analysis.words)
    return Chunk(text, analysis.normalised, analysis.phones, words, tuple(frames.tolist()))
