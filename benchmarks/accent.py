"""Accent transfer between Mandarin-accented and native speakers, both ways.

    python benchmarks/accent.py OUT --accented SPEECHOCEAN762 --native READERS.tsv --classifier JSON [seed=1 …]

Each pair is a test speaker of speechocean762 and a LibriSpeech reader held out of every training (number modulo 8 is
3). *Accented to native*: the accented recording is said again in the reader's voice. *Native to accented*: the reverse.
The recording that is said again is the accent's source, that of ``style`` the voice's. Four ways: the accent source's
durations (kept), the voice source's rhythm (style), predicted durations, and those that go with another recording of
the accent source, which is given as ``accent``. READERS.tsv (audio, speaker, text, start, end) has two stretches or
more of each reader; the first is the voice, the second is what is said.

Measured: similarity (Resemblyzer) to both sources, with other recordings of the same speaker as the ceiling and other
speakers as the floor; the probability of accent (``accent_study.py`` trains the classifier and says how far it can be
trusted) for sources, their resynthesis by the vocoder, and results; word error rates. The same pairs with kept and with
predicted durations differ in nothing but timing: their paired difference is what the durations carry over. Speakers
are what the intervals draw. Recordings, ``tokens.jsonl``, ``scores.json`` and ``scores.md`` go into OUT; an
interrupted run goes on where it stopped. What could not be made or judged is counted, with the reason.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from accent_classifier import VIEWS, Classifier
from accent_corpus import (
    COPIED,
    NATIVE,
    PLAIN,
    Heard,
    Recording,
    accented_recordings,
    listen,
    table_recordings,
)
from accent_features import heard_right
from tables import figure, mean_by, save, table

import flowtts
from flowtts.audio.io import write
from flowtts.registry import load_metric
from flowtts.types import Audio, Item, UserError

WAYS: Mapping[str, tuple[str | None, bool]] = {
    "kept": ("kept", False),
    "style": ("style", False),
    "predicted": ("predicted", False),
    "accent": (None, True),
}
"""Name -> ``timing``, and whether another recording of the accent source is given as ``accent``: that tells it too."""

TO_NATIVE, TO_ACCENTED = "accented to native", "native to accented"
"""Whose speech goes to whose voice."""


class Restyled(Protocol):
    """What ``Pipeline.restyle`` returns."""

    @property
    def audio(self) -> Audio:
        """The result."""
        ...


class Restyler(Protocol):
    """The part of ``Pipeline`` that is measured."""

    def restyle(self, recording: Audio, text: str, style: Audio, style_text: str | None, **options: Any) -> Restyled:
        """Say a recording again."""
        ...


@dataclass(frozen=True)
class Trial:
    """One thing to make.

    Attributes:
        direction: TO_NATIVE or TO_ACCENTED.
        said: recording that is said again: the accent's source.
        other: another recording of its speaker.
        voice: recording whose voice it gets.
        voice_other: another recording of that speaker.
    """

    direction: str
    said: Recording
    other: Recording
    voice: Recording
    voice_other: Recording

    @property
    def name(self) -> str:
        """Of its files."""
        return f"{self.said.speaker}-{self.voice.speaker}"


@dataclass(frozen=True, eq=False)
class Ear:
    """What was heard, by recording and condition.

    Attributes:
        found: by (id, condition).
        logits: of ``found``, by view.
    """

    found: Mapping[tuple[str, str], Heard]
    logits: Mapping[tuple[str, str], Mapping[str, float]]

    @staticmethod
    def of(heard: Sequence[Heard], classifier: Classifier) -> Ear:
        """Judge all."""
        names = [(h.recording.id, h.condition) for h in heard]
        by_view = classifier.logits([h.tokens for h in heard]) if heard else {}
        logits = {name: {view: float(by_view[view][i]) for view in VIEWS} for i, name in enumerate(names)}
        return Ear(dict(zip(names, heard, strict=True)), logits)

    def cosine(self, first: str, second: str) -> float | None:
        """Between the voices of two recordings; None if one could not be heard."""
        pair = [self.found.get((name, PLAIN)) for name in (first, second)]
        if pair[0] is None or pair[1] is None:
            return None
        a, b = pair[0].voice, pair[1].voice
        return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))

    def right(self, name: str, condition: str = PLAIN) -> float | None:
        """Share of the time in which the text's phones are heard: poor sound is no accent; None if not heard."""
        heard = self.found.get((name, condition))
        return None if heard is None else heard_right(heard.tokens)

    def logit(self, name: str, view: str, condition: str = PLAIN) -> float | None:
        """Of a recording; None if it could not be heard."""
        return self.logits[name, condition][view] if (name, condition) in self.logits else None


