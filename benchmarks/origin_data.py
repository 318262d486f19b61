"""What the classifier of generated speech hears: recordings of people, and what is made of them and in their voices.

Recordings are given by a TSV with the columns audio (relative to it), speaker, split (train, valid or test) and text
(empty if nobody knows). Every kind of generated speech is made for speakers of all splits, so that a speaker is in one
split in whatever shape: copies go through a vocoder and keep words and voice; models say other sentences in the
speaker's voice. Everything is kept as it is made, 16 bit, without a provenance tag; ``origin_channels`` does the rest.
"""

from __future__ import annotations

import csv
import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from takes import speak

import flowtts
from flowtts.audio.io import read, resample, write
from flowtts.audio.mel import LogMel
from flowtts.recognise import PocketsphinxRecogniser
from flowtts.registry import load_vocoder
from flowtts.speech import write_json
from flowtts.types import VOCOS_MEL, Audio, UserError, Vocoder
from flowtts.vocoders.griffin_lim import GriffinLim
from flowtts.vocoders.vocos import VocosVocoder

SPLITS = ("train", "valid", "test")
RATE = 16_000
ENGINE = "flite"
"""Neither recorded nor made by a model: never trained on."""

ENGINE_VOICES = ("rms", "slt", "awb", "kal16")

_LONGEST_COPY = 5.0
_SHORTEST_PROMPT = 3.0
_LONGEST_PROMPT = 6.0
"""Seconds of a recording that somebody has to write down first."""


@dataclass(frozen=True)
class Recording:
    """A row of the table.

    Attributes:
        audio: its file.
        speaker: unique over all tables.
        split: one of ``SPLITS``.
        text: what it says, or "".
    """

    audio: Path
    speaker: str
    split: str
    text: str = ""


@dataclass(frozen=True)
class Model:
    """A way of speaking: a recipe's checkpoint and a vocoder, and the numbers of steps that take turns."""

    recipe: str
    vocoder: str = "vocos"
    steps: tuple[int | None, ...] = (None,)


MODELS: Mapping[str, Model] = {
    "voicebox-fewstep": Model("voicebox-fewstep", steps=(4, 2)),
    "voicebox-small": Model("voicebox-small"),
    "voicebox-griffin-lim": Model("voicebox-fewstep", "griffin-lim", steps=(4,)),
    "tortoise-small": Model("tortoise-small"),
}

COUNTS: Mapping[str, tuple[int, int, int]] = {
    "copy-vocos": (240, 30, 70), "copy-vocos-bare": (100, 20, 50), "copy-griffin-lim": (240, 30, 70),
    "copy-world": (120, 20, 60), "voicebox-fewstep": (60, 8, 40), "voicebox-small": (44, 8, 40),
    "voicebox-griffin-lim": (24, 6, 36), "tortoise-small": (36, 8, 40), ENGINE: (0, 0, 80),
}  # fmt: skip
"""How many of each kind are made for each split, cheap ones first."""


def recordings(table: Path) -> list[Recording]:
    """The rows of a table.

    Raises:
        UserError: a column is missing or a split unknown.
    """
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    if not rows or not {"audio", "speaker", "split", "text"} <= rows[0].keys():
        raise UserError(f"{table}: needs the columns audio, speaker, split and text")
    if strange := {row["split"] for row in rows} - set(SPLITS):
        raise UserError(f"{table}: no split {sorted(strange)[0]!r}; there are {', '.join(SPLITS)}")
    return [Recording(table.parent / row["audio"], row["speaker"], row["split"], row["text"] or "") for row in rows]


