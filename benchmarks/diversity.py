"""Diverse sampling: many voices for one text, with regression and with sampled durations (arXiv 2306.15687, table 6).

    python benchmarks/diversity.py OUT --sentences SENTENCES.tsv --real FOLDER [--texts 10] [--each 20] [guidance=1 …]

SENTENCES.tsv has the columns id and text; the first ``--texts`` of 30 to 90 characters are said ``--each`` times
without a prompt, with either kind of durations. Measured: word error rate; similarity of speakers (Resemblyzer) over
the pairs of one text, low is diverse; how much the speaking rate and the length of each phone vary between the samples
of a text; Fréchet speech distance to the recordings in FOLDER (audio files, a speaker each). The last depends on the
numbers of recordings: one half of FOLDER is the reference, the other half, for comparison, competes, and of the samples
as many are taken. The recordings' similarity over pairs is what different people have. Texts are what the
intervals draw, except those of the word error rate and the distance. Recordings with sidecars, ``scores.json`` and
``scores.md`` go into OUT; an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from tables import figure, mean_by, save, table

import flowtts
from flowtts.audio.io import read
from flowtts.registry import load_metric
from flowtts.speech import Speech
from flowtts.types import Audio, Item, UserError

KINDS = ("regression", "flow")
PAIRS = "sim-pairs"
SUFFIXES = (".flac", ".ogg", ".wav", ".mp3")


class Sampler(Protocol):
    """The part of ``Pipeline`` that is measured."""

    def sample(self, text: str, n: int, durations: str = "regression", **options: Any) -> list[Speech]:
        """Say a text n times, each in a voice of its own."""
        ...


@dataclass(frozen=True, eq=False)
class Sample:
    """One of the recordings of a text.

    Attributes:
        name: of its file.
        text_id: which text.
        text: as it was to be said.
        audio: the recording.
        phones: (symbol, seconds) without pauses.
    """

    name: str
    text_id: str
    text: str
    audio: Audio
    phones: tuple[tuple[str, float], ...]

    @property
    def rate(self) -> float:
        """Phones per second of speech, pauses left out."""
        return len(self.phones) / sum(seconds for _, seconds in self.phones)


def sentences(path: Path, count: int) -> list[tuple[str, str]]:
    """(id, text) of the first sentences of 30 to 90 characters.

    Raises:
        UserError: there are none.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
        found = [(row["id"], row["text"]) for row in rows if 30 <= len(row["text"]) <= 90][:count]
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except KeyError as error:
        raise UserError(f"{path}: has no column {error}") from None
    if not found:
        raise UserError(f"{path}: has no sentence of 30 to 90 characters")
    return found


def make(
    tts: Sampler, out: Path, kind: str, texts: Sequence[tuple[str, str]], each: int, options: Mapping[str, Any]
) -> tuple[list[Sample], dict[str, str]]:
    """Sample every text that is not there yet.

    Returns:
        The samples, and reasons by text of those that could not be made.
    """
    samples: list[Sample] = []
    dropped: dict[str, str] = {}
    for text_id, text in texts:
        folder = out / kind / text_id
        paths = [folder / f"{number:03d}.flac" for number in range(each)]
        # The sidecar is written last: with it, a recording is whole.
        if not all(path.with_suffix(".json").exists() for path in paths):
            folder.mkdir(parents=True, exist_ok=True)
            try:
                made = tts.sample(text, each, durations=kind, **options)
            except UserError as error:
                dropped[f"{kind}/{text_id}"] = str(error)
                continue
            for path, speech in zip(paths, made, strict=True):
                speech.save(path)
        for path in paths:
            said = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["phones"]
            phones = [(p["phone"], p["end"] - p["start"]) for p in said if p["word"] is not None]
            samples.append(Sample(f"{text_id}/{path.stem}", text_id, text, read(path), tuple(phones)))
    return samples, dropped


def judge(samples: Sequence[Sample], real: Sequence[Audio], metrics: Sequence[str]) -> dict[str, Any]:
    """All scores of one kind of durations."""
    items = [Item(s.audio, s.text, id=s.name) for s in samples]
    found: dict[str, Any] = {}
    for name in metrics:
        judged = against([s.audio for s in samples], real) if name.startswith("fsd") else items
        found[name] = figure(load_metric(name)(judged))
    found["similarity of speakers within a text"] = _over_texts(samples, _pairs)
    found["phones per second"] = mean_by([s.rate for s in samples], [s.text_id for s in samples])
    found["spread of the rate within a text, %"] = _over_texts(samples, rate_spread)
    found["spread of a phone's length within a text, %"] = _over_texts(samples, phone_spread)
    return found