def pair_up(accented: Sequence[Recording], native: Sequence[Recording], count: int) -> list[Trial]:
    """Both directions of ``count`` pairs; nobody occurs twice while there are people left.

    Raises:
        UserError: too few held-out speakers with two recordings.
    """
    people: list[list[tuple[Recording, Recording]]] = []
    for recordings in (accented, native):
        own: dict[str, list[Recording]] = {}
        for recording in recordings:
            if recording.test:
                own.setdefault(recording.speaker, []).append(recording)
        people.append([(some[0], some[1]) for _, some in sorted(own.items()) if len(some) > 1])
    if not all(people):
        raise UserError("pairs need held-out speakers with two recordings in both tables; give more recordings of each")
    trials = []
    for index in range(count):
        (voice_a, said_a), (voice_b, said_b) = (some[index % len(some)] for some in people)
        trials.append(Trial(TO_NATIVE, said_a, voice_a, voice_b, said_b))
        trials.append(Trial(TO_ACCENTED, said_b, voice_b, voice_a, said_a))
    return trials


def make(
    tts: Restyler, out: Path, trials: Sequence[Trial], ways: Sequence[str], options: Mapping[str, Any]
) -> tuple[dict[tuple[str, str], list[tuple[Trial, Recording]]], dict[str, str]]:
    """Restyle everything that is not there yet.

    Returns:
        What was made by (direction, way), and reasons by name of what could not be.
    """
    made: dict[tuple[str, str], list[tuple[Trial, Recording]]] = {}
    dropped: dict[str, str] = {}
    for way in ways:
        timing, accent = WAYS[way]
        for trial in trials:
            path = out / trial.direction.replace(" ", "-") / way / f"{trial.name}.flac"
            name = f"{trial.direction}/{way}/{trial.name}"
            if not path.exists():
                given: dict[str, Any] = dict(options) if timing is None else {**options, "timing": timing}
                if accent:
                    given |= {"accent": trial.other.read(), "accent_text": trial.other.text}
                try:
                    result = tts.restyle(
                        trial.said.read(), trial.said.text, trial.voice.read(), trial.voice.text, **given
                    )
                except UserError as error:
                    dropped[name] = str(error)
                    continue
                path.parent.mkdir(parents=True, exist_ok=True)
                write(path, result.audio)
            recording = replace(trial.said, id=name, audio=str(path), source=way, start=0.0, end=None)
            made.setdefault((trial.direction, way), []).append((trial, recording))
    return made, dropped


def judge(ear: Ear, pairs: Sequence[tuple[Trial, Recording]]) -> dict[str, Any]:
    """Similarities and probabilities of accent of what was made one way."""
    found: dict[str, Any] = {
        "made": len(pairs),
        "similarity to the voice source": _mean([(t, ear.cosine(r.id, t.voice.id)) for t, r in pairs]),
        "similarity to the accent source": _mean([(t, ear.cosine(r.id, t.said.id)) for t, r in pairs]),
    }
    right = [(t, ear.right(r.id)) for t, r in pairs]
    found["phones heard as written"] = _mean(right)
    for view in VIEWS:
        found[f"P(accented), {view}"] = _mean([(t, _probability(ear.logit(r.id, view))) for t, r in pairs])
    return found


def references(ear: Ear, trials: Sequence[Trial]) -> dict[str, Any]:
    """What the sources themselves score: ceilings, floors and probabilities."""
    following = [*trials[1:], *trials[:1]]
    apart = [(t, n) for t, n in zip(trials, following, strict=True) if t.voice.speaker != n.voice.speaker]
    found: dict[str, Any] = {
        "similarity, same voice (ceiling)": _mean([(t, ear.cosine(t.voice.id, t.voice_other.id)) for t in trials]),
        "similarity, other voices of the same corpus (floor)": _mean(
            [(t, ear.cosine(t.voice.id, n.voice.id)) for t, n in apart]
        ),
        "similarity, voice source to accent source (floor)": _mean(
            [(t, ear.cosine(t.voice.id, t.said.id)) for t in trials]
        ),
    }
    for name, ids, condition in (
        ("voice source", [t.voice.id for t in trials], PLAIN),
        ("accent source", [t.said.id for t in trials], PLAIN),
        ("accent source through the vocoder", [t.said.id for t in trials], COPIED),
    ):
        for view in VIEWS:
            logits = [ear.logit(which, view, condition) for which in ids]
            values = [(trial, _probability(logit)) for trial, logit in zip(trials, logits, strict=True)]
            found[f"P(accented), {view}, {name}"] = _mean(values)
        right = [(trial, ear.right(which, condition)) for trial, which in zip(trials, ids, strict=True)]
        found[f"phones heard as written, {name}"] = _mean(right)
    return found


