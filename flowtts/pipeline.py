"""Text and a voice to speech: joins a recipe, a vocoder, the text front end and the rankers."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowtts import __version__
from flowtts import voice as voices
from flowtts.align import round_to_total
from flowtts.registry import load_metric, load_recipe, load_vocoder
from flowtts.speech import Candidate, Chunk, Plan, Speech
from flowtts.text import Analysis, FrontEnd, split
from flowtts.types import Audio, Item, MelSpec, PathLike, Recipe, Sampling, UserError, Vocoder

log = logging.getLogger(__name__)

DEFAULT_VOICE = "rms"
RANKERS = {"wer": "wer", "sim": "sim-o"}
_LONGEST_CHUNK = 120
"""Characters: about the length of the utterances that the shipped recipes are trained on."""

_SHORTEST_PHONE = 1.5
_SHORTEST_PAUSE = 2.0
"""Frames."""


@dataclass(frozen=True)
class Request:
    """Everything that decides what is said and how; all of it goes to the sidecar.

    Attributes:
        text: what to say.
        voice: a recording, a shipped voice's name, or None for the default voice.
        voice_text: what the recording says; recognised if None.
        seed: of the noise; chunks and takes get seeds derived from it.
        sampling: solver, grid, steps, guidance.
        speed: above 1 is faster.
        duration: seconds the whole must last, or None.
        best_of: takes.
        rank: what decides between takes.
        lexicon: file of own pronunciations.
    """

    text: str
    voice: PathLike | Audio | None = None
    voice_text: str | None = None
    seed: int = 0
    sampling: Sampling = field(default_factory=Sampling)
    speed: float = 1.0
    duration: float | None = None
    best_of: int = 1
    rank: str = "wer"
    lexicon: PathLike | None = None

    def __post_init__(self) -> None:
        if not 0.25 <= self.speed <= 4:
            raise UserError(f"speed is from 0.25 to 4, not {self.speed:g}")
        if self.duration is not None and not 0.1 <= self.duration <= 3600:
            raise UserError(f"duration is from 0.1 to 3600 seconds, not {self.duration:g}")
        if not 1 <= self.best_of <= 100:
            raise UserError(f"best-of is from 1 to 100, not {self.best_of}")
        if not 0 <= self.seed < 2**63:
            raise UserError(f"seed is a whole number from 0 to 2^63 - 1, not {self.seed}")
        if not 1 <= self.sampling.steps <= 1000:
            raise UserError(f"steps is from 1 to 1000, not {self.sampling.steps}")
        if self.rank not in RANKERS:
            raise UserError(f"no ranker {self.rank!r}; there are {', '.join(RANKERS)}")


class Pipeline:
    """A recipe and the vocoder that reads its features.

    Args:
        recipe: what makes features.
        vocoder: what makes them audible.
        name: of the model, for the results.
        hash: of its weights, for the sidecar.

    Raises:
        UserError: their mel definitions differ.
    """

    def __init__(self, recipe: Recipe, vocoder: Vocoder, name: str, hash: str = "") -> None:
        if recipe.spec != vocoder.spec:
            raise UserError(
                f"the model {name} makes {recipe.spec} and the vocoder {vocoder.name} reads {vocoder.spec}; "
                "take a vocoder trained on the model's features"
            )
        self.recipe, self.vocoder, self.name, self.hash = recipe, vocoder, name, hash
        assert isinstance(vocoder.spec, MelSpec)
        self.spec = vocoder.spec
        self._voices: dict[Any, voices.Voice] = {}

    def say(self, text: str, progress: Callable[[int, int], None] | None = None, **options: Any) -> Speech:
        """Say a text. Options are the attributes of ``Request`` and ``Sampling``, by name.

        Args:
            text: what to say.
            progress: called with (chunks done, chunks in all).
            **options: of ``Request`` (voice, voice_text, seed, speed, duration, best_of, rank, lexicon) and
                ``Sampling`` (solver, grid, steps, guidance, temperature); an unknown one raises TypeError.

        Raises:
            UserError: something in the request cannot be done.
        """
        request = make_request(text, **options)
        frontend, voice = self._reader(request), self._voice(request)
        plan = self._plan(request, frontend, voice)
        total, takes = len(plan.chunks) * request.best_of, []
        started = time.perf_counter()
        for take in range(request.best_of):
            seed = request.seed if take == 0 else derive(request.seed, "take", take)
            done = take * len(plan.chunks)
            report = (lambda n, done=done: progress(done + n, total)) if progress else None
            takes.append((seed, *self._render(plan, voice, request.sampling, seed, report)))
        seconds = time.perf_counter() - started
        scored = [Candidate(seed, self._score(request, plan, voice, audio)) for seed, audio, _, _ in takes]
        best = self._best(request, scored)
        seed, audio, _, _ = takes[best]
        return Speech(
            audio, plan, seed, sum(t[2] for t in takes), sum(t[3] for t in takes),
            seconds / max(audio.seconds * len(takes), 1e-9), scored,
        )  # fmt: skip

    def plan(self, text: str, **options: Any) -> Plan:
        """What ``say`` would say: normalised text, phones, durations and chunks, without audio."""
        request = make_request(text, **options)
        return self._plan(request, self._reader(request), self._voice(request))

    def _reader(self, request: Request) -> FrontEnd:
        return FrontEnd(Path(request.lexicon)) if request.lexicon is not None else _frontend()

    def _voice(self, request: Request) -> voices.Voice:
        reference = request.voice if request.voice is not None else DEFAULT_VOICE
        key = (reference if isinstance(reference, Audio) else str(reference), request.voice_text)
        if key not in self._voices:
            self._voices[key] = voices.prepare(reference, request.voice_text, self.spec, _frontend())
        return self._voices[key]

    def _plan(self, request: Request, frontend: FrontEnd, voice: voices.Voice) -> Plan:
        analyses = [(c.text, frontend.analyse(c.text)) for c in split(request.text, longest=_LONGEST_CHUNK)]
        if not analyses:
            raise UserError("there is nothing to say: the text is empty")
        predicted = []
        for index, (_, analysis) in enumerate(analyses):
            rng = torch.Generator().manual_seed(derive(request.seed, "durations", index))
            predicted.append(self.recipe.durations(analysis.phones, voice.prompt, rng) / request.speed)
        whole = torch.cat(predicted)
        if float(whole.sum()) <= 0:
            raise UserError("nothing to say: the duration model gives every phone no time")
        seconds = request.duration if request.duration is not None else float(whole.sum()) / self.spec.frame_rate
        frames = round_to_total(_audible(whole, analyses), max(1, round(seconds * self.spec.frame_rate)))
        chunks = []
        for (text, analysis), counts in zip(analyses, frames.split([len(p) for p in predicted]), strict=True):
            words = tuple(word.text for word in analysis.words)
            chunks.append(Chunk(text, analysis.normalised, analysis.phones, words, tuple(counts.tolist())))
        return Plan(tuple(chunks), self.spec.frame_rate, self._settings(request, voice))

    def _settings(self, request: Request, voice: voices.Voice) -> dict[str, Any]:
        sampling = request.sampling
        return {
            "text": request.text, "model": self.name, "model_hash": self.hash, "vocoder": self.vocoder.name,
            "voice": voice.info(), "seed": request.seed, "solver": sampling.solver, "grid": sampling.grid,
            "steps": sampling.steps, "guidance": sampling.guidance, "temperature": sampling.temperature,
            "speed": request.speed, "duration": request.duration, "best_of": request.best_of, "rank": request.rank,
            "lexicon": None if request.lexicon is None else str(request.lexicon), "flowtts": __version__,
        }  # fmt: skip

    def _render(
        self, plan: Plan, voice: voices.Voice, sampling: Sampling, seed: int, report: Callable[[int], None] | None
    ) -> tuple[Audio, int, int]:
        """Every chunk's features in a row, then one pass of the vocoder, so that no seam is heard."""
        parts, nfe, calls = [], 0, 0
        for index, chunk in enumerate(plan.chunks):
            rng = torch.Generator().manual_seed(derive(seed, "noise", index))
            frames = torch.tensor(chunk.frames, dtype=torch.long)
            if int(frames.sum()):
                made = self.recipe.say(chunk.phones, frames, voice.prompt, sampling, rng)
                parts.append(made.features)
                nfe, calls = nfe + made.nfe, calls + made.network_calls
            if report is not None:
                report(index + 1)
        return self._sound(torch.cat(parts), voice.gain), nfe, calls

    def _sound(self, features: Tensor, gain: float) -> Audio:
        with torch.no_grad():
            samples = self.vocoder.decode(features[None])[0].float().cpu().numpy()
        samples = samples / np.float32(gain)
        peak = float(np.abs(samples).max())
        if peak > 0.99:
            samples = samples * np.float32(0.99 / peak)
        return Audio(samples.astype(np.float32), self.spec.sample_rate)

    def _score(self, request: Request, plan: Plan, voice: voices.Voice, audio: Audio) -> dict[str, float]:
        if request.best_of == 1:
            return {}
        metric = load_metric(RANKERS[request.rank])
        score = metric([Item(audio, plan.normalised, prompt=voice.audio, id="take")])
        return {request.rank: score.value}

    def _best(self, request: Request, candidates: Sequence[Candidate]) -> int:
        if request.best_of == 1:
            return 0
        sign = 1 if load_metric(RANKERS[request.rank]).higher_is_better else -1
        return max(range(len(candidates)), key=lambda i: sign * candidates[i].scores[request.rank])


