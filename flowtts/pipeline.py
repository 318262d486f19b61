"""Text and a voice to speech: joins a recipe, a vocoder, the text front end and the rankers."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowtts import __version__
from flowtts import voice as voices
from flowtts.align import round_to_total
from flowtts.device import choose_device as choose_device
from flowtts.edit.request import EditRequest, Progress, make_edit_request
from flowtts.edit.result import Edited
from flowtts.edit.studio import Studio
from flowtts.free import FreeSpeaker
from flowtts.judge import Ranker
from flowtts.latents import Latents
from flowtts.planning import analyse, audible
from flowtts.provenance.tag import embed
from flowtts.registry import load_recipe, load_vocoder, vocoder_of
from flowtts.request import Request
from flowtts.request import derive as derive
from flowtts.request import make_request as make_request
from flowtts.sidecar import replay as replay
from flowtts.speech import Candidate, Chunk, Plan, Speech
from flowtts.tasks import Batched, FreeRecipe, Saying, infilling, require, timed
from flowtts.text import FrontEnd
from flowtts.types import Audio, Generated, PathLike, Recipe, Sampling, UserError, Vocoder


class Pipeline:
    """A recipe and the vocoder that reads its features.

    Args:
        recipe: what makes features.
        vocoder: what makes them audible.
        name: of the model, for the results.
        hash: of its weights, for the sidecar.
        tag: whether what it makes carries the tag of ``flowtts.provenance``.

    Raises:
        UserError: their mel definitions differ.
    """

    def __init__(self, recipe: Recipe, vocoder: Vocoder, name: str, hash: str = "", tag: bool = True) -> None:
        if recipe.spec != vocoder.spec:
            raise UserError(
                f"the model {name} makes {recipe.spec} and the vocoder {vocoder.name} reads {vocoder.spec}; "
                "take a vocoder trained on the model's features"
            )
        self.recipe, self.vocoder, self.name, self.hash = recipe, vocoder, name, hash
        self.spec, self.tag = vocoder.spec, tag
        self.engine: str = getattr(recipe, "engine", "eager")
        self._voices: dict[Any, voices.Voice] = {}
        self._free: FreeSpeaker | None = None
        if isinstance(recipe, FreeRecipe):
            self._free = FreeSpeaker(recipe, self.sound, self.spec, self._about())

    def say(self, text: str, progress: Callable[[int, int], None] | None = None, **options: Any) -> Speech:
        """Say a text. Options are the attributes of ``Request`` and ``Sampling``, by name.

        Args:
            text: what to say.
            progress: called with (chunks done, chunks in all).
            **options: of ``Request`` (voice, voice_text, seed, speed, duration, best_of, rank, decoding, lexicon) and
                ``Sampling`` (solver, grid, steps, guidance, temperature), or ``preset``, a name of the recipe's that
                stands for some of them; an unknown one raises TypeError.

        Raises:
            UserError: something in the request cannot be done.
        """
        request = self._request(text, options)
        frontend = self._reader(request)
        if self._free is not None:
            return self._free.say(request, frontend, progress)
        voice = self._voice(request)
        plan = self._plan(request, frontend, voice)
        ranker = Ranker(request.rank, voice.audio) if request.best_of > 1 else None
        started = time.perf_counter()
        seeds = request.seeds
        takes = self._render(plan, voice, request.sampling, seeds, progress)
        seconds = time.perf_counter() - started
        best, scores = 0, [dict[str, float]() for _ in seeds]
        if ranker is not None:
            analyses = [analysis for _, analysis in analyse(frontend, request.text)]
            scores = [ranker(audio, analyses) for audio, _, _ in takes]
            best = ranker.best(scores)
        audio = takes[best][0]
        return Speech(
            audio, plan, seeds[best], sum(t[1] for t in takes), sum(t[2] for t in takes),
            seconds / max(audio.seconds * len(takes), 1e-9), list(map(Candidate, seeds, scores)),
        )  # fmt: skip

    def plan(self, text: str, **options: Any) -> Plan:
        """What ``say`` would say: normalised text, phones, durations and chunks, without audio."""
        request = self._request(text, options)
        if self._free is not None:
            return self._free.plan(request, self._reader(request))
        return self._plan(request, self._reader(request), self._voice(request))

    def voice(self, recordings: Sequence[PathLike | Audio]) -> Latents:
        """What the model knows of a voice, from recordings of it, folders of recordings, or kept latents.

        Raises:
            UserError: the model keeps no voices, or a recording is of no use.
        """
        if self._free is None:
            raise UserError(f"the model {self.name} follows recordings and keeps no voices: give it the recording")
        return self._free.voice(recordings)

    def edit(
        self, recording: PathLike | Audio, text: str, to: str, progress: Progress | None = None, **options: Any
    ) -> Edited:
        """Make a recording say something else; every sample outside the joins of a change stays bit-identical.

        Args:
            recording: file or samples, of any rate, length and number of channels.
            text: what it says.
            to: what it is to say.
            progress: called with (calls of the model done, calls in all).
            **options: of ``EditRequest`` (seed, best_of, rank "wer", "sim" or "boundary", lexicon) and ``Sampling``
                (solver, grid, steps, guidance, temperature); an unknown one raises TypeError. The same for all verbs.

        Raises:
            UserError: the model cannot do it, or the text is not what the recording says.
        """
        from flowtts.edit.editor import edit

        request = make_edit_request(options, self.recipe.sampling)
        return edit(self._studio("edit", request), recording, text, to, request, progress)

    def fill(
        self, recording: PathLike | Audio, text: str, spans: Sequence[tuple[float, float]],
        progress: Progress | None = None, **options: Any,
    ) -> Edited:  # fmt: skip
        """Generate spans (seconds) anew: the same words, durations and length. See ``edit`` for the rest."""
        from flowtts.edit.regenerate import fill

        request = make_edit_request(options, self.recipe.sampling)
        return fill(self._studio("fill", request), recording, text, spans, request, progress)

    def denoise(
        self, recording: PathLike | Audio, text: str, spans: Sequence[tuple[float, float]] | None = None,
        progress: Progress | None = None, **options: Any,
    ) -> Edited:  # fmt: skip
        """Generate anew what transient noise covers; finds it if no spans (seconds) are given."""
        from flowtts.edit.regenerate import denoise

        request = make_edit_request(options, self.recipe.sampling)
        return denoise(self._studio("denoise", request), recording, text, spans, request, progress)

    def restyle(
        self, recording: PathLike | Audio, text: str, style: PathLike | Audio, style_text: str | None = None,
        timing: str = "kept", accent: PathLike | Audio | None = None, accent_text: str | None = None,
        progress: Progress | None = None, **options: Any,
    ) -> Edited:  # fmt: skip
        """Say the recording's words in the voice of ``style``; see ``flowtts.edit.restyle`` for timing and accent."""
        from flowtts.edit.restyle import restyle

        request = make_edit_request(options, self.recipe.sampling)
        studio, spoken = self._studio("restyle", request), self._prepared(style, style_text)
        other = None if accent is None else self._prepared(accent, accent_text)
        return restyle(studio, recording, text, spoken, timing, other, request, progress)

    def continue_(
        self, recording: PathLike | Audio, text: str, then: str, progress: Progress | None = None, **options: Any
    ) -> Edited:
        """Say ``then`` at the end of a recording, in its voice. See ``edit`` for the rest."""
        from flowtts.edit.continuing import continue_

        request = make_edit_request(options, self.recipe.sampling)
        return continue_(self._studio("continue", request), recording, text, then, request, progress)

    def sample(
        self, text: str, n: int = 1, durations: str = "regression", progress: Progress | None = None, **options: Any
    ) -> list[Speech]:
        """Say a text n times without a voice to follow: each time another voice. See ``flowtts.sample``."""
        from flowtts.sample import GUIDANCE, SampleRequest, sample

        if self._free is not None:
            if durations != "regression":
                raise UserError(f"the model {self.name} has no durations {durations!r}: leave out --durations")
            if options.get("voice") is not None:
                raise UserError("sample makes voices up: leave out the voice, or say the text with it")
            asked = self._request(text, options)
            return self._free.sample(asked, self._reader(asked), n, progress)
        request = make_edit_request(options, replace(self.recipe.sampling, guidance=GUIDANCE))
        return sample(self._studio("sample", request), SampleRequest(text, n, durations, request), progress)

    def _request(self, text: str, options: Mapping[str, Any]) -> Request:
        """What is asked for; what is left open, the recipe decides."""
        require(self.recipe, "say", self.name)
        if self._free is not None:
            return self._free.request(text, options)
        given = dict(options)
        if given.pop("preset", None) is not None:
            raise UserError(f"the model {self.name} has no presets: leave out --preset and give --steps")
        request = make_request(text, self.recipe.sampling, **given)
        if request.decoding is not None:
            raise UserError(f"the model {self.name} draws no tokens: leave out --decoding")
        return replace(request, rank=request.rank or "wer")

    def _studio(self, task: str, request: EditRequest) -> Studio:
        filler = infilling(self.recipe, task, self.name)
        frontend = FrontEnd(Path(request.lexicon)) if request.lexicon is not None else _frontend()
        return Studio(
            self.recipe, filler, self.vocoder, self.spec, frontend, self.name, self.hash, self.engine,
            self.tag,
        )  # fmt: skip

    def _reader(self, request: Request) -> FrontEnd:
        return FrontEnd(Path(request.lexicon)) if request.lexicon is not None else _frontend()

    def _voice(self, request: Request) -> voices.Voice:
        return self._prepared(request.voice, request.voice_text)

    def _prepared(self, reference: PathLike | Audio, text: str | None) -> voices.Voice:
        key = (reference if isinstance(reference, Audio) else str(reference), text)
        if key not in self._voices:
            self._voices[key] = voices.prepare(reference, text, self.spec, _frontend())
        return self._voices[key]

    def _plan(self, request: Request, frontend: FrontEnd, voice: voices.Voice) -> Plan:
        recipe, analyses = timed(self.recipe, self.name), analyse(frontend, request.text)
        predicted = []
        for index, (_, analysis) in enumerate(analyses):
            rng = torch.Generator().manual_seed(derive(request.seed, "durations", index))
            predicted.append(recipe.durations(analysis.phones, voice.prompt, rng) / request.speed)
        whole = torch.cat(predicted)
        if float(whole.sum()) <= 0:
            raise UserError("nothing to say: the duration model gives every phone no time")
        seconds = request.duration if request.duration is not None else float(whole.sum()) / self.spec.frame_rate
        frames = round_to_total(
            audible(whole, [analysis for _, analysis in analyses]), max(1, round(seconds * self.spec.frame_rate))
        )
        chunks = []
        for (text, analysis), counts in zip(analyses, _split(frames, [len(p) for p in predicted]), strict=True):
            words = tuple(word.text for word in analysis.words)
            chunks.append(Chunk(text, analysis.normalised, analysis.phones, words, tuple(counts.tolist())))
        return Plan(tuple(chunks), self.spec.frame_rate, self._settings(request, voice))

    def _settings(self, request: Request, voice: voices.Voice) -> dict[str, Any]:
        return {
            "text": request.text, **self._about(), "voice": voice.info(), **request.settings(), "flowtts": __version__
        }  # fmt: skip

    def _about(self) -> dict[str, Any]:
        return {
            "model": self.name, "model_hash": self.hash, "vocoder": self.vocoder.name, "engine": self.engine,
            "tag": self.tag,
        }  # fmt: skip

    def _render(
        self, plan: Plan, voice: voices.Voice, sampling: Sampling, seeds: Sequence[int], progress: Progress | None
    ) -> list[tuple[Audio, int, int]]:
        """A take for every seed: its audio, evaluations and network calls.

        A take's chunks go through the vocoder in a row, so that no seam is heard.
        """
        sayings = [
            Saying(
                chunk.phones, torch.tensor(chunk.frames, dtype=torch.long), voice.prompt,
                torch.Generator().manual_seed(derive(seed, "noise", index)),
            )
            for seed in seeds for index, chunk in enumerate(plan.chunks) if sum(chunk.frames)
        ]  # fmt: skip
        made = self._say(sayings, sampling, progress)
        each = len(made) // len(seeds)
        takes = [made[i : i + each] for i in range(0, len(made), each)]
        return [
            (
                self.sound(torch.cat([part.features for part in take]), voice.gain),
                sum(part.nfe for part in take), sum(part.network_calls for part in take),
            )
            for take in takes
        ]  # fmt: skip

    def _say(self, sayings: Sequence[Saying], sampling: Sampling, progress: Progress | None) -> list[Generated]:
        recipe, made = timed(self.recipe, self.name), []
        if isinstance(recipe, Batched) and recipe.batches:
            made = recipe.say_many(sayings, sampling)
            if progress is not None:
                progress(len(sayings), len(sayings))
            return made
        for saying in sayings:
            made.append(recipe.say(saying.phones, saying.durations, saying.prompt, sampling, saying.rng))
            if progress is not None:
                progress(len(made), len(sayings))
        return made

    def sound(self, features: Tensor, gain: float) -> Audio:
        """(T, C) features as sound at the level of a voice that ``gain`` was applied to, its peaks kept below 1."""
        with torch.no_grad():
            samples = self.vocoder.decode(features[None])[0].float().cpu().numpy()
        samples = samples / np.float32(gain)
        peak = float(np.abs(samples).max())
        if peak > 0.99:
            samples = samples * np.float32(0.99 / peak)
        audio = Audio(samples.astype(np.float32), self.spec.sample_rate)
        return embed(audio) if self.tag else audio


