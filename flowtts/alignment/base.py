"""The shape of a forced alignment, and whether it says that text and recording belong together."""

from __future__ import annotations

from collections.abc import Sequence
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
        limit: mean deficit over an utterance above which the text does not fit, for this aligner.
    """

    words: tuple[Word, ...]
    phones: tuple[PhoneTime, ...]
    deficits: tuple[float, ...] = ()
    limit: float = float("inf")

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

    name: str

    def align(self, audio: Audio, analysis: Analysis) -> Alignment:
        """Align.

        Raises:
            UserError: the text cannot be said in the time, or has phones that the aligner does not know.
        """
        ...


def check_match(alignment: Alignment, *, limit: float | None = None) -> None:
    """Refuse a transcript that was not said in the recording.

    The test compares the mean deficit per frame of the whole utterance with a limit. Aligners that measure no deficit pass.

    Args:
        alignment: what an aligner returned.
        limit: overrides the aligner's own limit, nats per frame.

    Raises:
        UserError: the text does not fit; names the words that fit worst.
    """
    limit = alignment.limit if limit is None else limit
    deficit = alignment.deficit
    if deficit is None or deficit <= limit:
        return
    first, last = worst_stretch(alignment.words, alignment.deficits)
    word = alignment.words[first]
    raise UserError(
        f"the transcript does not fit the recording: it departs most around word '{word.text}' at {word.start:.1f} s; "
        "give the words that are said there"
    )


def worst_stretch(words: Sequence[Word], deficits: Sequence[float], seconds: float = 1.0) -> tuple[int, int]:
    """First and last index of the stretch of words, about ``seconds`` long, with the greatest mean deficit."""
    best = (-float("inf"), 0, 0)
    last = 0
    for first in range(len(words)):
        last = max(last, first)
        while last + 1 < len(words) and words[last].end - words[first].start < seconds:
            last += 1
        mean = _mean_deficit(words[first : last + 1], deficits[first : last + 1])
        best = max(best, (mean, first, last))
    return best[1], best[2]


def _mean_deficit(words: Sequence[Word], deficits: Sequence[float]) -> float:
    lengths = [max(w.end - w.start, _CLOSE) for w in words]
    return sum(n * d for n, d in zip(lengths, deficits, strict=True)) / sum(lengths)