def load(
    model: PathLike = "voicebox", vocoder: PathLike = "vocos", device: str = "auto", dtype: str = "auto"
) -> Pipeline:
    """A pipeline from names or checkpoint folders.

    Args:
        model: a recipe's name (its shipped checkpoint) or a folder.
        vocoder: likewise; "griffin-lim" needs no weights.
        device: "auto" takes a GPU if there is one, else the CPU, and says which.
        dtype: "auto" computes in bfloat16 where that is faster and in float32 elsewhere.

    Raises:
        UserError: an unknown name, a broken checkpoint, or parts that do not fit.
    """
    place = choose_device(device)
    recipe = load_recipe(model, place, choose_precision(dtype, place))
    return Pipeline(recipe, load_vocoder(vocoder, recipe.spec, place), str(model), getattr(recipe, "hash", ""))


def make_request(text: str, **options: Any) -> Request:
    """A request from flat options; those of ``Sampling`` and ``Request`` are told apart by name."""
    names = Sampling.__dataclass_fields__
    given = {name: value for name, value in options.items() if value is not None}
    sampling = replace(Sampling(), **{name: value for name, value in given.items() if name in names})
    return Request(text, sampling=sampling, **{n: v for n, v in given.items() if n not in names})


def derive(seed: int, purpose: str, index: int) -> int:
    """A seed for one of many draws of a run, independent of how many there are."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{index}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def choose_device(name: str) -> torch.device:
    """A device that is there from "auto", "cpu", "cuda", "cuda:1" or "mps".

    Raises:
        UserError: it is not there; nothing falls back silently.
    """
    if name == "auto":
        found = "cuda" if torch.cuda.is_available() else "cpu"
        log.info("computing on %s", found)
        return torch.device(found)
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError):
        raise UserError(f"the device {name!r} is not available here; use --device cpu") from None
    return device


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """A precision from its name; "auto" is bfloat16 where the device multiplies it natively, else float32.

    Raises:
        UserError: an unknown name.
    """
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    if name in known:
        return known[name]
    if name != "auto":
        raise UserError(f"no precision {name!r}; there are auto, {', '.join(known)}")
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = device.type == "cpu" and "avx512_bf16" in _cpu_features()
    return torch.bfloat16 if native else torch.float32


@lru_cache(maxsize=1)
def _cpu_features() -> frozenset[str]:
    try:
        found = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return frozenset()
    return frozenset(next((line for line in found.splitlines() if line.startswith("flags")), "").split())


def replay(sidecar: PathLike, out: PathLike, device: str = "cpu") -> Speech:
    """Make the recording that a sidecar describes again; on the same CPU build the bytes are the same.

    Raises:
        UserError: the sidecar cannot be read, or the model or voice it names has changed since.
    """
    try:
        settings = json.loads(Path(sidecar).read_text(encoding="utf-8"))
        voice, best = settings["voice"], settings["best_of"]
    except OSError as error:
        raise UserError(f"cannot read {sidecar}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{sidecar} is not the sidecar of a recording made by flowtts say") from None
    tts = load(settings["model"], settings["vocoder"], device)
    if tts.hash != settings["model_hash"]:
        raise UserError(
            f"{sidecar} was made with weights {settings['model_hash']} of {settings['model']} and "
            f"these are {tts.hash}; install the flowtts or the checkpoint that made it"
        )
    keys = ("solver", "grid", "steps", "guidance", "temperature", "speed", "duration", "rank", "lexicon")
    made = tts.say(
        settings["text"],
        voice=voice["name"],
        voice_text=voice["text"],
        seed=settings["seed"] if best == 1 else _first_seed(settings),
        best_of=best,
        **{key: settings[key] for key in keys},
    )
    if made.plan.settings["voice"]["hash"] != voice["hash"]:
        raise UserError(f"the voice {voice['name']} is not the recording that {sidecar} was made with")
    made.save(out)
    return made


def _first_seed(settings: dict[str, Any]) -> int:
    # The sidecar's seed is that of the take that was kept; takes are derived from the first one's.
    return int(settings["candidates"][0]["seed"])


@lru_cache(maxsize=1)
def _frontend() -> FrontEnd:
    return FrontEnd()


def _audible(durations: Tensor, analyses: Sequence[tuple[str, Analysis]]) -> Tensor:
    """Every phone lasts long enough to be heard; a pause of less than two frames is none (a ghost silence)."""
    pause = torch.tensor([phone.word < 0 for _, analysis in analyses for phone in analysis.phones])
    heard = durations.clamp(min=_SHORTEST_PHONE)
    return torch.where(pause, torch.where(durations < _SHORTEST_PAUSE, torch.zeros_like(durations), durations), heard)
