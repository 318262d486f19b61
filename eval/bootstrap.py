"""Percentile bootstrap intervals, items resampled with replacement (Efron 1979; for WER: Bisani and Ney 2004)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 1000
LEVEL = 0.95
_DRAWS = 1_000_000
"""Draws held in memory at once."""


@dataclass(frozen=True)
class Interval:
    """A statistic and its interval; all NaN if there is nothing to measure.

    A single item resampled is always itself: its interval has no width and says nothing.
    """

    value: float
    low: float
    high: float


NOTHING = Interval(math.nan, math.nan, math.nan)


def mean_interval(
    values: Sequence[float], *, resamples: int = RESAMPLES, level: float = LEVEL, seed: int = 0
) -> Interval:
    """The mean of some values.

    Args:
        values: one per item.
        resamples: bootstrap samples.
        level: probability inside the interval.
        seed: of the resampling; the same seed gives the same interval.
    """
    return ratio_interval(values, [1.0] * len(values), resamples=resamples, level=level, seed=seed)


def ratio_interval(
    numerators: Sequence[float],
    denominators: Sequence[float],
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Interval:
    """A ratio of sums, such as errors over words; numerator and denominator of an item are drawn together.

    Args:
        numerators: one per item.
        denominators: one per item, positive.
        resamples: bootstrap samples.
        level: probability inside the interval.
        seed: of the resampling.

    Raises:
        ValueError: lengths differ, or a denominator is not positive.
    """
    if len(numerators) != len(denominators) or any(not d > 0 for d in denominators):
        raise ValueError("a ratio of sums needs one positive denominator per numerator")
    if not 0 < level < 1 or resamples < 1:
        raise ValueError("a bootstrap needs resamples >= 1 and a level inside (0, 1)")
    if not numerators:
        return NOTHING
    over = np.asarray(numerators, dtype=np.float64)
    under = np.asarray(denominators, dtype=np.float64)
    rng = np.random.default_rng(seed)
    drawn = []
    at_once = max(1, _DRAWS // len(over))
    for done in range(0, resamples, at_once):
        chosen = rng.integers(0, len(over), (min(at_once, resamples - done), len(over)))
        drawn.append(over[chosen].sum(1) / under[chosen].sum(1))
    low, high = np.quantile(np.concatenate(drawn), [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(over.sum() / under.sum()), float(low), float(high))
