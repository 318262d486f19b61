"""How long phones last in a recording and in a reference of the same text, both found by forced alignment.

The measures are Voicebox's (``durations.py``; arXiv 2306.15687, section 5.1), but of what was spoken and not of what a
duration model predicts, so that systems without one are judged too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from flowtts.alignment import Alignment, check_match
from flowtts.alignment.choose import english_aligner
from flowtts.text import FrontEnd
from flowtts.types import Audio, Item, Score, UserError

from .bootstrap import LEVEL, NOTHING, RESAMPLES, Interval, ratio_interval
from .durations import fdd, ms_corr, ms_mae
from .judging import Progress, UnjudgeableError, item_names, no_progress, score

FRAME_RATE = 100.0
"""Frames of 10 ms, which are Voicebox's and the aligner's."""

Pair = tuple[Tensor, Tensor]
"""Frames of each phone of a text, pauses left out: (L,) in what was made and (L,) in the reference."""


class PhoneTimes:
    """Durations of phones, kept as long as the recordings live, so that the metrics share one alignment."""

    def __init__(self, progress: Progress = no_progress) -> None:
        self._progress = progress
        self._known: WeakKeyDictionary[Audio, tuple[str, Alignment]] = WeakKeyDictionary()

    @property
    def backend(self) -> str:
        """The aligner."""
        return f"pocketsphinx {version('pocketsphinx')} (forced alignment, frames of 10 ms)"

    def of(self, items: Sequence[Item], name: str) -> tuple[dict[str, Pair], dict[str, str]]:
        """Durations by item, and the reasons why others have none.

        A recording that says something else is aligned all the same, which shows in its durations: read them beside
        the word error rate. A reference that does is no reference, and its item is dropped.
        """
        front_end = FrontEnd()
        found: dict[str, Pair] = {}
        dropped: dict[str, str] = {}
        for done, (key, item) in enumerate(zip(item_names(items), items, strict=True)):
            self._progress(name, done, len(items))
            try:
                if item.reference is None:
                    raise UnjudgeableError("it has no reference")
                reference = self._durations(front_end, item.reference, item.text, reference=True)
                found[key] = self._durations(front_end, item.audio, item.text, reference=False), reference
            except UnjudgeableError as error:
                dropped[key] = str(error)
        self._progress(name, len(items), len(items))
        return found, dropped

    def _durations(self, front_end: FrontEnd, audio: Audio, text: str, reference: bool) -> Tensor:
        try:
            if audio not in self._known or self._known[audio][0] != text:
                self._known[audio] = text, english_aligner().align(audio.mono(), front_end.analyse(text))
            alignment = self._known[audio][1]
            if reference:
                check_match(alignment)
        except UserError as error:
            raise UnjudgeableError(f"{'the reference' if reference else 'it'} cannot be aligned: {error}") from error
        frames = alignment.durations(FRAME_RATE, round(audio.seconds * FRAME_RATE))
        return frames[torch.tensor([phone.word >= 0 for phone in alignment.phones])]


@dataclass(eq=False)
class DurationError:
    """``duration-mae``: mean absolute difference of phones' durations, in frames of 10 ms (MS-MAE).

    The mean is over all phones of the set; an item counts for its phones.

    Attributes:
        times: durations, shared with ``DurationSpread``.
    """

    times: PhoneTimes
    name: str = "duration-mae"
    higher_is_better: bool = False

    def __call__(self, items: Sequence[Item]) -> Score:
        """Judge all items together; those without a reference, or that cannot be aligned, are dropped."""
        pairs, dropped = self.times.of(items, self.name)
        errors = {key: _error(*pair) for key, pair in pairs.items()}
        phones = {key: float(len(made)) for key, (made, _) in pairs.items()}
        interval = ratio_interval([errors[key] * phones[key] for key in errors], list(phones.values()))
        return score(interval, errors, dropped, self.times.backend, weights=phones)


@dataclass(eq=False)
class DurationSpread:
    """One of ``MEASURES`` of a whole set.

    * ``duration-corr``: correlation over recordings of the mean duration of their phones with that in the reference
      (MS-Corr): whether the speaking rate follows, in [-1, 1].
    * ``fdd``: Frechet distance of the durations of all phones, frames squared: whether they vary as in the references.

    Attributes:
        name: which.
        times: durations, shared with ``DurationError``.
        seed: of the interval.
    """

    name: str
    times: PhoneTimes
    seed: int = 0

    def __post_init__(self) -> None:
        self.higher_is_better = self.name == "duration-corr"

    def __call__(self, items: Sequence[Item]) -> Score:
        """Judge all items together; the score has no values by item."""
        pairs, dropped = self.times.of(items, self.name)
        measure, limits = MEASURES[self.name]
        try:
            value = measure(list(pairs.values()))
        except ValueError as error:
            dropped |= {key: f"nothing can be said of the set: {error}" for key in pairs}
            return score(NOTHING, {}, dropped, self.times.backend)
        low, high = np.clip(_edges(value, list(pairs.values()), measure, self.seed), *limits)
        interval = Interval(value, float(low), float(high))
        return replace(score(interval, {}, dropped, self.times.backend), count=len(pairs))


def correlation(pairs: Sequence[Pair]) -> float:
    """MS-Corr with the reference as the context that what was made should follow.

    Raises:
        ValueError: there are fewer than two different recordings, or all are as fast.
    """
    if len({id(made) for made, _ in pairs}) < 2:
        raise ValueError("a correlation needs two recordings")
    rows = [torch.cat(pair) for pair in pairs]
    made = [torch.arange(len(row)) < len(pair[0]) for row, pair in zip(rows, pairs, strict=True)]
    durations, masked = pad_sequence(rows, batch_first=True), pad_sequence(made, batch_first=True)
    real = torch.arange(durations.shape[1]) < torch.tensor([len(row) for row in rows])[:, None]
    return float(ms_corr(durations, durations, masked, real))


def spread(pairs: Sequence[Pair]) -> float:
    """FDD of all phones.

    Raises:
        ValueError: there is no recording.
    """
    if not pairs:
        raise ValueError("FDD needs a recording")
    return float(fdd(torch.cat([made for made, _ in pairs]), torch.cat([reference for _, reference in pairs])))


Measure = Callable[[Sequence[Pair]], float]

MEASURES: Mapping[str, tuple[Measure, tuple[float, float]]] = {
    "duration-corr": (correlation, (-1.0, 1.0)),
    "fdd": (spread, (0.0, math.inf)),
}
"""How, and the least and greatest that it can be."""


def _error(made: Tensor, reference: Tensor) -> float:
    return float(ms_mae(made[None], reference[None], torch.ones(1, len(made), dtype=torch.bool)))


def _edges(value: float, pairs: Sequence[Pair], measure: Measure, seed: int) -> NDArray[np.float64]:
    """The interval's, recordings resampled with their references; draws in which nothing varies say nothing.

    A distance comes out too great in most draws, so that they are moved to lie around the value (as in ``frechet.py``).
    """
    rng = np.random.default_rng(seed)
    drawn: list[float] = []
    for _ in range(RESAMPLES):
        chosen = rng.integers(0, len(pairs), len(pairs))
        with suppress(ValueError):
            drawn.append(measure([pairs[i] for i in chosen]))
    edges: NDArray[np.float64] = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) - np.mean(drawn) + value
    return edges
