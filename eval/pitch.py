"""Errors of pitch and voicing against a recording of the same text, whose frames are aligned as for ``mcd``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from flowtts.types import Item, Score

from .bootstrap import mean_interval
from .judging import Progress, UnjudgeableError, no_progress, score
from .world import Array, Pair, World, compare

FEWEST = 20
"""Aligned frames, 0.1 s, that must be voiced on both sides."""
MONOTONE = 0.1
"""Hz; a pitch whose standard deviation is less does not change."""
CENTS = 1200.0


@dataclass(eq=False)
class PitchError:
    """One of ``MEASURES`` over the aligned frames of speech.

    As in ESPnet, all speech is aligned and pitch compared where both sides are voiced; VERSA aligns voiced
    frames alone, which hides errors of voicing.

    * ``f0-rmse``: root mean square difference, Hz. A given interval is more hertz in a higher voice.
    * ``f0-cents``: the same in cents (1/1200 octave), alike for all voices; ESPnet's log-F0 RMSE times 1731.
    * ``f0-corr``: Pearson's correlation of the pitch in Hz: whether the melody is the same, whatever the voice.
    * ``voicing``: share of frames that are voiced on one side only.

    Attributes:
        name: which.
        world: analysis and alignment, shared with ``mcd``.
        progress: called per item.
    """

    name: str
    world: World
    progress: Progress = no_progress

    def __post_init__(self) -> None:
        self.higher_is_better = self.name == "f0-corr"

    def __call__(self, items: Sequence[Item]) -> Score:
        """Judge all items together; those without a reference, or with no pitch to compare, are dropped."""
        values, dropped = compare(self.world, items, MEASURES[self.name], self.name, self.progress)
        return score(mean_interval(list(values.values())), values, dropped, self.world.backend)


def f0_rmse(pair: Pair) -> float:
    """Hz."""
    made, reference = _voiced(pair)
    return _root_mean_square(made - reference)


def f0_cents(pair: Pair) -> float:
    """Cents."""
    made, reference = _voiced(pair)
    return _root_mean_square(CENTS * np.log2(made / reference))


def f0_correlation(pair: Pair) -> float:
    """In [-1, 1]; a monotone has none of the reference's melody: 0."""
    made, reference = _voiced(pair)
    if reference.std() < MONOTONE:
        raise UnjudgeableError("the reference's pitch does not change")
    return float(np.corrcoef(made, reference)[0, 1]) if made.std() >= MONOTONE else 0.0


def voicing_error(pair: Pair) -> float:
    """In [0, 1]."""
    made, reference = pair
    return float(np.mean((made.f0 > 0) != (reference.f0 > 0)))


MEASURES: Mapping[str, Callable[[Pair], float]] = {
    "f0-rmse": f0_rmse,
    "f0-cents": f0_cents,
    "f0-corr": f0_correlation,
    "voicing": voicing_error,
}


def _voiced(pair: Pair) -> tuple[Array, Array]:
    """Pitch of both sides, Hz, where both are voiced."""
    made, reference = pair[0].f0, pair[1].f0
    both = (made > 0) & (reference > 0)
    if both.sum() < FEWEST:
        raise UnjudgeableError(f"fewer than {FEWEST} frames of 5 ms are voiced in it and in the reference")
    return made[both], reference[both]


def _root_mean_square(values: Array) -> float:
    return float(np.sqrt(np.mean(np.square(values))))
