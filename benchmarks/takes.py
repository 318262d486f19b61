"""What the benchmarks of speech share: texts and voices, recordings kept from run to run, their judges, intervals."""

from __future__ import annotations

import csv
import json
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch

from flowtts.audio.io import read, write
from flowtts.decode import Decoding
from flowtts.eval.bootstrap import ratio_interval
from flowtts.eval.intelligibility import Pocketsphinx, count_errors
from flowtts.eval.judging import UnjudgeableError, judged
from flowtts.eval.resemblyzer import Resemblyzer
from flowtts.listening import Heard, listen
from flowtts.pipeline import Pipeline
from flowtts.planning import analyse
from flowtts.recognise import spoken_words
from flowtts.request import derive, make_request
from flowtts.speech import write_json
from flowtts.tasks import FreeRecipe, Spoken
from flowtts.text import Analysis, FrontEnd
from flowtts.types import Audio, Generated, Sampling, UserError

VOICES = ("rms", "slt", "awb")
"""Of flite."""

RATES = ("wer-closed", "wer")

T = TypeVar("T")


def sentences(path: Path, count: int) -> list[tuple[str, str]]:
    """(id, text) of sentences of 30 to 90 characters, in the order of the file."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [(row["id"], row["text"]) for row in rows if 30 <= len(row["text"]) <= 90][:count]


def speak(voice: str, text: str) -> Audio:
    """One sentence by flite."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "spoken.wav"
        subprocess.run(["flite", "-voice", voice, "-t", text, "-o", str(path)], check=True)
        return read(path)


def prompts(voices: Sequence[str], text: str, folder: Path) -> dict[str, Path]:
    """A recording of each voice by name: a file that there is, or ``text`` as an engine says it."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for voice in voices:
        if Path(voice).is_file():
            found[Path(voice).stem] = Path(voice)
            continue
        found[voice] = folder / f"{voice}.flac"
        if not found[voice].is_file():
            write(found[voice], speak(voice, text))
    return found


def listed(kind: Callable[[str], T]) -> Callable[[str], list[T]]:
    """Reads A,B,C on a command line: options with spaces between their values would swallow what follows."""

    def read_list(spelling: str) -> list[T]:
        return [kind(part) for part in spelling.split(",")]

    return read_list


def options_of(words: Sequence[str]) -> dict[str, Any]:
    """KEY=VALUE …; a value may hold "=" and "," and is a number, true, false or null if it looks like one.

    Raises:
        UserError: there is no "=", or a key comes twice.
    """
    found: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not key or not equals or key in found:
            raise UserError(f"{word!r}: write each option once, as KEY=VALUE")
        try:
            found[key] = json.loads(value)
        except ValueError:
            found[key] = value
    return found


@dataclass(frozen=True)
class Kept:
    """Recordings with what is known of them, so that a run that was broken off goes on.

    Attributes:
        folder: where they lie: NAME.flac, and NAME.json as soon as all is done.
        settings: what decides them.

    Raises:
        UserError: what lies there was made with other settings.
    """

    folder: Path
    settings: Mapping[str, Any]

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        path, mine = self.folder / "settings.json", json.loads(json.dumps(self.settings))
        theirs = _read(path)
        if theirs is None:
            write_json(path, mine)
        elif theirs != mine:
            other = sorted(key for key in mine.keys() | theirs.keys() if mine.get(key) != theirs.get(key))
            raise UserError(f"{self.folder} was made with another {', '.join(other)}: give another folder or name")

    def audio(self, name: str) -> Path:
        """The recording's file."""
        return self.folder / f"{name}.flac"

    def record(self, name: str) -> dict[str, Any] | None:
        """What is known of a recording, or None if it is to be made."""
        return _read(self.folder / f"{name}.json") if self.audio(name).is_file() else None

    def keep(self, name: str, audio: Audio, known: Mapping[str, Any]) -> dict[str, Any]:
        """Write a recording and what is known of it, which is last."""
        self.audio(name).parent.mkdir(parents=True, exist_ok=True)
        write(self.audio(name), audio)
        write_json(self.folder / f"{name}.json", known)
        return dict(known)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found


@dataclass(eq=False)
class Ear:
    """Judges recordings one at a time, as the metrics wer, wer-closed and sim-o judge whole sets.

    Attributes:
        texts: all that may be said; the closed recogniser knows them.
    """

    texts: Sequence[str]

    def __call__(self, audio: Audio, text: str, voice: Audio) -> dict[str, Any]:
        """Words, wrong words by either recogniser, and similarity, None where there is no voice to be heard."""
        words = spoken_words(text)
        found: dict[str, Any] = {"words": len(words)}
        for name, transcribe in self._recognisers.items():
            found[name] = count_errors(words, spoken_words(transcribe(audio)))[0]
        try:
            found["sim-o"] = float(self._embed(judged(audio)) @ self._voice(voice))
        except UnjudgeableError:
            found["sim-o"] = None
        return found

    @cached_property
    def _recognisers(self) -> dict[str, Any]:
        return {name: Pocketsphinx(closed=name == "wer-closed").open(self.texts) for name in RATES}

    @cached_property
    def _embed(self) -> Any:
        return Resemblyzer().open()

    @cached_property
    def _voices(self) -> dict[Audio, torch.Tensor]:
        return {}

    def _voice(self, voice: Audio) -> torch.Tensor:
        if voice not in self._voices:
            self._voices[voice] = self._embed(judged(voice, "the prompt"))
        return self._voices[voice]


