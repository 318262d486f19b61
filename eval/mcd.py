"""Mel-cepstral distortion: how far the spectra of a recording are from those of its reference, timing aside."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flowtts.types import Item, Score

from .bootstrap import mean_interval
from .judging import Progress, no_progress, score
from .world import Pair, World, compare

DECIBEL = 10 * math.sqrt(2) / math.log(10)


@dataclass(eq=False)
class MelCepstralDistortion:
    """Mean over aligned frames of speech of 10 sqrt(2) / ln 10 |c - c'|, in dB (Kubichek 1993); 0 is identical.

    Values depend on the order of the cepstra, on their frequency scale and on whether c0 counts, which ``world`` says:
    ``OWN`` leaves level out; ``VERSA`` is for comparison with values of that toolkit.

    Attributes:
        world: analysis and alignment, shared with the errors of pitch.
        progress: called per item.
    """

    world: World
    progress: Progress = no_progress
    name: str = "mcd"
    higher_is_better: bool = False

    def __call__(self, items: Sequence[Item]) -> Score:
        """Judge all items together; those without a reference or sound are dropped."""
        values, dropped = compare(self.world, items, self._distortion, self.name, self.progress)
        return score(mean_interval(list(values.values())), values, dropped, self.world.backend)

    def _distortion(self, pair: Pair) -> float:
        first = self.world.settings.first
        made, reference = (frames.cepstra[:, first:] for frames in pair)
        return DECIBEL * float(np.linalg.norm(made - reference, axis=1).mean())
