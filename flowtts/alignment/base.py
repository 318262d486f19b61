"""The shape of a forced alignment, and whether it says that text and recording belong together."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from torch import Tensor

from flowtts.types import Audio, UserError, Word

if TYPE_CHECKING:
    from flowtts.text import Analysis

SILENCE = "SIL"
_CLOSE = 1e-6


@dataclass(frozen=True)
class PhoneTime:
    """One phone of the analysis with its time.

    Attributes:
        symbol: as in ``Analysis.phones``, e.g. "AH0_B", "SIL,".
        word: index of its word, -1 for a pause.
        start: seconds.
        end: seconds; equal to ``start`` for a pause that is not there (a ghost silence).
        confidence: 0 to 1, or None where nothing measured it.
    """

    symbol: str
    word: int
    start: float
    end: float
    confidence: float | None = None


@dataclass(frozen=True)
class Alignment:
    """Times of all phones and words of an utterance.

    Attributes:
        words: the words in order, with confidences where the aligner measures them.
        phones: one for every phone of the analysis, in its order, each starting where the one before ends;
            the first starts at 0 and the last ends with the recording.
        deficits: mean log-likelihood per frame that each word loses against the best the acoustic model can
            do without the text, in nats (0 is perfect); empty where the aligner does not measure it.
        limit: mean deficit over an utterance at which, for this aligner, right and wrong texts are equally likely.
        slope: how fast the logarithm of those odds falls, per nat.
        contrast: how much more than the rest a stretch of 0.8 s may lose, nats per frame; a sign that only these words
            are wrong.
    """

    words: tuple[Word, ...]
    phones: tuple[PhoneTime, ...]
    deficits: tuple[float, ...] = ()
    limit: float = float("inf")
    slope: float = 1.0
    contrast: float = float("inf")

    def __post_init__(self) -> None:
        if not self.phones:
            raise ValueError("an alignment needs phones")
        if abs(self.phones[0].start) > _CLOSE:
            raise ValueError("the first phone must start at 0")
        if any(abs(a.end - b.start) > _CLOSE for a, b in pairwise(self.phones)):
            raise ValueError("every phone must start where the one before ends")
        if any(p.end < p.start - _CLOSE for p in self.phones):
            raise ValueError("a phone ends before it starts")
        if self.deficits and len(self.deficits) != len(self.words):
            raise ValueError("deficits needs one number per word")

    @property
    def seconds(self) -> float:
        """Length of the recording."""
        return self.phones[-1].end

    @property
    def deficit(self) -> float | None:
        """Mean deficit per frame of speech over the utterance, nats; None where it was not measured."""
        if not self.deficits:
            return None
        return _mean_deficit(self.words, self.deficits)

    @property
    def confidence(self) -> float | None:
        """Probability that the whole text was said, the lower of two judgements; None where nothing was measured.

        One judges the mean deficit, 0.5 at ``limit``. The other looks for a few wrong words in an otherwise right text:
        the worst stretch must lose more than ``limit`` and ``contrast`` more than the rest.
        """
        deficit = self.deficit
        if deficit is None:
            return None
        excess = deficit - self.limit
        first, last = worst_stretch(self.words, self.deficits)
        others = [i for i in range(len(self.words)) if not first <= i <= last]
        if others and math.isfinite(self.contrast):
            worst = _mean_deficit(self.words[first : last + 1], self.deficits[first : last + 1])
            rest = _mean_deficit([self.words[i] for i in others], [self.deficits[i] for i in others])
            excess = max(excess, min(worst - self.limit, worst - rest - self.contrast))
        return logistic(excess, 0.0, self.slope)

    def durations(self, frame_rate: float, frames: int) -> Tensor:
        """Frames of each phone, (L,) int64, summing exactly to ``frames``.

        A boundary goes to the nearest frame. Phones other than pauses get at least one frame as long as there
        are enough frames for it; pauses may get none (the ghost silences of arXiv 2306.15687, section 5).

        Args:
            frame_rate: frames per second.
            frames: frames of the recording's features.
        """
        ends = [min(frames, max(0, round(p.end * frame_rate))) for p in self.phones]
        ends[-1] = frames
        least = [0 if p.symbol.startswith(SILENCE) else 1 for p in self.phones]
        if sum(least) > frames:
            least = [0] * len(least)
        previous = 0
        for i, need in enumerate(least):
            ends[i] = previous = max(ends[i], previous + need)
        following = frames
        for i in reversed(range(len(ends))):
            ends[i] = following = min(ends[i], following)
            following -= least[i]
        return torch.diff(torch.tensor([0, *ends], dtype=torch.int64))


@runtime_checkable
class Aligner(Protocol):
    """Finds when the phones of a known text sound in a recording."""

    @property
    def name(self) -> str:
        """For reports; tells aligners that align differently apart."""
        ...

    def align(self, audio: Audio, analysis: Analysis) -> Alignment:
        """Align.

        Raises:
            UserError: the text cannot be said in the time, or has phones that the aligner does not know.
        """
        ...


def check_match(alignment: Alignment, *, confidence: float = 0.5, unless: str = "") -> None:
    """Refuse a transcript that was not said in the recording.

    Judges by ``Alignment.confidence``. Aligners that measure none pass.

    Args:
        alignment: what an aligner returned.
        confidence: the least that is accepted, 0 to 1.
        unless: ends the message: what else the user can do.

    Raises:
        UserError: the text does not fit; names the words that fit worst.
    """
    measured = alignment.confidence
    if measured is None or measured >= confidence:
        return
    first, _ = worst_stretch(alignment.words, alignment.deficits)
    word = alignment.words[first]
    raise UserError(
        f"the transcript does not fit the recording: it departs most around word '{word.text}' at {word.start:.1f} s; "
        f"give the words that are said there{unless}"
    )


def worst_stretch(words: Sequence[Word], deficits: Sequence[float], seconds: float = 0.8) -> tuple[int, int]:
    """First and last index of the stretch of words with the greatest mean deficit.

    Each stretch is as short as possible but at least ``seconds`` long: single words are too short to judge.
    """
    best = (-float("inf"), 0, len(words) - 1)
    last = 0
    for first in range(len(words)):
        last = max(last, first)
        while last + 1 < len(words) and words[last].end - words[first].start < seconds:
            last += 1
        if first and words[last].end - words[first].start < seconds:
            break
        mean = _mean_deficit(words[first : last + 1], deficits[first : last + 1])
        best = max(best, (mean, first, last))
    return best[1], best[2]


def gather_words(
    analysis: Analysis,
    phones: Sequence[PhoneTime],
    deficits: Sequence[float] | None = None,
    judge: Callable[[float], float] | None = None,
) -> tuple[tuple[Word, ...], tuple[float, ...]]:
    """Words with times, and their mean deficits, from timed phones.

    Args:
        analysis: of the text.
        phones: one for each of its phones.
        deficits: one for each of its phones; those of pauses do not count.
        judge: a word's deficit to its confidence.
    """
    places: dict[int, list[int]] = {}
    for i, phone in enumerate(phones):
        if phone.word >= 0:
            places.setdefault(phone.word, []).append(i)
    words, losses = [], []
    for index, word in enumerate(analysis.words):
        own = places[index]
        start, end = phones[own[0]].start, phones[own[-1]].end
        if deficits is None or judge is None:
            words.append(Word(word.text, start, end))
            continue
        lengths = [max(phones[i].end - phones[i].start, _CLOSE) for i in own]
        loss = sum(n * deficits[i] for n, i in zip(lengths, own, strict=True)) / sum(lengths)
        words.append(Word(word.text, start, end, judge(loss)))
        losses.append(loss)
    return tuple(words), tuple(losses)


def logistic(deficit: float, limit: float, slope: float) -> float:
    """1 / (1 + exp(slope (deficit - limit)))."""
    return 1 / (1 + math.exp(max(-50.0, min(50.0, slope * (deficit - limit)))))


def _mean_deficit(words: Sequence[Word], deficits: Sequence[float]) -> float:
    lengths = [max(w.end - w.start, _CLOSE) for w in words]
    return sum(n * d for n, d in zip(lengths, deficits, strict=True)) / sum(lengths)
