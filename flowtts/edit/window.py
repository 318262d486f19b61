"""A part of a recording that an edit works on: read, brought to the model's level and rate, aligned with its words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from flowtts.alignment.base import Alignment, check_match
from flowtts.alignment.choose import english_aligner
from flowtts.audio.active import to_level
from flowtts.edit.recording import Recording
from flowtts.edit.wording import part
from flowtts.features import extractor
from flowtts.text import Analysis
from flowtts.types import Audio, FeatureSpec, UserError, Utterance, Word

WHOLE = 30.0
"""Seconds: a recording up to this length is one window."""

USUAL = 0.5
"""Least confidence that the words are said in the window: as likely as not."""

_JUDGED = 0.8
"""Seconds of clear words, the least by which a transcript can be judged."""

SHORTEST = 0.1
"""Seconds: nothing can be said in less."""


@dataclass(frozen=True, eq=False)
class Window:
    """A window.

    Attributes:
        recording: what it is a part of.
        start: its first sample there.
        end: one past its last.
        first: first of its words in the whole transcript.
        analysis: of its words alone.
        words: with times in seconds from the window's beginning, and confidences.
        durations: frames of each phone of the analysis.
        audio: mono, at the model's rate and level.
        gain: what brought it to that level.
        features: (T, C) of ``audio``.
        spec: of the features.
    """

    recording: Recording
    start: int
    end: int
    first: int
    analysis: Analysis
    words: tuple[Word, ...]
    durations: tuple[int, ...]
    audio: Audio
    gain: float
    features: Tensor
    spec: FeatureSpec

    @property
    def frames(self) -> int:
        """T."""
        return len(self.features)

    @property
    def offset(self) -> float:
        """Seconds of the recording before it."""
        return self.start / self.recording.sample_rate

    def seconds(self, frame: int) -> float:
        """Where a boundary between frames lies in the recording; the last one is the window's end."""
        if frame >= self.frames:
            return self.end / self.recording.sample_rate
        return self.offset + frame / self.spec.frame_rate

    def prompt(self, longest: float, *, end: bool = False) -> Utterance:
        """The first (or last) seconds as an utterance, cut between words."""
        lengths = torch.tensor(self.durations)
        edges = torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)])
        limit = int(longest * self.spec.frame_rate)
        pauses = [i for i, phone in enumerate(self.analysis.phones) if phone.word < 0]
        total = int(edges[-1])
        if end:
            first = next((i for i in pauses[:-1] if total - int(edges[i]) <= limit), pauses[-2])
            last = len(lengths)
        else:
            first = 0
            last = 1 + next((i for i in reversed(pauses[1:]) if int(edges[i + 1]) <= limit), pauses[1])
        heard = self.features[int(edges[first]) : int(edges[last])]
        return Utterance(tuple(self.analysis.phones[first:last]), lengths[first:last], heard)


def open_window(
    recording: Recording, analysis: Analysis, spec: FeatureSpec, confidence: float | None = None,
    where: tuple[int, int, int, int] | None = None, unheard: Sequence[tuple[float, float]] = (),
) -> Window:  # fmt: skip
    """Read and align a window.

    Args:
        recording: any.
        analysis: of the whole transcript.
        spec: the model's features.
        confidence: the least with which its words must be recognised in it; None for the usual.
        where: (first sample, one past the last, first word, one past the last); the whole recording by default.
        unheard: seconds of the recording in which noise covers what is said: words there are not judged.

    Raises:
        UserError: the window is silent, or the words are not said in it.
    """
    start, end, first, last = where or (0, recording.length, 0, len(analysis.words))
    words = part(analysis, first, last)
    if end - start < SHORTEST * recording.sample_rate:
        raise UserError(f"{recording.name} lasts {recording.seconds:.2f} s: give at least {SHORTEST:g} s of speech")
    audio, gain = to_level(recording.mono(start, end, spec.sample_rate))
    if not audio.samples.any():
        raise UserError(f"{recording.name} is silent: give a recording of speech")
    alignment = english_aligner().align(audio, words)
    offset = start / recording.sample_rate
    shifted = tuple(replace(w, start=w.start + offset, end=w.end + offset) for w in alignment.words)
    # Words are named by their time in the recording, not in the window.
    least = USUAL if confidence is None else confidence
    advice = "; if they are, lower the confidence that is asked for (--confidence 0)"
    check_match(heard(replace(alignment, words=shifted), unheard), confidence=least, unless=advice)
    features = extractor(spec)(torch.from_numpy(audio.samples)[None])[0]
    durations = tuple(int(d) for d in alignment.durations(spec.frame_rate, len(features)))
    return Window(recording, start, end, first, words, alignment.words, durations, audio, gain, features, spec)


def heard(alignment: Alignment, unheard: Sequence[tuple[float, float]]) -> Alignment:
    """What can be judged of an alignment: the words outside of noise, and nothing if these are too few to tell."""
    clear = [
        i for i, word in enumerate(alignment.words)
        if not any(word.start < end and word.end > start for start, end in unheard)
    ]  # fmt: skip
    if not alignment.deficits or len(clear) == len(alignment.words):
        return alignment
    if sum(alignment.words[i].end - alignment.words[i].start for i in clear) < _JUDGED:
        # Noise hides nearly everything: the user's word has to do.
        return replace(alignment, deficits=())
    deficits = tuple(alignment.deficits[i] for i in clear)
    return replace(alignment, words=tuple(alignment.words[i] for i in clear), deficits=deficits)
