"""Train the accent classifier and find out what it hears besides the accent.

    python benchmarks/accent_study.py OUT --accented SPEECHOCEAN762 --native READERS.tsv … [--engine ENGINE.tsv …]

SPEECHOCEAN762 is the corpus's folder (``utterances.tsv``, ``audio/SPEAKER/UTTERANCE.ogg``); the tables have the columns
audio, speaker, text and, for parts of recordings, start and end (seconds); an audio path is relative to its table.
Nobody is in both training and test: the test set is speechocean762's own, and readers whose number modulo 8 is 3.
Engines are native speech from neither corpus and only tested. Writes ``tokens.jsonl`` (a journal: an interrupted run
goes on where it stopped), ``classifier.json``, ``scores.json`` and ``scores.md`` into OUT.

Controls: the accuracy that the channel alone would give (pauses; a speaker encoder), and what becomes of the verdicts
when the channel changes and the accent does not (each corpus filtered to the other's average spectrum; resynthesis by
the vocoder) and for native speech from elsewhere (engines).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from accent_classifier import RIDGES, VIEWS, balanced_entropy, fit_linear, folds_of, out_of_fold, train
from accent_corpus import (
    ACCENTED,
    COPIED,
    DISTURBED,
    ENGINE,
    NATIVE,
    PLAIN,
    SWAPPED,
    Heard,
    Recording,
    accented_recordings,
    group_spectrum,
    listen,
    table_recordings,
)
from accent_features import HEARD, Tokens, Vector, cut
from tables import accuracy_by, mean_by, save, table

ENCODER = "Resemblyzer"
JUDGES = (*VIEWS, ENCODER)
SPECTRUM_RECORDINGS = 60


@dataclass(frozen=True, eq=False)
class Piece:
    """Part of a recording, as long as an accented utterance."""

    tokens: Tokens
    heard: Heard

    @property
    def speaker(self) -> str:
        """Who."""
        return self.heard.recording.speaker

    @property
    def accented(self) -> bool:
        """Whether the speaker is."""
        return self.heard.recording.group == ACCENTED


def pieces_of(heard: Sequence[Heard], lengths: Sequence[int]) -> list[Piece]:
    """Accented utterances as they are, others cut to their lengths."""
    rng, found = np.random.default_rng(0), []
    for one in heard:
        whole = [one.tokens]
        parts = whole if one.recording.group == ACCENTED else cut(one.tokens, lengths, rng) or whole
        found += [Piece(part, one) for part in parts if len(part.tokens) >= 5]
    return found


def judge_of_voices(heard: Sequence[Heard]) -> Callable[[Sequence[Heard]], Vector]:
    """The naive judge: how much nearer a voice is to the mean accented voice than to the mean native one."""
    voices = {group: np.stack([h.voice for h in heard if h.recording.group == group]) for group in (ACCENTED, NATIVE)}
    accented, native = (v.mean(0) / np.linalg.norm(v.mean(0)) for v in (voices[ACCENTED], voices[NATIVE]))
    middle = np.mean([(v @ (accented - native)).mean() for v in voices.values()])
    return lambda some: np.stack([h.voice for h in some]) @ (accented - native) - middle


def channel_accuracy(heard: Sequence[Heard], what: Callable[[Heard], Vector]) -> dict[str, Any]:
    """Held-out accuracy of a logistic regression on something that carries no speech."""
    parts = {test: [h for h in heard if h.recording.test == test] for test in (False, True)}
    rows, accented = {}, {}
    for test, some in parts.items():
        rows[test] = np.stack([what(h) for h in some])
        accented[test] = np.array([h.recording.group == ACCENTED for h in some], dtype=float)
    folds = folds_of([h.recording.speaker for h in parts[False]])
    loss = {
        r: balanced_entropy(out_of_fold(rows[False], accented[False], folds, r, each=True), accented[False])
        for r in RIDGES
    }
    best = min(RIDGES, key=lambda ridge: loss[ridge])
    logit = fit_linear(rows[False], accented[False], best, each=True).logit(rows[True])
    return _accuracy(logit, [h.recording for h in parts[True]])


def pause_phones(heard: Heard) -> Vector:
    """(Q,) share of each phone that the classifier's ear hears where nothing is said."""
    seconds = np.array([heard.tokens.pauses.get(name, 0.0) for name in HEARD])
    return np.asarray(seconds / max(float(seconds.sum()), 1e-6))


