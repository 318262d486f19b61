"""How much recordings of a set sound like one another: the diversity of sampled voices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flowtts.types import Item, Score

from .bootstrap import LEVEL, NOTHING, RESAMPLES, Interval
from .judging import Progress, UnjudgeableError, item_names, judged, no_progress, score
from .similarity import SpeakerEncoder


@dataclass(eq=False)
class PairwiseSimilarity:
    """Mean cosine of all pairs of different recordings, in [-1, 1]; lower is more diverse.

    Noise is diverse too: read it beside the word error rate of the same set (``--metrics sim-pairs,wer``).

    Attributes:
        encoder: whose space it is.
        progress: called per item.
    """

    encoder: SpeakerEncoder
    progress: Progress = no_progress
    name: str = "sim-pairs"
    higher_is_better: bool = False

    def __call__(self, items: Sequence[Item]) -> Score:
        """Judge all items together; an item's value is its mean cosine to the others."""
        embed = self.encoder.open()
        voices: dict[str, Tensor] = {}
        dropped: dict[str, str] = {}
        for done, (name, item) in enumerate(zip(item_names(items), items, strict=True)):
            self.progress(self.name, done, len(items))
            try:
                voices[name] = embed(judged(item.audio))
            except UnjudgeableError as error:
                dropped[name] = str(error)
        self.progress(self.name, len(items), len(items))
        if len(voices) < 2:
            missing = {
                name: dropped.get(name, "there is no other recording to compare with") for name in item_names(items)
            }
            return score(NOTHING, {}, missing, self.encoder.backend)
        vectors = torch.stack(list(voices.values())).double()
        cosines = (vectors @ vectors.T).numpy()
        others = (cosines.sum(1) - np.diag(cosines)) / (len(cosines) - 1)
        values = dict(zip(voices, others.tolist(), strict=True))
        return score(pairs_interval(cosines), values, dropped, self.encoder.backend)


def pairs_interval(cosines: NDArray[np.float64], seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """The mean over pairs and its interval, recordings resampled; a recording is never paired with itself.

    Args:
        cosines: (N, N), symmetric, N at least 2.
        seed: of the resampling.
        resamples: bootstrap samples.
    """
    off = cosines - np.diag(np.diag(cosines))
    count = len(cosines)
    rng = np.random.default_rng(seed)
    times = np.stack([np.bincount(rng.integers(0, count, count), minlength=count) for _ in range(resamples)])
    pairs = (times.sum(1) ** 2 - np.square(times).sum(1)).astype(np.float64)
    sums = np.einsum("ri,ij,rj->r", times, off, times, optimize=True)
    drawn = sums[pairs > 0] / pairs[pairs > 0]
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) if len(drawn) else (np.nan, np.nan)
    return Interval(float(off.sum() / (count * (count - 1))), float(low), float(high))
