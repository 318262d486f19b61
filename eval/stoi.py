"""Short-time objective intelligibility: how much of a reference's speech is left in what was made of it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np

from flowtts.compat import require
from flowtts.types import Item, Samples, Score

from .bootstrap import mean_interval
from .judging import JUDGED_RATE, Progress, UnjudgeableError, no_progress, score
from .sisdr import judge_pairs

RATE = 10_000
"""Hz at which STOI is defined; pystoi resamples to it as the published Matlab code does."""
SHORTEST = 0.4
"""Seconds that hold the 30 frames of 256 samples, 128 apart, over which STOI correlates."""


@dataclass(eq=False)
class Stoi:
    """STOI (Taal et al. 2011) or ESTOI (Jensen and Taal 2016) by pystoi against a reference of the same timing.

    Both are mean correlations of bands over 0.4 s: 1 is a perfect copy, 0 is unrelated. Two readings of one text
    have different timing, so that synthesis from text cannot be judged by it.

    Attributes:
        progress: called per item.
        extended: ESTOI, which also hears noise that comes and goes.
    """

    progress: Progress = no_progress
    extended: bool = False
    higher_is_better: bool = True

    def __post_init__(self) -> None:
        self.name = "estoi" if self.extended else "stoi"
        require("pystoi", "compare")

    def __call__(self, items: Sequence[Item]) -> Score:
        """Judge all items together; those it cannot judge are dropped with the reason."""
        values, dropped = judge_pairs(items, self._judge, self.name, self.progress)
        backend = f"pystoi {version('pystoi')} ({self.name.upper()})"
        return score(mean_interval(list(values.values())), values, dropped, backend, RATE)

    def _judge(self, made: Samples, reference: Samples) -> float:
        if len(made) < SHORTEST * JUDGED_RATE:
            raise UnjudgeableError(f"{self.name.upper()} judges at least {SHORTEST} s of speech")
        with warnings.catch_warnings(), _same_noise():
            # It warns of too little speech and returns 1e-5, which is no score.
            warnings.filterwarnings("error", "Not enough STFT frames", RuntimeWarning)
            try:
                return float(require("pystoi", "compare").stoi(reference, made, JUDGED_RATE, extended=self.extended))
            except RuntimeWarning as warning:
                reason = f"{self.name.upper()} judges at least {SHORTEST} s of speech; the reference has less"
                raise UnjudgeableError(reason) from warning


@contextmanager
def _same_noise() -> Iterator[None]:
    """Fixes the noise that pystoi adds against division by zero, and leaves numpy's global generator as it was."""
    state = np.random.get_state()
    np.random.seed(0)
    try:
        yield
    finally:
        np.random.set_state(state)
