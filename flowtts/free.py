"""Saying a text with a recipe that lasts as long as it happens to last: takes are drawn, judged, and made audible."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from flowtts import __version__
from flowtts.align import round_to_total
from flowtts.alignment.choose import english_aligner
from flowtts.decode import Decoding
from flowtts.listening import Heard
from flowtts.planning import analyse
from flowtts.request import Request, derive
from flowtts.speech import Candidate, Chunk, Plan, Speech
from flowtts.tasks import FreeRecipe, Spoken
from flowtts.text import Analysis, FrontEnd
from flowtts.types import Audio, Generated, UserError

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
        score: how good sound is by a ranker other than CLVP: (ranker, text, sound) -> (value, more is better).
        frame_rate: of the features.
        about: model, vocoder and the like, for the sidecar.
    """

    recipe: FreeRecipe
    sound: Callable[[Tensor, float], Audio]
    score: Callable[[str, str, Audio], tuple[float, bool]]
    frame_rate: float
    about: dict[str, Any]

    def plan(self, request: Request, frontend: FrontEnd, heard: Heard) -> Plan:
        """What would be said; its times are estimates from the number of phones."""
        chunks = []
        for text, analysis in analyse(frontend, request.text):
            spread = PHONE_SECONDS * self.frame_rate / request.speed
            chunks.append(_chunk(text, analysis, _spread(analysis, round(spread * _said(analysis)))))
        if request.duration is not None:
            total = round(request.duration * self.frame_rate)
            every = torch.tensor([float(n) for chunk in chunks for n in chunk.frames])
            counts = iter(round_to_total(every, total).tolist())
            chunks = [replace(chunk, frames=tuple(next(counts) for _ in chunk.frames)) for chunk in chunks]
        return Plan(tuple(chunks), self.frame_rate, self._settings(request, heard, "estimated"))

    def say(self, request: Request, frontend: FrontEnd, heard: Heard, progress: Progress | None = None) -> Speech:
        """Say a text: draw the takes of each part, choose one of all, and make it audible.

        With the ranker "clvp" takes are judged by what was drawn, and only the best is rendered; the other rankers
        listen, so that all are.
        """
        started = time.perf_counter()
        parts = analyse(frontend, request.text)
        seeds = [request.seed, *(derive(request.seed, "take", take) for take in range(1, request.best_of))]
        drawn = [self._draw(index, analysis, heard, request, seeds) for index, (_, analysis) in enumerate(parts)]
        clvp = request.rank == "clvp" and request.best_of > 1
        scores = self._judged(parts, drawn) if clvp else [{} for _ in seeds]
        wanted = [max(range(len(seeds)), key=lambda i: scores[i]["clvp"])] if clvp else list(range(len(seeds)))
        takes, done = {}, 0
        for take in wanted:
            pieces = []
            for index, (_, analysis) in enumerate(parts):
                piece = self.recipe.render(
                    analysis, drawn[index][take], heard.latents, request.sampling,
                    torch.Generator().manual_seed(derive(seeds[take], "noise", index)), self._pace(request, drawn, take),
                )  # fmt: skip
                pieces.append(piece)
                done += 1
                if progress is not None:
                    progress(done, len(wanted) * len(parts))
            takes[take] = pieces
        audio = {take: self.sound(torch.cat([p.features for p in made]), heard.gain) for take, made in takes.items()}
        best = wanted[0]
        if len(wanted) > 1:
            best, scores = self._chosen(request, parts, audio)
        spent = time.perf_counter() - started
        plan = self._timed(request, heard, parts, takes[best], audio[best])
        nfe = sum(piece.nfe for made in takes.values() for piece in made)
        calls = sum(piece.network_calls for made in takes.values() for piece in made)
        calls += sum(take.network_calls for takes in drawn for take in takes)
        candidates = [Candidate(seed, score) for seed, score in zip(seeds, scores, strict=True)]
        rtf = spent / max(sum(sound.seconds for sound in audio.values()), 1e-9)
        return Speech(audio[best], plan, seeds[best], nfe, calls, rtf, candidates)

    def _draw(
        self, index: int, analysis: Analysis, heard: Heard, request: Request, seeds: Sequence[int]
    ) -> Sequence[Spoken]:
        rngs = [torch.Generator().manual_seed(derive(seed, "tokens", index)) for seed in seeds]
        return self.recipe.draw(analysis, heard.latents, self._decoding(request), rngs)

    def _decoding(self, request: Request) -> Decoding:
        return self.recipe.decoding if request.decoding is None else Decoding.parse(request.decoding, self.recipe.decoding)

    def _judged(
        self, parts: Sequence[tuple[str, Analysis]], drawn: Sequence[Sequence[Spoken]]
    ) -> list[dict[str, float]]:
        """The score of each take: the mean over the parts of the text."""
        each = torch.stack([self.recipe.judge(analysis, takes) for (_, analysis), takes in zip(parts, drawn, strict=True)])
        return [{"clvp": value} for value in each.mean(0).tolist()]

    def _pace(self, request: Request, drawn: Sequence[Sequence[Spoken]], take: int) -> float:
        """How much longer than drawn a take is to last."""
        if request.duration is None:
            return 1 / request.speed
        return request.duration * self.frame_rate / sum(takes[take].frames for takes in drawn)

    def _chosen(
        self, request: Request, parts: Sequence[tuple[str, Analysis]], audio: dict[int, Audio]
    ) -> tuple[int, list[dict[str, float]]]:
        text = " ".join(analysis.normalised for _, analysis in parts)
        found = [self.score(request.rank, text, audio[take]) for take in sorted(audio)]
        sign = 1 if found[0][1] else -1
        best = max(range(len(found)), key=lambda i: sign * found[i][0])
        return best, [{request.rank: value} for value, _ in found]

    def _timed(
        self, request: Request, heard: Heard, parts: Sequence[tuple[str, Analysis]], pieces: Sequence[Generated],
        audio: Audio,
    ) -> Plan:  # fmt: skip
        """What was said and when: the sound of each part is aligned with its text."""
        chunks, at, how = [], 0, "aligned"
        per_frame = audio.sample_rate / self.frame_rate
        for (text, analysis), piece in zip(parts, pieces, strict=True):
            frames = len(piece.features)
            samples = audio.samples[round(at * per_frame) : round((at + frames) * per_frame)]
            try:
                found = english_aligner().align(Audio(samples, audio.sample_rate), analysis)
                counts = found.durations(self.frame_rate, frames)
            except UserError as error:
                log.warning("the times of words are estimates: %s", error)
                counts, how = _spread(analysis, frames), "estimated"
            chunks.append(_chunk(text, analysis, counts))
            at += frames
        return Plan(tuple(chunks), self.frame_rate, self._settings(request, heard, how))

    def _settings(self, request: Request, heard: Heard, timing: str) -> dict[str, Any]:
        sampling = request.sampling
        return {
            "text": request.text, **self.about, "voice": heard.info(), "seed": request.seed, "solver": sampling.solver,
            "grid": sampling.grid, "steps": sampling.steps, "guidance": sampling.guidance,
            "temperature": sampling.temperature, "speed": request.speed, "duration": request.duration,
            "best_of": request.best_of, "rank": request.rank, "decoding": self._decoding(request).spelled,
            "lexicon": None if request.lexicon is None else str(request.lexicon), "timing": timing,
            "flowtts": __version__,
        }  # fmt: skip


def _said(analysis: Analysis) -> int:
    return sum(phone.word >= 0 for phone in analysis.phones)


def _spread(analysis: Analysis, frames: int) -> Tensor:
    """(L,) frames of phones, the same for each; pauses have none."""
    weights = torch.tensor([float(phone.word >= 0) for phone in analysis.phones])
    return round_to_total(weights, max(1, frames))


def _chunk(text: str, analysis: Analysis, frames: Tensor) -> Chunk:
    words = tuple(word.text for word in analysis.words)
    return Chunk(text, analysis.normalised, analysis.phones, words, tuple(frames.tolist()))
