"""Which words of a long text a recogniser heard: what was heard, put onto the text by local alignment."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from flowtts.recognise import spoken_words
from flowtts.text import FrontEnd, TextWord

_COMMON = 0.3
"""What a match of the most frequent word counts; a word that occurs once counts 1."""

_MISMATCH = 0.5
_GAP = 0.4
_RIVAL = 0.9
"""Places whose score reaches this share of the best are told apart by where the words were expected."""

_LEAST = 5
_HEARD_SHARE = 0.4
_TEXT_SHARE = 0.6
_MISHEARD = 3
"""Words at the edges of what was heard that may be recognised wrongly; more than that were not from the text."""


@dataclass(frozen=True)
class Match:
    """Words [first, last) of the text, and the share of what was heard that agrees with them."""

    first: int
    last: int
    agreement: float


@dataclass(frozen=True, eq=False)
class Transcript:
    """The words of a text as a recogniser spells them. A word may be several tokens ("twenty-four") or none.

    Attributes:
        words: of the analysed text.
        tokens: recogniser words in order.
        owners: (tokens,) index of the word of each.
        weights: (words + 1,) phones said before each word: how much of the text lies there.
    """

    words: Sequence[TextWord]
    tokens: tuple[str, ...]
    owners: NDArray[np.int64]
    weights: NDArray[np.float64]
    _ids: dict[str, int] = field(repr=False)
    _coded: NDArray[np.int64] = field(repr=False)
    _rarity: NDArray[np.float64] = field(repr=False)

    @classmethod
    def of(cls, words: Sequence[TextWord]) -> Transcript:
        """Prepare the words of an analysis."""
        spelled = [(index, token) for index, word in enumerate(words) for token in spoken_words(word.text.lower())]
        tokens = tuple(token for _, token in spelled)
        counts = Counter(tokens)
        ids = {token: i for i, token in enumerate(counts)}
        scale = math.log(max(len(tokens), 2))
        rarity = [_COMMON + (1 - _COMMON) * math.log(len(tokens) / n) / scale for n in counts.values()]
        return cls(
            words,
            tokens,
            np.array([index for index, _ in spelled], dtype=np.int64),
            np.array(list(accumulate((len(word.phones) for word in words), initial=0)), dtype=np.float64),
            ids,
            np.array([ids[token] for token in tokens], dtype=np.int64),
            np.array(rarity, dtype=np.float64),
        )

    def pronounce(self, token: str) -> Sequence[str]:
        """Phones of a token: those of its word where that is one token."""
        for place in np.flatnonzero(self._coded == self._ids.get(token, -1)):
            owner = int(self.owners[place])
            if len(spoken_words(self.words[owner].text.lower())) == 1:
                return self.words[owner].phones
        return [phone for word in FrontEnd().analyse(token).words for phone in word.phones]

    def match(self, heard: Sequence[str], first: int, last: int, expected: float) -> Match | None:
        """Where in words [first, last) of the text something heard belongs.

        Smith and Waterman's local alignment with rare words weighing more. Of places that fit almost equally well,
        which sentences that repeat have, the one nearest to the expectation is taken.

        Args:
            heard: tokens.
            first: where to look.
            last: one past that.
            expected: word expected in the middle of what was heard.

        Returns:
            None if too little agrees to be more than chance.
        """
        lo, hi = np.searchsorted(self.owners, (first, last))
        near = float(np.searchsorted(self.owners, expected)) - lo
        said = np.array([self._ids.get(token, -1) for token in heard], dtype=np.int64)
        pairs = _local(said, self._coded[lo:hi], self._rarity, near) if len(said) and hi > lo else []
        if len(pairs) < max(min(_LEAST, len(self.tokens)), _HEARD_SHARE * len(heard)):
            return None
        (i, start), (j, end) = pairs[0], pairs[-1]
        if len(pairs) < _TEXT_SHARE * (end - start + 1):
            return None
        # Words misheard at the edges are there all the same, about as many as were heard.
        start -= i if i <= _MISHEARD else 0
        end += len(heard) - 1 - j if len(heard) - 1 - j <= _MISHEARD else 0
        start, end = max(0, start + int(lo)), min(len(self.tokens) - 1, end + int(lo))
        return Match(int(self.owners[start]), int(self.owners[end]) + 1, len(pairs) / len(heard))


def _local(
    said: NDArray[np.int64], text: NDArray[np.int64], rarity: NDArray[np.float64], near: float
) -> list[tuple[int, int]]:
    """Pairs (index in ``said``, index in ``text``) of equal tokens in the best local alignment."""
    scores = np.zeros((len(said) + 1, len(text) + 1))
    slope = np.arange(len(text)) * _GAP
    for i, token in enumerate(said, start=1):
        gain = np.where(text == token, rarity[token] if token >= 0 else 0.0, -_MISMATCH)
        best = np.maximum(np.maximum(scores[i - 1, :-1] + gain, scores[i - 1, 1:] - _GAP), 0.0)
        # Words of the text that were not heard: a running maximum once their price is added.
        scores[i, 1:] = np.maximum.accumulate(best + slope) - slope
    peaks = scores.max(axis=0)
    if peaks.max() <= 0:
        return []
    good = np.flatnonzero(peaks >= _RIVAL * peaks.max())
    nearest = int(good[np.abs(good - len(said) / 2 - near).argmin()])
    # Around the nearest good column the end of that same alignment.
    left = max(0, nearest - len(said))
    j = left + int(peaks[left : nearest + len(said) + 1].argmax())
    i = int(scores[:, j].argmax())
    pairs: list[tuple[int, int]] = []
    while i and j and scores[i, j] > 0:
        here = scores[i, j]
        equal = text[j - 1] == said[i - 1]
        step = float(rarity[said[i - 1]]) if equal else -_MISMATCH
        if math.isclose(here, scores[i - 1, j - 1] + step, abs_tol=1e-9):
            if equal:
                pairs.append((i - 1, j - 1))
            i, j = i - 1, j - 1
        elif math.isclose(here, scores[i - 1, j] - _GAP, abs_tol=1e-9):
            i -= 1
        else:
            j -= 1
    return pairs[::-1]