def against(made: Sequence[Audio], real: Sequence[Audio]) -> list[Item]:
    """Recordings spread evenly over ``made``, as many as half of ``real``, with the second half as references."""
    half = len(real) // 2
    size = min(half, len(made))
    chosen = np.linspace(0, len(made) - 1, size).round().astype(int)
    return [Item(made[index], "", reference=real[half + i], id=str(i)) for i, index in enumerate(chosen)]


def rate_spread(samples: Sequence[Sample]) -> float:
    """Standard deviation of the speaking rate over samples of one text, in percent of its mean."""
    rates = np.array([s.rate for s in samples])
    return float(100 * rates.std(ddof=1) / rates.mean())


def phone_spread(samples: Sequence[Sample]) -> float:
    """Mean over the phones of one text of the deviation of their lengths between samples, in percent of their means.

    Lengths are relative to the sample's own rate, so that this is the spread of rhythm.
    """
    lengths = np.array([[seconds for _, seconds in s.phones] for s in samples])
    lengths = lengths / lengths.mean(1, keepdims=True)
    return float(np.mean(100 * lengths.std(0, ddof=1) / lengths.mean(0)))


def baseline(real: Sequence[Audio], metrics: Sequence[str]) -> dict[str, Any]:
    """What recordings of different people score."""
    if len(real) < 2:
        return {}
    found = {"similarity of speakers within a text": figure(load_metric(PAIRS)([Item(a, "") for a in real]))}
    items = against(real[: len(real) // 2], real)
    return found | {name: figure(load_metric(name)(items)) for name in metrics if name.startswith("fsd")}


def recordings(folder: Path, count: int) -> list[Audio]:
    """Up to ``count`` recordings, evenly over the folder.

    Raises:
        UserError: there are none.
    """
    paths = sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES)
    if not paths:
        raise UserError(f"{folder}: holds no recording; give a folder of {', '.join(SUFFIXES)} files")
    chosen = np.linspace(0, len(paths) - 1, min(count, len(paths))).round().astype(int)
    return [read(paths[index]).mono() for index in chosen]


def markdown(scores: Mapping[str, Any]) -> Iterator[str]:
    """The table."""
    yield f"# Diverse sampling\n\n{scores['texts']} texts, {scores['each']} samples each, {scores['real']} recordings."
    yield f"Could not be made: {len(scores['dropped'])}.\n"
    kinds = [*(kind for kind in KINDS if kind in scores), "recordings"]
    rows = list(dict.fromkeys(row for kind in kinds for row in scores[kind]))
    yield table(["", *kinds], [[row, *(scores[kind].get(row) for kind in kinds)] for row in rows])


def _pairs(samples: Sequence[Sample]) -> float:
    return float(load_metric(PAIRS)([Item(s.audio, s.text, id=s.name) for s in samples]).value)


def _over_texts(samples: Sequence[Sample], what: Any) -> dict[str, Any]:
    texts = list(dict.fromkeys(s.text_id for s in samples))
    return mean_by([what([s for s in samples if s.text_id == text]) for text in texts], texts)


def _option(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--sentences", type=Path, required=True, help="TSV with the columns id and text")
    parser.add_argument("--real", type=Path, help="folder of recordings of different people")
    parser.add_argument("--people", type=int, default=100, help="recordings of it")
    parser.add_argument("--texts", type=int, default=10)
    parser.add_argument("--each", type=int, default=20, help="samples of each text, at least 2")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--metrics", nargs="*", default=["wer-closed", "wer", "fsd"])
    parser.add_argument("--model", default="voicebox")
    parser.add_argument("--vocoder", default="vocos")
    parser.add_argument("options", nargs="*", help="guidance=1 steps=16 seed=1 …")
    given = parser.parse_intermixed_args()
    options = dict(map(_option, given.options))
    texts = sentences(given.sentences, given.texts)
    real = recordings(given.real, given.people) if given.real is not None else []
    metrics = [name for name in given.metrics if real or not name.startswith("fsd")]
    tts = flowtts.load(given.model, given.vocoder)
    scores: dict[str, Any] = {
        "texts": len(texts),
        "each": given.each,
        "real": len(real),
        "options": options,
        "dropped": {},
    }
    for kind in given.kinds:
        samples, dropped = make(tts, given.out, kind, texts, given.each, options)
        scores["dropped"] |= dropped
        if samples:
            scores[kind] = judge(samples, real, metrics)
    scores["recordings"] = baseline(real, metrics)
    text = "\n".join(markdown(scores))
    save(given.out, "scores", scores, text)
    print(text)


if __name__ == "__main__":
    main()