def turns(rows: Sequence[Recording], split: str, count: int, kind: str) -> Iterator[tuple[int, Recording]]:
    """``count`` recordings of a split, speaker after speaker, then again; all models speak in the same voices."""
    order_of = next(iter(MODELS)) if kind in MODELS else kind
    by_speaker: dict[str, list[Recording]] = {}
    for row in rows:
        if row.split == split:
            by_speaker.setdefault(row.speaker, []).append(row)
    order = sorted(by_speaker, key=lambda speaker: number(order_of, speaker))
    for index in range(count if order else 0):
        own = by_speaker[order[index % len(order)]]
        yield index, own[(index // len(order)) % len(own)]


def make(kind: str, rows: Sequence[Recording], sentences: Sequence[str], out: Path) -> None:
    """Makes what is missing of a kind: OUT/KIND/SPLIT/SPEAKER_NUMBER.flac."""
    say = _speaker(kind, rows, sentences, out)
    for split, count in zip(SPLITS, COUNTS[kind], strict=True):
        folder = out / kind / split
        folder.mkdir(parents=True, exist_ok=True)
        for index, row in turns(rows, split, count, kind):
            speaker = ENGINE_VOICES[index % len(ENGINE_VOICES)] if kind == ENGINE else row.speaker
            path = folder / f"{speaker}_{index}.flac"
            if path.is_file() or path.with_suffix(".failed").is_file():
                continue
            try:
                write(path, say(index, row))
            except UserError as error:
                # A recogniser's text may not fit what is said: the speaker is passed over, today and tomorrow.
                path.with_suffix(".failed").write_text(f"{error}\n", encoding="utf-8")
        print(f"{kind}, {split}: {len(list(folder.glob('*.flac')))}", file=sys.stderr, flush=True)


def _speaker(
    kind: str, rows: Sequence[Recording], sentences: Sequence[str], out: Path
) -> Callable[[int, Recording], Audio]:
    """What makes one sound of a kind from its number and a recording of the speaker."""

    def sentence(index: int, row: Recording) -> str:
        return sentences[number(kind, row.speaker, str(index)) % len(sentences)]

    def copied(index: int, row: Recording) -> Audio:
        return _copy(kind, index, _window(row, index))

    if kind in MODELS:
        model = MODELS[kind]
        tts = flowtts.load(model.recipe, vocoder=model.vocoder, tag=False)
        known = Texts(out / "texts.json")

        def said(index: int, row: Recording) -> Audio:
            prompt, written = _prompt(rows, row)
            # Tortoise does not ask what a voice says.
            words = None if model.recipe.startswith("tortoise") else written or known(row.speaker, prompt)
            steps = model.steps[index % len(model.steps)]
            text = sentence(index, row)
            return tts.say(text, voice=prompt, voice_text=words, seed=index, steps=steps).audio

        return said
    if kind == ENGINE:
        return lambda index, row: speak(ENGINE_VOICES[index % len(ENGINE_VOICES)], sentence(index, row))
    return copied


class Texts:
    """What prompts say, by a recogniser, kept in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, str] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def __call__(self, speaker: str, prompt: Audio) -> str:
        """The words of a speaker's prompt.

        Raises:
            UserError: none were recognised.
        """
        if speaker not in self._known:
            self._known[speaker] = PocketsphinxRecogniser().transcribe(prompt)
            write_json(self._path, self._known)
        if not self._known[speaker]:
            raise UserError(f"{speaker}: no words were recognised")
        return self._known[speaker]


def _prompt(rows: Iterable[Recording], row: Recording) -> tuple[Audio, str]:
    """The speaker's first recording that is long enough, or the first, with its text if that is known."""
    own = [other for other in rows if other.speaker == row.speaker]
    found = next((other for other in own if read(other.audio).seconds >= _SHORTEST_PROMPT), own[0])
    audio = resample(read(found.audio).mono(), RATE)
    size = len(audio.samples) if found.text else round(_LONGEST_PROMPT * RATE)
    return Audio(audio.samples[:size], RATE), found.text


def _window(row: Recording, index: int) -> Audio:
    """Up to 5 s of a recording, at 16 kHz."""
    audio = resample(read(row.audio).mono(), RATE)
    size = min(len(audio.samples), round(_LONGEST_COPY * RATE))
    start = number("window", row.audio.name, str(index)) % (len(audio.samples) - size + 1)
    return Audio(audio.samples[start : start + size], RATE)


def _copy(kind: str, index: int, audio: Audio) -> Audio:
    """Copy-synthesis of a recording by one of several vocoders."""
    if kind == "copy-world":
        return world(audio)
    if kind == "copy-griffin-lim":
        # Two mels, three numbers of iterations: what is to be learnt is no table.
        iterations = (16, 32, 60)[index % 3]
        return _through(GriffinLim(VOCOS_MEL if index % 4 == 3 else _vocos().spec, iterations, seed=index), audio)
    if kind == "copy-vocos-bare":
        return _through(_bare(), audio)
    return _through(_vocos(), audio)


def _through(vocoder: Vocoder, audio: Audio) -> Audio:
    spec = vocoder.spec
    samples = torch.from_numpy(resample(audio, spec.sample_rate).samples)
    with torch.inference_mode():
        made = vocoder.decode(LogMel(spec)(samples))[0]
    return resample(Audio(made.numpy(), spec.sample_rate), RATE)


@cache
def _vocos() -> Vocoder:
    return load_vocoder("vocos")


@cache
def _bare() -> Vocoder:
    """Vocos's network alone, without the iterations of Griffin-Lim behind it."""
    network = VocosVocoder.load("vocos-16k").network
    network.config = replace(network.config, polish=0)
    return VocosVocoder(network)


def world(audio: Audio) -> Audio:
    """Analysis and synthesis by WORLD (Morise et al. 2016): F0, spectral envelope and aperiodicity."""
    import pyworld

    samples = audio.samples.astype(np.float64)
    f0, times = pyworld.dio(samples, audio.sample_rate)
    f0 = pyworld.stonemask(samples, f0, times, audio.sample_rate)
    envelope = pyworld.cheaptrick(samples, f0, times, audio.sample_rate)
    aperiodicity = pyworld.d4c(samples, f0, times, audio.sample_rate)
    made = pyworld.synthesize(f0, envelope, aperiodicity, audio.sample_rate)[: len(samples)]
    return Audio(made.clip(-1, 1).astype(np.float32), audio.sample_rate)


def number(*parts: str) -> int:
    """A number drawn by words: the same ones give the same."""
    return int.from_bytes(hashlib.sha256("/".join(parts).encode()).digest()[:6], "little")