def _accuracy(logit: Vector, recordings: Sequence[Recording]) -> dict[str, Any]:
    accented = [r.group == ACCENTED for r in recordings]
    right = [bool((x > 0) == y) for x, y in zip(logit, accented, strict=True)]
    return accuracy_by(right, accented, [r.speaker for r in recordings])


def auc(logit: Vector, accented: Sequence[bool]) -> float:
    """Probability that an accented piece gets the higher logit."""
    yes, no = logit[np.array(accented)], logit[~np.array(accented)]
    return float(np.mean((yes[:, None] > no) + 0.5 * (yes[:, None] == no)))


def verdicts(logits: dict[str, Vector], pieces: Sequence[Piece]) -> dict[str, Any]:
    """Accuracy, recall of each class and area under the curve, by judge."""
    found = {}
    for judge, logit in logits.items():
        recordings = [p.heard.recording for p in pieces]
        recalls = {
            group: called(logit, pieces, lambda p, group=group: p.heard.recording.group == group)  # type: ignore[misc]
            for group in (ACCENTED, NATIVE)
        }
        area = round(auc(logit, [p.accented for p in pieces]), 4)
        found[judge] = {"accuracy": _accuracy(logit, recordings), "called accented": recalls, "AUC": area}
    return found


def called(logit: Vector, pieces: Sequence[Piece], chosen: Callable[[Piece], bool]) -> dict[str, Any]:
    """Share of some pieces that is called accented."""
    own = [(x > 0, p.speaker) for x, p in zip(logit, pieces, strict=True) if chosen(p)]
    return mean_by([float(yes) for yes, _ in own], [speaker for _, speaker in own])


class Study:
    """All measurements on what was heard."""

    def __init__(self, heard: Sequence[Heard]) -> None:
        self.heard = heard
        plain = [h for h in heard if h.condition == PLAIN and h.recording.group != ENGINE]
        lengths = [h.tokens.words for h in plain if h.recording.group == ACCENTED and not h.recording.test]
        self.lengths = lengths
        learnt = pieces_of([h for h in heard if not h.recording.test and h.condition in (PLAIN, DISTURBED)], lengths)
        accented = np.array([float(p.accented) for p in learnt])
        self.classifier, unseen = train([p.tokens for p in learnt], accented, [p.speaker for p in learnt])
        self.voices = judge_of_voices([h for h in plain if not h.recording.test])
        keep = np.array([p.heard.condition == PLAIN for p in learnt])
        self.learnt = [p for p, kept in zip(learnt, keep, strict=True) if kept]
        self.unseen = {view: logit[keep] for view, logit in unseen.items()}

    def logits(self, pieces: Sequence[Piece]) -> dict[str, Vector]:
        """By judge."""
        found = self.classifier.logits([p.tokens for p in pieces])
        return found | {ENCODER: self.voices([p.heard for p in pieces])}

    def scores(self) -> dict[str, Any]:
        """Everything."""
        plain = [h for h in self.heard if h.condition == PLAIN and h.recording.group != ENGINE]
        test = pieces_of([h for h in plain if h.recording.test], self.lengths)
        return {
            "counts": self.counts(),
            "held out": verdicts(self.logits(test), test),
            "speakers left out of training": verdicts(self.unseen, self.learnt),
            "native tables": self.tables(test),
            "channel alone": {
                "spectrum of pauses": channel_accuracy(plain, lambda h: h.pause),
                "spectrum of pauses, relative to the recording's": channel_accuracy(
                    plain, lambda h: h.pause_normalised
                ),
                "phones heard in pauses": channel_accuracy(plain, pause_phones),
            },
            "other channel": self.changes(),
            "engines": self.engines(),
        }

    def counts(self) -> dict[str, Any]:
        """Recordings and speakers of each part."""
        found: dict[str, Any] = {}
        for group in (ACCENTED, NATIVE, ENGINE):
            for test in (False, True):
                own = [
                    h
                    for h in self.heard
                    if h.condition == PLAIN and (h.recording.group, h.recording.test) == (group, test)
                ]
                if own:
                    speakers = len({h.recording.speaker for h in own})
                    found[f"{group}, {'test' if test else 'training'}"] = {"recordings": len(own), "speakers": speakers}
        return found

    def tables(self, test: Sequence[Piece]) -> dict[str, Any]:
        """Share called accented by table: a wrongly recognised text must not look like an accent."""
        found: dict[str, Any] = {}
        for kind, pieces, logits in (("training", self.learnt, self.unseen), ("test", test, self.logits(test))):
            for source in sorted({p.heard.recording.source for p in pieces if not p.accented}):
                found[f"{source}, {kind}"] = {
                    judge: called(logit, pieces, lambda p, s=source: p.heard.recording.source == s)  # type: ignore[misc]
                    for judge, logit in logits.items()
                }
        return found

    def changes(self) -> dict[str, Any]:
        """Share called accented of the same recordings as they are and with the channel changed."""
        ids = {h.recording.id for h in self.heard if h.condition == SWAPPED}
        found: dict[str, Any] = {}
        for condition in (PLAIN, SWAPPED, COPIED):
            own = [h for h in self.heard if h.condition == condition and h.recording.id in ids]
            for group in (ACCENTED, NATIVE):
                pieces = pieces_of([h for h in own if h.recording.group == group], self.lengths)
                if pieces:
                    logits = self.logits(pieces)
                    found[f"{group}, {condition}"] = {j: called(x, pieces, lambda p: True) for j, x in logits.items()}
        return found

    def engines(self) -> dict[str, Any]:
        """Share called accented of each voice of each table."""
        found: dict[str, Any] = {}
        own = [h for h in self.heard if h.recording.group == ENGINE]
        for source, voice in sorted({(h.recording.source, h.recording.speaker) for h in own}):
            spoken = [h for h in own if (h.recording.source, h.recording.speaker) == (source, voice)]
            pieces = pieces_of(spoken, self.lengths)
            # One voice: its recordings are what is drawn.
            names = [p.heard.recording.id for p in pieces]
            found[f"{source}, {voice}"] = {
                judge: mean_by([float(x > 0) for x in logit], names) for judge, logit in self.logits(pieces).items()
            }
        return found