@dataclass(frozen=True, eq=False)
class Drawn:
    """Takes of a text, part by part.

    Attributes:
        parts: the analysis of each part, and its takes.
        seeds: of the takes.
    """

    parts: Sequence[tuple[Analysis, Sequence[Spoken]]]
    seeds: Sequence[int]

    @property
    def finished(self) -> list[bool]:
        """Which takes ended by themselves."""
        return [all(getattr(takes[i], "finished", True) for _, takes in self.parts) for i in range(len(self.seeds))]


class Speaker:
    """A model that draws takes, step by step: what ``say`` does with the same seed and options.

    Args:
        tts: the model with its vocoder.
        options: of ``say`` that concern sampling and decoding.

    Raises:
        UserError: the model draws no takes, or an option is out of range.
    """

    def __init__(self, tts: Pipeline, options: Mapping[str, Any]) -> None:
        if not isinstance(tts.recipe, FreeRecipe):
            raise UserError(f"the model {tts.name} draws no takes: take one that does, tortoise for instance")
        self.tts, self.recipe = tts, tts.recipe
        if strange := sorted(options.keys() - Sampling.__dataclass_fields__.keys() - {"decoding", "seed"}):
            raise UserError(f"{strange[0]!r} does not concern sampling or decoding: leave it out")
        self._request = make_request("", tts.recipe.sampling, **options)
        self.seed, self.sampling = self._request.seed, self._request.sampling
        self.decoding = Decoding.parse(self._request.decoding or "", tts.recipe.decoding)
        self._frontend = FrontEnd()

    def voice(self, recording: Path) -> Heard:
        """A voice from a recording."""
        return listen(recording, self.tts.spec.sample_rate, self.tts.hash, self.recipe.voice)

    def draw(self, text: str, voice: Heard, count: int) -> Drawn:
        """As many takes of a text."""
        seeds = replace(self._request, best_of=count).seeds
        parts = []
        for index, (_, analysis) in enumerate(analyse(self._frontend, text)):
            rngs = [torch.Generator().manual_seed(derive(seed, "tokens", index)) for seed in seeds]
            parts.append((analysis, self.recipe.draw(analysis, voice.latents, self.decoding, rngs)))
        return Drawn(parts, seeds)

    def judge(self, drawn: Drawn) -> list[float]:
        """CLVP's score of every take."""
        each = [self.recipe.judge(analysis, takes) for analysis, takes in drawn.parts]
        found: list[float] = torch.stack(each).mean(0).tolist()
        return found

    def render(
        self, drawn: Drawn, take: int, voice: Heard, sampling: Sampling | None = None, noise: int = 0
    ) -> Generated:
        """The features of a take.

        Args:
            drawn: the takes.
            take: which.
            voice: as it was drawn with.
            sampling: of the diffusion decoder; as the options say by default.
            noise: others give the same take from other noise.
        """
        seed = drawn.seeds[take] if not noise else derive(drawn.seeds[take], "other", noise)
        made = [
            self.recipe.render(
                analysis, takes[take], voice.latents, sampling or self.sampling,
                torch.Generator().manual_seed(derive(seed, "noise", index)), 1.0,
            )
            for index, (analysis, takes) in enumerate(drawn.parts)
        ]  # fmt: skip
        return replace(
            made[0], features=torch.cat([part.features for part in made]), nfe=sum(part.nfe for part in made),
            network_calls=sum(part.network_calls for part in made),
        )  # fmt: skip


def ratio_by(over: Sequence[float], under: Sequence[float], owners: Sequence[str]) -> dict[str, Any]:
    """A ratio of sums with its bootstrap 95 % interval; whole owners (sentences) are drawn.

    Values under which there is nothing do not count.
    """
    sums: dict[str, list[float]] = {}
    for numerator, denominator, owner in zip(over, under, owners, strict=True):
        if denominator > 0:
            total = sums.setdefault(owner, [0.0, 0.0])
            total[0] += numerator
            total[1] += denominator
    found = ratio_interval([a for a, _ in sums.values()], [b for _, b in sums.values()])
    if not sums:
        return {"value": None, "low": None, "high": None, "count": 0, "owners": 0}
    count = sum(b > 0 for b in under)
    return {"value": found.value, "low": found.low, "high": found.high, "count": count, "owners": len(sums)}


def shown(name: str, figure: Mapping[str, Any]) -> str:
    """A figure with its interval; rates in per cent."""
    if figure["value"] is None:
        return "–"
    scale, digits = (100, 1) if name.startswith("wer") else (1, 3)
    # Adding zero makes no minus of what rounds to nothing.
    value, low, high = (f"{round(scale * figure[key], digits) + 0.0:.{digits}f}" for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"