def load(
    model: PathLike = "voicebox", vocoder: PathLike = "auto", device: str = "auto", engine: str = "auto",
    tag: bool = True,
) -> Pipeline:  # fmt: skip
    """A pipeline from names or checkpoint folders.

    Args:
        model: a recipe's name (its shipped checkpoint) or a folder.
        vocoder: likewise; "griffin-lim" needs no weights; "auto" is Vocos for a model of mels, and the codec of a
            model of latents.
        device: "auto" takes a GPU if there is one, else the CPU, and says which.
        engine: a way of computing, one of ``flowtts.engine.ENGINES``; "auto" takes the fastest that is safe, and says
            which.
        tag: whether what is made carries an inaudible tag and says in the file what it is (``docs/provenance.md``).

    Raises:
        UserError: an unknown name, a broken checkpoint, or parts that do not fit.
    """
    place = choose_device(device)
    recipe = load_recipe(model, place, engine)
    found = load_vocoder(vocoder_of(model) if vocoder == "auto" else vocoder, recipe.spec, place)
    return Pipeline(recipe, found, str(model), getattr(recipe, "hash", ""), tag)


@lru_cache(maxsize=1)
def _frontend() -> FrontEnd:
    return FrontEnd()


def _split(values: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    """Consecutive parts of (L,) values."""
    ends = list(accumulate(sizes))
    return [values[end - size : end] for size, end in zip(sizes, ends, strict=True)]
