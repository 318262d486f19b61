"""What decides between takes: metrics that listen, or CLVP, which knows what is to be said (arXiv 2305.07243)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Protocol

from flowtts.registry import load_judge, load_metric
from flowtts.request import CLVP, RANKERS
from flowtts.text import Analysis
from flowtts.types import Audio, Item, Metric, UserError


class Judge(Protocol):
    """Hears sound and knows the text."""

    hash: str

    def __call__(self, audio: Audio, analyses: Sequence[Analysis]) -> float:
        """How well mono sound fits the parts of a text said in a row; more is better."""
        ...


@lru_cache(maxsize=1)
def shipped_judge() -> Judge:
    """The one that everything shares.

    Raises:
        UserError: it is not installed.
    """
    made: Judge = load_judge(CLVP)
    return made


class Ranker:
    """Scores takes of one text and chooses one.

    Args:
        name: one of ``RANKERS``, or ``CLVP``.
        voice: the recording whose voice they should have, or None if there is none.

    Raises:
        UserError: it cannot judge.
    """

    def __init__(self, name: str, voice: Audio | None) -> None:
        if name == "sim" and voice is None:
            raise UserError("the ranker sim compares with a recording and this voice has none: take wer or clvp")
        self.name, self._voice = name, voice
        self._judge: Judge | None = shipped_judge() if name == CLVP else None
        self._metric: Metric | None = None if name == CLVP else load_metric(RANKERS[name])

    def __call__(self, audio: Audio, analyses: Sequence[Analysis]) -> dict[str, float]:
        """The score of sound that should say the parts of a text in a row, by the ranker's name."""
        if self._judge is not None:
            return {self.name: self._judge(audio, analyses)}
        assert self._metric is not None
        text = " ".join(analysis.normalised for analysis in analyses)
        return {self.name: self._metric([Item(audio, text, prompt=self._voice, id="take")]).value}

    def best(self, scores: Sequence[Mapping[str, float]]) -> int:
        """The number of the best, the first of equals."""
        sign = 1 if self._metric is None or self._metric.higher_is_better else -1
        return max(range(len(scores)), key=lambda i: sign * scores[i][self.name])