def markdown(scores: dict[str, Any]) -> Iterator[str]:
    """The tables."""
    yield "# Accent classifier\n"
    yield table(["part", "recordings", "speakers"], [[k, *v.values()] for k, v in scores["counts"].items()])
    for name in ("held out", "speakers left out of training"):
        yield f"\n## {name.capitalize()}\n"
        rows = [[j, v["accuracy"], *v["called accented"].values(), v["AUC"]] for j, v in scores[name].items()]
        yield table(["judge", "balanced accuracy", "accented called accented", "native called accented", "AUC"], rows)
    yield "\n## The channel alone\n"
    yield table(["heard", "balanced accuracy"], [[k, v] for k, v in scores["channel alone"].items()])
    for name in ("native tables", "other channel", "engines"):
        if scores[name]:
            yield f"\n## Called accented: {name}\n"
            yield table(["", *JUDGES], [[k, *(v.get(j) for j in JUDGES)] for k, v in scores[name].items()])


def plan(
    accented: Sequence[Recording], native: Sequence[Recording], engines: Sequence[Recording], changed: int
) -> list[tuple[Recording, str]]:
    """What is to be heard how; ``changed`` test sentences of each accented speaker change channel."""
    wanted = [(r, PLAIN) for r in (*accented, *native, *engines)]
    wanted += [(r, DISTURBED) for r in (*accented, *native) if not r.test]
    taken: dict[str, int] = {}
    for recording in (r for r in (*accented, *native) if r.test):
        taken[recording.speaker] = taken.get(recording.speaker, 0) + 1
        if recording.group == NATIVE or taken[recording.speaker] <= changed:
            wanted += [(recording, SWAPPED), (recording, COPIED)]
    return wanted


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--accented", type=Path, required=True)
    parser.add_argument("--native", type=Path, nargs="+", required=True)
    parser.add_argument("--engine", type=Path, nargs="*", default=[])
    parser.add_argument("--each", type=int, default=5, help="sentences of every accented speaker")
    parser.add_argument(
        "--changed", type=int, default=1, help="test sentences of every accented speaker whose channel is changed"
    )
    parser.add_argument("--jobs", type=int, default=1)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    accented = accented_recordings(given.accented, given.each)
    native = [r for path in given.native for r in table_recordings(path, NATIVE)]
    engines = [r for path in given.engine for r in table_recordings(path, ENGINE)]
    wanted = plan(accented, native, engines, given.changed)
    # Filters are made of training speakers alone.
    spectra = {
        group: group_spectrum([r for r in some if not r.test][:: max(1, len(some) // SPECTRUM_RECORDINGS)])
        for group, some in ((ACCENTED, accented), (NATIVE, native))
    }
    study = Study(listen(given.out / "tokens.jsonl", wanted, spectra, given.jobs))
    study.classifier.save(given.out / "classifier.json")
    scores = study.scores()
    text = "\n".join(markdown(scores))
    save(given.out, "scores", scores, text)
    print(text)


if __name__ == "__main__":
    main()
