"""Listening to stretches of a long recording: which words of its text they hold, when, and where it is quiet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from flowtts.alignment.base import Aligner
from flowtts.edit.anchors import Transcript
from flowtts.edit.recording import Recording
from flowtts.text.analysis import Analysis, assemble
from flowtts.types import Audio, Samples, UserError, Word

SAMPLE_RATE = 16_000
"""Hz at which recordings are listened to."""

_HOP = SAMPLE_RATE // 100
_QUIET_FRAMES = 15
"""Frames of 10 ms over which a place to begin or stop listening is quiet."""

_DIP_FRAMES = 3
_LOUD_DB = 20.0
"""Frames less than this below the speech around them are speech."""

_EDGE_WORDS = (3, 10)
_TRUSTED = 0.5
"""Confidence of both words at a gap from which the words there need no further check."""

_ABSORBED = 7.0
"""Nats per frame that speech loses which the text does not have: the deficit at which a word is no longer believed."""


class Listener(Protocol):
    """Writes down what is said; ``flowtts.recognise.PocketsphinxRecogniser`` for one."""

    def transcribe(self, audio: Audio) -> str:
        """Lower-case words separated by spaces."""
        ...


@dataclass(frozen=True)
class Heard:
    """Words [first, last) of the text are said in [start, end) seconds of the recording."""

    start: float
    end: float
    first: int
    last: int


@dataclass(frozen=True)
class Gap:
    """Between two words: the word after it, where the word before ends and the one after starts, the level there.

    Attributes:
        word: index in the text of the word after it.
        start: seconds.
        end: seconds.
        cut: quietest place of it, seconds.
        depth: level there below the median level of the words around, dB.
        trust: the lower confidence of the words beside it; 1 where nothing was measured.
    """

    word: int
    start: float
    end: float
    cut: float
    depth: float
    trust: float


@dataclass(frozen=True)
class Timed:
    """Words [first, first + len(words)) of the text with their times in the recording, and the gaps around them."""

    first: int
    words: tuple[Word, ...]
    gaps: tuple[Gap, ...]


@dataclass(frozen=True, eq=False)
class Ear:
    """Listens to a recording of a text.

    Attributes:
        recording: read only where it is listened to.
        transcript: its text.
        listener: writes down what it hears.
        aligner: times known words.
    """

    recording: Recording
    transcript: Transcript
    listener: Listener
    aligner: Aligner

    def sound(self, start: float, end: float) -> Audio:
        """A stretch in seconds, mono at ``SAMPLE_RATE``."""
        rate = self.recording.sample_rate
        first, last = (min(max(round(t * rate), 0), self.recording.length) for t in (start, end))
        return self.recording.mono(first, last, SAMPLE_RATE)

    def quiet(self, start: float, end: float) -> float:
        """The quietest place in [start, end], which is cut to the recording; its ends need no silence."""
        start, end = max(0.0, start), min(self.recording.seconds, end)
        if start <= 0 or end >= self.recording.seconds:
            return 0.0 if start <= 0 else self.recording.seconds
        levels = _smooth(_power(self.sound(start, end).samples), _QUIET_FRAMES)
        return start + (int(levels.argmin()) + 0.5) * _HOP / SAMPLE_RATE if len(levels) else start

    def hear(self, start: float, end: float, first: int, last: int, expected: float) -> Heard | None:
        """Which words among [first, last) are said in [start, end) seconds; None if that cannot be told."""
        heard = self.listener.transcribe(self.sound(start, end)).split()
        match = self.transcript.match(heard, max(0, first), min(len(self.transcript.words), last), expected)
        return None if match is None else Heard(start, end, match.first, match.last)

    def time(self, heard: Heard) -> Timed:
        """Align the words of a stretch.

        Raises:
            UserError: they cannot be said in it.
        """
        audio = self.sound(heard.start, heard.end)
        alignment = self.aligner.align(audio, self._analysis(heard.first, heard.last))
        power = _power(audio.samples)
        words = [
            Word(w.text, w.start + heard.start, w.end + heard.start, w.confidence) for w in alignment.words
        ]  # fmt: skip
        speech = _speech_level(power, alignment.words)
        smooth = _smooth(power, _DIP_FRAMES)
        gaps = []
        for i in range(len(words) + 1):
            left = words[i - 1].end if i else heard.start
            right = words[i].start if i < len(words) else heard.end
            lo = max(0, int((left - heard.start) * 100) - 2)
            hi = min(len(smooth), max(lo + 1, int((right - heard.start) * 100) + 3))
            place = min(lo, len(smooth) - 1) + int(smooth[min(lo, len(smooth) - 1) : hi].argmin())
            cut = heard.start + (place + 0.5) * _HOP / SAMPLE_RATE
            if right - left > 0.05:
                cut = min(max(cut, left + 0.01), right - 0.01)
            depth = speech - _db(float(smooth[place]))
            trust = min(
                (1.0 if w.confidence is None else w.confidence for w in words[max(0, i - 1) : i + 1]), default=1.0
            )
            gaps.append(Gap(heard.first + i, left, right, float(cut), depth, trust))
        return Timed(heard.first, tuple(words), tuple(gaps))

    def first_word(self, timed: Timed, gap: Gap) -> int:
        """The word that starts after a gap, checked against its neighbours by aligning what follows with each."""
        until = None if gap.trust >= _TRUSTED else self._landmark(timed, gap, 1)
        if until is None:
            return gap.word
        options = [w for w in (gap.word, gap.word - 1, gap.word + 1) if 0 <= w < until.word]
        return self._best([Heard(gap.cut, until.cut, word, until.word) for word in options]).first

    def last_word(self, timed: Timed, gap: Gap) -> int:
        """One past the word that ends before a gap, checked in the same way."""
        since = None if gap.trust >= _TRUSTED else self._landmark(timed, gap, -1)
        if since is None:
            return gap.word
        limit = len(self.transcript.words)
        options = [w for w in (gap.word, gap.word - 1, gap.word + 1) if since.word < w <= limit]
        return self._best([Heard(since.cut, gap.cut, since.word, word) for word in options]).last

    def _landmark(self, timed: Timed, gap: Gap, direction: int) -> Gap | None:
        """The clearest gap a few words on."""
        near, far = _EDGE_WORDS
        some = [g for g in timed.gaps[1:-1] if near <= (g.word - gap.word) * direction <= far]
        return max(some, key=lambda g: (g.end - g.start, g.depth), default=None)

    def _best(self, options: Sequence[Heard]) -> Heard:
        """The option that explains the sound best, the first of equal ones."""
        losses = [self._loss(option) for option in options]
        return options[int(np.argmin(losses))]

    def _loss(self, option: Heard) -> float:
        audio = self.sound(option.start, option.end)
        try:
            alignment = self.aligner.align(audio, self._analysis(option.first, option.last))
        except UserError:
            return float("inf")
        if not alignment.deficits:
            return 0.0
        power = _power(audio.samples)
        loud = _speech_level(power, alignment.words) - _LOUD_DB
        free = np.ones(len(power), dtype=np.bool_)
        loss = 0.0
        for word, deficit in zip(alignment.words, alignment.deficits, strict=True):
            loss += deficit * (word.end - word.start) * 100
            free[int(word.start * 100) : int(word.end * 100) + 1] = False
        # Pauses swallow speech that the text lacks, and no aligner counts what that loses.
        return loss + _ABSORBED * float((free & (10 * np.log10(power + 1e-12) > loud)).sum())

    def _analysis(self, first: int, last: int) -> Analysis:
        words = tuple(self.transcript.words[first:last])
        return assemble("", "", words, ("SIL",) * len(words))


def _power(samples: Samples) -> NDArray[np.float64]:
    """Mean power of each whole frame of 10 ms."""
    count = len(samples) // _HOP
    power: NDArray[np.float64] = np.square(samples[: count * _HOP].reshape(count, _HOP), dtype=np.float64).mean(axis=1)
    return power


def _smooth(power: NDArray[np.float64], frames: int) -> NDArray[np.float64]:
    """Moving average of the same length; beyond the ends the last value goes on."""
    if len(power) == 0:
        return power
    padded = np.pad(power, (frames // 2, frames - 1 - frames // 2), mode="edge")
    return np.convolve(padded, np.full(frames, 1 / frames), mode="valid")


def _speech_level(power: NDArray[np.float64], words: Sequence[Word]) -> float:
    """Median level of the frames inside words, dB."""
    inside = [power[int(w.start * 100) : max(int(w.end * 100), int(w.start * 100) + 1)] for w in words]
    return _db(float(np.median(np.concatenate(inside)))) if any(map(len, inside)) else _db(0.0)


def _db(power: float) -> float:
    return 10 * float(np.log10(power + 1e-12))