def paired(
    ear: Ear, one: Sequence[tuple[Trial, Recording]], other: Sequence[tuple[Trial, Recording]]
) -> dict[str, Any]:
    """Mean difference in logit and in P(accented) of the same trials made two ways, first minus second."""
    second = {trial.name: recording for trial, recording in other}
    found: dict[str, Any] = {}
    for view in VIEWS:
        logits = [(t, ear.logit(r.id, view), ear.logit(second[t.name].id, view)) for t, r in one if t.name in second]
        both = [(t, a, b) for t, a, b in logits if a is not None and b is not None]
        found[f"logit, {view}"] = _mean([(t, a - b) for t, a, b in both])
        found[f"P(accented), {view}"] = _mean([(t, _sigmoid(a) - _sigmoid(b)) for t, a, b in both])
    return found


def words(recordings: Sequence[Recording], metrics: Sequence[str]) -> dict[str, Any]:
    """Error rates by metric."""
    items = [Item(r.read(), r.text, id=r.id) for r in recordings]
    return {name: figure(load_metric(name)(items)) for name in metrics}


def measure(
    out: Path,
    classifier: Classifier,
    trials: Sequence[Trial],
    made: Mapping[tuple[str, str], Sequence[tuple[Trial, Recording]]],
    metrics: Sequence[str],
    jobs: int = 1,
) -> dict[str, Any]:
    """All scores of what was made."""
    sources = {r.id: r for t in trials for r in (t.said, t.other, t.voice, t.voice_other)}
    wanted = [(r, PLAIN) for r in sources.values()]
    wanted += [(r, COPIED) for r in {t.said.id: t.said for t in trials}.values()]
    wanted += [(r, PLAIN) for pairs in made.values() for _, r in pairs]
    ear = Ear.of(listen(out / "tokens.jsonl", wanted, {}, jobs), classifier)
    scores: dict[str, Any] = {}
    for direction in (TO_NATIVE, TO_ACCENTED):
        own = [t for t in trials if t.direction == direction]
        ways = {way: pairs for (d, way), pairs in made.items() if d == direction}
        scores[direction] = {
            "references": references(ear, own) | words([t.said for t in own], metrics),
            "ways": {way: judge(ear, pairs) | words([r for _, r in pairs], metrics) for way, pairs in ways.items()},
            "paired with predicted": {
                way: paired(ear, pairs, ways["predicted"])
                for way, pairs in ways.items()
                if way != "predicted" and "predicted" in ways
            },
        }
    unheard = [f"{r.id} ({c})" for r, c in wanted if (r.id, c) not in ear.found]
    return scores | {"not heard": unheard}


def markdown(scores: Mapping[str, Any]) -> Iterator[str]:
    """The tables."""
    yield f"# Accent transfer\n\n{scores['pairs']} pairs. Could not be made: {len(scores['dropped'])}; " \
          f"could not be aligned: {len(scores['not heard'])}.\n"  # fmt: skip
    for direction in (TO_NATIVE, TO_ACCENTED):
        part = scores[direction]
        yield f"\n## {direction.capitalize()}\n"
        names = list(part["ways"])
        rows = list(dict.fromkeys(key for way in part["ways"].values() for key in way))
        yield table(["", *names], [[row, *(part["ways"][name].get(row) for name in names)] for row in rows])
        yield table(["sources", ""], list(part["references"].items()))
        differences = part["paired with predicted"]
        rows = list(dict.fromkeys(key for way in differences.values() for key in way))
        yield table(
            ["minus predicted", *differences], [[row, *(way.get(row) for way in differences.values())] for row in rows]
        )


def _mean(values: Sequence[tuple[Trial, float | None]]) -> dict[str, Any]:
    known = [(value, trial.said.speaker) for trial, value in values if value is not None]
    return mean_by([value for value, _ in known], [owner for _, owner in known])


def _probability(logit: float | None) -> float | None:
    return None if logit is None else _sigmoid(logit)


def _sigmoid(logit: float) -> float:
    return float(1 / (1 + np.exp(-np.clip(logit, -50, 50))))


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
    parser.add_argument("--accented", type=Path, required=True)
    parser.add_argument("--native", type=Path, required=True)
    parser.add_argument("--classifier", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--metrics", nargs="*", default=["wer-closed", "wer"])
    parser.add_argument("--model", default="voicebox")
    parser.add_argument("--vocoder", default="vocos")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("options", nargs="*", help="steps=16 guidance=1.7 seed=1 …")
    given = parser.parse_intermixed_args()
    given.out.mkdir(parents=True, exist_ok=True)
    classifier = Classifier.load(given.classifier)
    trials = pair_up(accented_recordings(given.accented, 2), table_recordings(given.native, NATIVE), given.pairs)
    options = dict(map(_option, given.options))
    made, dropped = make(flowtts.load(given.model, given.vocoder), given.out, trials, given.ways, options)
    scores = measure(given.out, classifier, trials, made, given.metrics, given.jobs)
    scores |= {"pairs": given.pairs, "options": options, "dropped": dropped}
    text = "\n".join(markdown(scores))
    save(given.out, "scores", scores, text)
    print(text)


if __name__ == "__main__":
    main()
